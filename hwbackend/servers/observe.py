"""What is read while a table plays: vLLM's own statistics, the GPU's clocks and power.

The recorders change while a table plays; one of each lives as long as its engine. All times are on
CLOCK_MONOTONIC, which vLLM's engine process and Python's `time.monotonic_ns` share on Linux.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pynvml
from vllm.v1.engine import EngineCoreEventType
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats

SAMPLE_S: Final = 0.25


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class RequestWatch:
    """What vLLM says of each request, by the id that it has inside the engine."""

    def __init__(self) -> None:
        self.by_id = self._empty()
        self.engine_ns = 0

    @staticmethod
    def _empty() -> dict[str, dict[str, Any]]:
        return defaultdict(
            lambda: {"queued": [], "scheduled": [], "preempted": [], "prefill": None, "engine": []}
        )

    def install(self) -> None:
        """See every output of the engine before vLLM condenses it into sums."""
        original = IterationStats.update_from_output
        watch = self

        def update(
            stats: Any, output: Any, engine_core_timestamp: float, *rest: Any, **named: Any
        ) -> None:
            watch.see(output, engine_core_timestamp)
            original(stats, output, engine_core_timestamp, *rest, **named)

        IterationStats.update_from_output = update

    def see(self, output: Any, timestamp: float) -> None:
        """Take in one request's part of one step's output."""
        seen = self.by_id[output.request_id]
        self.engine_ns = _ns(timestamp)
        names = {
            EngineCoreEventType.QUEUED: "queued",
            EngineCoreEventType.SCHEDULED: "scheduled",
            EngineCoreEventType.PREEMPTED: "preempted",
        }
        for event in output.events or ():
            seen[names[event.type]].append(_ns(event.timestamp))
        if output.prefill_stats is not None and seen["prefill"] is None:
            stats = output.prefill_stats
            seen["prefill"] = [
                stats.num_prompt_tokens,
                stats.num_local_cached_tokens,
                stats.num_external_cached_tokens,
            ]
        if output.new_token_ids:
            seen["engine"].append(_ns(timestamp))

    def take(self) -> dict[str, dict[str, Any]]:
        """Return what was seen since the last call."""
        taken, self.by_id = dict(self.by_id), self._empty()
        return taken


class StepLog:
    """vLLM's statistics of each step, and their sums."""

    COLUMNS: Final = (
        "engine_ns",
        "seen_ns",
        "running",
        "waiting",
        "skipped",
        "kv_usage",
        "prompt_tokens",
        "generated_tokens",
        "preempted",
    )

    def __init__(self, watch: RequestWatch) -> None:
        self._watch = watch
        self._clear()

    def _clear(self) -> None:
        self.steps: list[tuple[float, ...]] = []
        self.sums: dict[str, float] = defaultdict(float)
        self.lists: dict[str, list[float]] = defaultdict(list)
        self.peaks: dict[str, float] = defaultdict(float)

    def logger(self) -> Callable[..., StatLoggerBase]:
        """Make the factory that vLLM is given as one of its `stat_loggers`."""
        log = self

        class Logger(StatLoggerBase):  # type: ignore[misc]  # vLLM has no types here
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
                pass

            def record(
                self,
                scheduler_stats: Any,
                iteration_stats: Any,
                mm_cache_stats: Any = None,
                engine_idx: int = 0,
            ) -> None:
                log.add(scheduler_stats, iteration_stats)

            def log_engine_initialized(self) -> None:
                pass

        return Logger

    def add(self, scheduler: Any, iteration: Any) -> None:
        """Take in what vLLM's loggers are told of one step."""
        if iteration is not None:
            self.sums["preemptions"] += iteration.num_preempted_reqs
        if scheduler is None:
            return
        self.steps.append(
            (
                self._watch.engine_ns if iteration is not None else 0,
                time.monotonic_ns(),
                scheduler.num_running_reqs,
                scheduler.num_waiting_reqs,
                scheduler.num_skipped_waiting_reqs,
                round(scheduler.kv_cache_usage, 6),
                iteration.num_prompt_tokens if iteration is not None else 0,
                iteration.num_generation_tokens if iteration is not None else 0,
                iteration.num_preempted_reqs if iteration is not None else 0,
            )
        )
        for name, stats in (
            ("gpu_prefix", scheduler.prefix_cache_stats),
            ("external_prefix", scheduler.connector_prefix_cache_stats),
        ):
            if stats is not None:
                self.sums[f"{name}_queries_tokens"] += stats.queries
                self.sums[f"{name}_hits_tokens"] += stats.hits
                self.sums[f"{name}_preempted_queries_tokens"] += stats.preempted_queries
                self.sums[f"{name}_preempted_hits_tokens"] += stats.preempted_hits
        self._add_connector(scheduler.kv_connector_stats or {})

    def _add_connector(self, stats: dict[str, Any]) -> None:
        kinds = stats.get("types", {})
        for name, by_label in stats.get("data", {}).items():
            for label, value in by_label.items():
                key = ":".join((name, *label))
                if kinds.get(name) == "histogram":
                    self.lists[key].extend(value)
                elif kinds.get(name) == "counter":
                    self.sums[key] += value
                else:  # a gauge: its highest reading
                    self.peaks[key] = max(value, self.peaks[key])

    def take(self) -> dict[str, Any]:
        """Return what was logged since the last call."""
        taken = {
            "steps": self.steps,
            "sums": dict(self.sums),
            "lists": dict(self.lists),
            "peaks": dict(self.peaks),
        }
        self._clear()
        return taken


class GpuSampler(threading.Thread):
    """Clocks, power and throttling of all GPUs in use, four times a second."""

    def __init__(self, gpus: int) -> None:
        super().__init__(daemon=True)
        pynvml.nvmlInit()
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(gpus)]
        self._samples: list[list[int]] = []
        self._energy = self._energies()

    def _energies(self) -> list[int]:
        return [pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for h in self._handles]

    def run(self) -> None:
        """Sample until the process ends."""
        while True:
            for index, handle in enumerate(self._handles):
                self._samples.append(
                    [
                        time.monotonic_ns(),
                        index,
                        pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
                        pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
                        pynvml.nvmlDeviceGetPowerUsage(handle),
                        pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
                        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
                    ]
                )
            time.sleep(SAMPLE_S)

    def take(self) -> dict[str, Any]:
        """Return samples and millijoules since the last call."""
        now = self._energies()
        taken = {
            "columns": ["ns", "gpu", "sm_mhz", "memory_mhz", "mw", "celsius", "throttle"],
            "samples": self._samples,
            "millijoules": [b - a for a, b in zip(self._energy, now, strict=True)],
        }
        self._samples, self._energy = [], now
        return taken

    def machine(self) -> dict[str, Any]:
        """Return names, memory and the driver's versions."""
        handle = self._handles[0]
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "gpu": pynvml.nvmlDeviceGetName(handle),
            "gpus": len(self._handles),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda_driver": pynvml.nvmlSystemGetCudaDriverVersion(),
            "memory_total_bytes": memory.total,
            "memory_used_bytes": memory.used,
            "power_limit_mw": pynvml.nvmlDeviceGetPowerManagementLimit(handle),
            "sm_max_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        }


def cache_files(*folders: Path) -> int:
    """Count the files of the compilers' caches: more of them means that something was compiled."""
    return sum(1 for folder in folders for path in folder.rglob("*") if path.is_file())
