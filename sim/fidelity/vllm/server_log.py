"""vLLM's log: its version, what it was started with, its KV cache, and its periodic statistics.

Lines are known by their text, whatever stands before it (dates, `(EngineCore_DP0 pid=7)`). As
written by vLLM 0.10 to 0.25: vllm/entrypoints, vllm/v1/engine/core.py, vllm/v1/core/kv_cache_utils,
vllm/v1/metrics/loggers.py.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vsim.sim.fidelity.vllm.facts import Facts
from vsim.traces.faults import refuse

_VERSIONS: Final = (
    re.compile(r"Initializing a V1 LLM engine \(v([^)\s]+)\)"),
    re.compile(r"vLLM API server version (\S+)"),
)
_ARGUMENTS: Final = re.compile(r"non-default args: (\{.*\})")
_CONFIG: Final = re.compile(r"Initializing a V1 LLM engine .* with config: (.*)")
_BUDGET: Final = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)")
_KV_TOKENS: Final = re.compile(r"GPU KV cache size: ([\d,]+) tokens")
_BLOCKS: Final = (
    re.compile(r"cache_config_info with initialization after num_gpu_blocks is: (\d+)"),
    # with 0 before, it is the trial run that measures CUDA graphs' memory
    re.compile(r"Overriding num_gpu_blocks=[1-9]\d* with num_gpu_blocks_override=(\d+)"),
)
_STATISTICS: Final = re.compile(
    r"Avg prompt throughput: [\d.]+ tokens/s, Avg generation throughput: [\d.]+ tokens/s, "
    r"Running: \d+ reqs, Waiting: \d+ reqs(?P<rest>.*)"
)
_PREEMPTIONS: Final = re.compile(r"Preemptions: (\d+)")
_HITS: Final = re.compile(r"(?<!External )Prefix cache hit rate: ([\d.]+)%")
_EXTERNAL_HITS: Final = re.compile(r"External prefix cache hit rate: ([\d.]+)%")
_MOST_DIGITS: Final = 15

# Settings that decide a prediction, as `non-default args` names them.
_KNOWN: Final = (
    "model", "dtype", "max_model_len", "tensor_parallel_size", "pipeline_parallel_size",
    "data_parallel_size", "enable_expert_parallel", "quantization", "kv_cache_dtype",
    "max_num_seqs", "max_num_batched_tokens", "block_size", "gpu_memory_utilization",
    "num_gpu_blocks_override", "kv_offloading_size", "enable_prefix_caching",
    "enable_chunked_prefill", "enforce_eager", "scheduling_policy", "async_scheduling",
)  # fmt: skip
# The same as the engine's configuration names them, where it differs.
_OF_CONFIG: Final = {
    "max_seq_len": "max_model_len",
    "chunked_prefill_enabled": "enable_chunked_prefill",
}
_IN_CONFIG: Final = (
    "model", "dtype", "max_seq_len", "tensor_parallel_size", "pipeline_parallel_size",
    "data_parallel_size", "quantization", "kv_cache_dtype", "enforce_eager",
    "enable_prefix_caching", "chunked_prefill_enabled", "enable_chunked_prefill",
)  # fmt: skip


def read_log(lines: Iterable[str], file: str) -> Facts:
    """Read a log.

    Of a server that was started several times, the last start counts, and what came after it.

    Raises:
        InputError: no line of it is one of vLLM's that says anything of the server.
    """
    settings: dict[str, Any] = {}
    counters: dict[str, float] = {}
    version, known = "", False
    kv_tokens: int | None = None
    for line in lines:
        found = _ARGUMENTS.search(line)
        if found is not None:
            # the server says this first when it starts
            settings, counters, kv_tokens = _arguments(found[1]), {}, None
            known = True
        for pattern in _VERSIONS:
            if (found := pattern.search(line)) is not None:
                version, known = found[1].rstrip("."), True
        if (found := _CONFIG.search(line)) is not None:
            settings = {**settings, **_config(found[1])}
        if (found := _BUDGET.search(line)) is not None:
            settings["max_num_batched_tokens"], known = _whole(found[1]), True
        if (found := _KV_TOKENS.search(line)) is not None:
            kv_tokens, known = _whole(found[1].replace(",", "")), True
        for pattern in _BLOCKS:
            if (found := pattern.search(line)) is not None:
                settings["num_gpu_blocks"], known = _whole(found[1]), True
        if (found := _STATISTICS.search(line)) is not None:
            _count(found["rest"], counters)
            known = True
    if not known:
        refuse(file, "holds no line that vLLM's server writes; name its log, metrics or benchmark")
    if "num_gpu_blocks" not in settings and settings.get("num_gpu_blocks_override"):
        settings["num_gpu_blocks"] = settings["num_gpu_blocks_override"]
    if "num_gpu_blocks" not in settings and kv_tokens is not None:
        size = settings.get("block_size")
        settings["num_gpu_blocks"] = kv_tokens // (size if type(size) is int and size > 0 else 16)
    return Facts(file, "log", settings, version, counters)


def _whole(digits: str) -> int:
    return int(digits[:_MOST_DIGITS])


def _arguments(text: str) -> dict[str, Any]:
    """Read `{'model': 'x', 'max_num_seqs': 32}`, which may hold values that are no literals."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pairs = re.findall(r"'(\w+)': (True|False|None|-?\d[\d.e+-]*|'[^']*')", text)
        found = {}
        for name, value in pairs:
            found.setdefault(name, _literal(value))
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in _KNOWN if found.get(name) is not None}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _config(text: str) -> dict[str, Any]:
    """Read `model='x', dtype=torch.bfloat16, max_seq_len=40960, …`."""
    values: dict[str, Any] = {}
    for name in _IN_CONFIG:
        found = re.search(rf"(?:^|[\s,]){name}=('[^']*'|[^,\s]+)", text)
        if found is not None:
            value = _literal(found[1])
            if value is not None:
                values[_OF_CONFIG.get(name, name)] = value
    return values


def _count(statistics: str, counters: dict[str, float]) -> None:
    """Take a line of statistics; preemptions are those since the last, hit rates the latest."""
    if (found := _PREEMPTIONS.search(statistics)) is not None:
        counters["preemptions"] = counters.get("preemptions", 0.0) + _whole(found[1])
    for name, pattern in (("gpu_hit_percent", _HITS), ("host_hit_percent", _EXTERNAL_HITS)):
        if (found := pattern.search(statistics)) is not None:
            counters[name] = float(found[1])


def settings_groups(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort settings into the groups that `vsim.settings` of a recording has."""
    groups: dict[str, dict[str, Any]] = {"scheduler": {}, "cache": {}, "parallel": {}, "model": {}}
    names = {
        "scheduler": ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill",
                      "async_scheduling", "scheduling_policy"),
        "cache": ("block_size", "gpu_memory_utilization", "num_gpu_blocks_override",
                  "num_gpu_blocks", "kv_offloading_size", "enable_prefix_caching",
                  "kv_cache_dtype"),
        "parallel": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size",
                     "enable_expert_parallel"),
        "model": ("dtype", "max_model_len", "quantization", "enforce_eager"),
    }  # fmt: skip
    renamed = {"kv_cache_dtype": "cache_dtype", "scheduling_policy": "policy"}
    for group, members in names.items():
        for name in members:
            if settings.get(name) is not None:
                groups[group][renamed.get(name, name)] = settings[name]
    return groups
