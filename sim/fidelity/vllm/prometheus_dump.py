"""What `/metrics` of a vLLM server says, in Prometheus' text form; names of vLLM 0.10 to 0.25.

Counters and histograms are added up over their labels (engines, reasons of an end). A client
library writes a counter's name with `_total` behind it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vsim.sim.fidelity.vllm.facts import Facts
from vsim.traces.faults import Fault, InputError, refuse

_SAMPLE: Final = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
CACHE: Final = "vllm:cache_config_info"
_COUNTERS: Final[Mapping[str, str]] = {
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:request_success_total": "requests",
    "vllm:prefix_cache_queries_total": "gpu_prefix_queries_tokens",
    "vllm:prefix_cache_hits_total": "gpu_prefix_hits_tokens",
    "vllm:external_prefix_cache_queries_total": "external_prefix_queries_tokens",
    "vllm:external_prefix_cache_hits_total": "external_prefix_hits_tokens",
    "vllm:kv_offload_load_bytes_total": "kv_offload_load_bytes",
    "vllm:kv_offload_store_bytes_total": "kv_offload_store_bytes",
    "vllm:iteration_tokens_total_count": "steps",
}
_OLDER: Final[Mapping[str, str]] = {
    "vllm:gpu_prefix_cache_queries_total": "gpu_prefix_queries_tokens",
    "vllm:gpu_prefix_cache_hits_total": "gpu_prefix_hits_tokens",
}
_HISTOGRAMS: Final[Mapping[str, str]] = {
    "vllm:time_to_first_token_seconds": "ttft",
    "vllm:inter_token_latency_seconds": "itl",
    "vllm:request_time_per_output_token_seconds": "tpot",
    "vllm:e2e_request_latency_seconds": "e2e",
    "vllm:request_queue_time_seconds": "queue",
    "vllm:request_prefill_time_seconds": "prefill",
    "vllm:request_decode_time_seconds": "decode",
}
_OLDER_HISTOGRAMS: Final[Mapping[str, str]] = {"vllm:time_per_output_token_seconds": "itl"}
_INFO: Final = (
    "block_size", "num_gpu_blocks", "gpu_memory_utilization", "cache_dtype",
    "enable_prefix_caching", "num_gpu_blocks_override", "kv_offloading_size",
)  # fmt: skip


def is_metrics(head: str) -> bool:
    """Say whether a text starts as vLLM's metrics do."""
    return re.search(r"^(# (HELP|TYPE) )?vllm:\w+", head, re.MULTILINE) is not None


def read_metrics(lines: Iterable[str], file: str) -> Facts:
    """Read a dump of metrics.

    Raises:
        InputError: naming each line that is none, or where it holds nothing of vLLM's.
    """
    sums: dict[str, float] = {}
    settings: dict[str, Any] = {}
    faults: list[Fault] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        sample = _SAMPLE.match(text)
        value = None if sample is None else _number(sample["value"])
        if sample is None or value is None:
            if text.startswith("vllm:"):
                faults.append(Fault(file, 'is no sample; write `name{label="x"} 1.0`', line=number))
            continue
        name, labels = sample["name"], dict(_LABEL.findall(sample["labels"] or ""))
        if name == CACHE:
            settings = {k: _setting(labels[k]) for k in _INFO if labels.get(k)} | settings
        elif name.startswith("vllm:"):
            if "model_name" in labels:
                settings.setdefault("model", labels["model_name"])
            sums[name] = sums.get(name, 0.0) + value
    if faults:
        raise InputError(faults)
    counters = _counters(sums)
    if not counters and not settings:
        refuse(file, "holds no metric of vLLM that says anything of a run; save /metrics again")
    if "cache_dtype" in settings:
        settings["kv_cache_dtype"] = settings.pop("cache_dtype")
    known = {k: v for k, v in settings.items() if v is not None}
    return Facts(file, "metrics", known, "", counters)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _setting(text: str) -> Any:
    """Labels are texts: `16`, `0.92`, `True`, `None`."""
    words = {"None": None, "null": None, "True": True, "False": False}
    if text in words:
        return words[text]
    if re.fullmatch(r"\d{1,15}", text):
        return int(text)
    number = _number(text)
    return text if number is None else number


def _counters(sums: Mapping[str, float]) -> dict[str, float]:
    found = {ours: sums[name] for name, ours in _COUNTERS.items() if name in sums}
    for name, ours in _OLDER.items():
        if name in sums:
            found.setdefault(ours, sums[name])
    for histograms in (_HISTOGRAMS, _OLDER_HISTOGRAMS):
        for name, ours in histograms.items():
            if f"{ours}_count" not in found and f"{name}_count" in sums:
                found[f"{ours}_count"] = sums[f"{name}_count"]
                found[f"{ours}_sum_s"] = sums.get(f"{name}_sum", 0.0)
    return found


def between(first: Facts, second: Facts) -> Facts:
    """Return what happened between two dumps of one server.

    Raises:
        InputError: a counter fell, so that they are in the wrong order or of two starts.
    """
    changed = {
        name: value - first.counters.get(name, 0.0) for name, value in second.counters.items()
    }
    for name, value in changed.items():
        if value < 0:
            message = (
                f"has less {name} than {first.file}, which was named before it; name the earlier "
                "one first, both of one start of the server"
            )
            refuse(second.file, message)
    return Facts(second.file, "metrics", {**first.settings, **second.settings}, "", changed)
