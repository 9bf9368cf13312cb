"""Play a case's tables into a real vLLM engine and keep what every request saw.

    python -m vsim.hwbackend.servers.play CASE RESULTS.jsonl.gz
        [--tables NAME,NAME] [--until SECONDS_SINCE_EPOCH] [--clock FOLDER]

Runs on the machine with the GPU. vLLM's front end, `AsyncLLM`, runs in this process with the
settings of a server (`vllm serve`), its engine in another; there is no HTTP and no tokenizer. Each
play becomes one line of JSON as soon as it ends. Answers have the length that the table says
(`ignore_eos`). vLLM logs to the standard output, where a line marks where each play starts.
"""

import argparse
import asyncio
import datetime
import gzip
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vsim.hwbackend.servers.cases import CASES, MODELS, Case, Play, engine_arguments
from vsim.hwbackend.servers.client import play_rows, result_rows
from vsim.hwbackend.servers.settings import settings, versions
from vsim.hwbackend.servers.tables import tables

ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # FlashInfer is not carried
    # NVLink multicast stays off: not every machine with several GPUs allows it.
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_USE_NCCL_SYMM_MEM": "0",
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
SETTLE_S: Final = 0.5


class Session:
    """One engine and its recorders, which change as it plays; results are appended to a file."""

    def __init__(
        self,
        name: str,
        results: Path,
        until_s: float,
        only: Sequence[str] | None = None,
        clock: Path | None = None,
    ) -> None:
        self.name = name
        self.only = only
        self.clock = clock
        self.case: Case = CASES[name]
        self.results = results
        self.until_s = until_s
        self.drawn = "dummy"

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one result."""
        with gzip.open(self.results, "at", compresslevel=3) as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

    async def run(self) -> None:
        """Start the engine, warm it, play everything and stop it."""
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        from vsim.hwbackend.servers.observe import GpuSampler, RequestWatch, StepLog
        from vsim.hwbackend.servers.worker import extension_name

        self.parameters = lambda count: SamplingParams(
            max_tokens=count,
            ignore_eos=True,
            temperature=1.0,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self.watch = RequestWatch()
        self.watch.install()
        self.log = StepLog(self.watch)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as model:
            shape = json.dumps(dict(MODELS[self.case.model]))
            (Path(model) / "config.json").write_text(shape)
            arguments = AsyncEngineArgs(
                model=model, worker_extension_cls=extension_name(), **engine_arguments(self.case)
            )
            self.engine = AsyncLLM.from_engine_args(
                arguments,
                usage_context=UsageContext.OPENAI_API_SERVER,
                stat_loggers=[self.log.logger()],
            )
            try:
                up_s = time.monotonic() - started
                print(f"=== {self.name} up in {up_s:.1f} s", flush=True)
                self.gpu = GpuSampler(int(self.case.engine.get("tensor_parallel_size", 1)))
                self.gpu.start()
                self.write(
                    {
                        "kind": "engine",
                        "case": self.name,
                        "up_s": up_s,
                        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
                        "versions": versions(),
                        "machine": self.gpu.machine(),
                        "settings": settings(self.engine.vllm_config),
                    }
                )
                await self._play_all()
            finally:
                self.engine.shutdown()

    async def _play_all(self) -> None:
        plays = self.case.plays
        if self.only is not None:
            plays = tuple(p for p in plays if p.table in self.only and p.drawn == "normal")
        for play in (Play("warm", 1), *plays):
            for repeat in range(play.repeats):
                if time.time() > self.until_s:
                    print(f"=== {self.name} out of time before {play.table}", flush=True)
                    return
                if play.drawn != self.drawn:
                    counts = await self.engine.collective_rpc("draw_weights", args=(play.drawn,))
                    self.drawn = play.drawn
                    print(f"=== {self.name} drew {play.drawn} weights: {counts}", flush=True)
                await self._play(play, repeat)
            if self.case.routing and play.table == "burst":
                await self._count_experts(play)
        if self.case.traced and (self.only is None or "traced" in self.only):
            await self._trace_kernels()

    async def _reset(self) -> None:
        connected = "kv_offloading_size" in self.case.engine
        for _ in range(20):
            if await self.engine.reset_prefix_cache(reset_connector=connected):
                return
            await asyncio.sleep(SETTLE_S / 2)
        print(f"=== {self.name} cache not reset", flush=True)

    async def _play(self, play: Play, repeat: int) -> None:
        from vsim.hwbackend.servers.observe import cache_files

        await self._reset()
        await asyncio.sleep(SETTLE_S)
        for recorder in (self.watch, self.log, self.gpu):
            recorder.take()
        rows = tables()[play.table]
        name = f"{play.table}.{play.drawn}.{repeat}"
        caches = (Path(os.environ["TRITON_CACHE_DIR"]), Path(os.environ["VLLM_CACHE_ROOT"]))
        files = cache_files(*caches)
        print(f"=== {self.name} plays {name}", flush=True)
        seed = (zlib.crc32(play.table.encode()), repeat)
        if self.clock is not None:
            await self.engine.collective_rpc("start_clock")
        start_ns, answers = await play_rows(self.engine, self.parameters, rows, name, seed)
        end_ns = time.monotonic_ns()
        await asyncio.sleep(SETTLE_S)
        if self.clock is not None:
            kept = str(self.clock / f"{self.name}.{name}.clock.json.gz")
            await self.engine.collective_rpc("stop_clock", args=(kept,))
        requests = result_rows(rows, answers, self.watch.take(), name, start_ns)
        self.write(
            {
                "kind": "play",
                "case": self.name,
                "table": play.table,
                "drawn": play.drawn,
                "repeat": repeat,
                "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
                "start_ns": start_ns,
                "compiled_files": cache_files(*caches) - files,
                "requests": requests,
                "statistics": self.log.take(),
                "gpu": self.gpu.take(),
            }
        )
        first = sorted(a.times_ns[0] - a.sent_ns for a in answers)
        gaps = sorted(
            (a.times_ns[-1] - a.times_ns[0]) / max(1, len(a.times_ns) - 1) for a in answers
        )
        half = len(answers) // 2
        print(
            f"=== {self.name} played {name}: n {len(rows)} in {(end_ns - start_ns) / 1e9:.2f} s, "
            f"TTFT p50 {first[half] / 1e6:.1f} max {first[-1] / 1e6:.1f} ms, "
            f"TPOT p50 {gaps[half] / 1e6:.2f} ms, cached {sum(a.cached or 0 for a in answers)}, "
            f"preempted {sum(len(r['preempted_ns']) for r in requests)}",
            flush=True,
        )

    async def _count_experts(self, play: Play) -> None:
        layers = await self.engine.collective_rpc("count_experts")
        rows = tables()["burst"]
        await self._reset()
        await play_rows(self.engine, self.parameters, rows, f"experts.{play.drawn}", (7,))
        chosen = await self.engine.collective_rpc("chosen_experts")
        self.watch.take()
        self.write({"kind": "experts", "case": self.name, "drawn": play.drawn, "chosen": chosen[0]})
        print(f"=== {self.name} counted experts in {layers} layers, {play.drawn}", flush=True)

    async def _trace_kernels(self) -> None:
        """Play a few steps of each kind while kernels are traced, which slows the host down."""
        rows = tables()["traced"]
        await self._reset()
        await self.engine.collective_rpc("start_trace")
        await asyncio.sleep(SETTLE_S)
        start_ns, answers = await play_rows(self.engine, self.parameters, rows, "traced", (8,))
        events = await self.engine.collective_rpc("stop_trace")
        requests = result_rows(rows, answers, self.watch.take(), "traced", start_ns)
        self.log.take()
        self.write({"kind": "trace", "case": self.name, "requests": requests, "events": events[0]})
        print(f"=== {self.name} traced {len(events[0]['start'])} events", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Play tables into a real vLLM engine.")
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("results", type=Path, help="gzipped JSON lines, appended to")
    parser.add_argument("--until", type=float, default=float("inf"), help="start no play after")
    parser.add_argument(
        "--clock", type=Path, help="folder: keep what the engine's thread does there; one GPU"
    )
    parser.add_argument("--tables", help="only these, comma-separated, with drawn weights")
    options = parser.parse_args()
    if options.clock is not None and CASES[options.case].engine.get("tensor_parallel_size", 1) > 1:
        parser.error("--clock does nothing with several GPUs: workers are other processes")
    os.environ.update(ENVIRONMENT)  # vLLM reads it when it is imported, hence the late imports
    for name in ("TRITON_CACHE_DIR", "VLLM_CACHE_ROOT"):
        os.environ.setdefault(name, str(Path(tempfile.gettempdir()) / name.lower()))
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text stream
    import uvloop  # the server's event loop; vLLM brings it

    only = None if options.tables is None else options.tables.split(",")
    session = Session(options.case, options.results, options.until, only, options.clock)
    uvloop.run(session.run())


if __name__ == "__main__":
    main()
