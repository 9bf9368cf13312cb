"""ServerSettings: what a measured server was started with, as far as its file says it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vsim.sim.inputs.model_faults import show
from vsim.sim.machine.precision import Precision, WeightPrecision
from vsim.traces.faults import Fault, InputError

GIB: Final = 2**30
_UNKNOWN: Final = ("", "none", "null", "auto", "not recorded", "unknown")
_PRECISIONS: Final[Mapping[str, WeightPrecision]] = MappingProxyType(
    {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "bf16": "bf16", "fp16": "bf16",
     "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8": "int8", "int4": "int4"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server's settings; None where its file does not say.

    Args:
        tensor: GPUs that share each layer.
        pipeline: groups of layers.
        data: servers beside each other.
        expert_parallel: whether experts are spread over the data-parallel servers.
        token_budget: tokens of a step at most (`max_num_batched_tokens`).
        max_requests: requests of a step at most (`max_num_seqs`).
        block_tokens: tokens of a block.
        num_gpu_blocks: blocks of KV in HBM.
        weights: precision of the weights.
        kv: precision of the KV cache.
        host_bytes: room for KV on the host, over all ranks.
        unclear: what was found and can't be predicted, a sentence each, such as a quantisation.
        prefix_caching: whether finished prompts' blocks are reused.
        chunked_prefill: whether a prompt may be spread over steps.
        resolved: all that the engine resolved, in its own names, where that was recorded.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert_parallel: bool = False
    token_budget: int | None = None
    max_requests: int | None = None
    block_tokens: int | None = None
    num_gpu_blocks: int | None = None
    weights: WeightPrecision = "bf16"
    kv: Precision = "bf16"
    host_bytes: int | None = None
    unclear: tuple[str, ...] = ()
    prefix_caching: bool = True
    chunked_prefill: bool = True
    resolved: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class _Reader:
    """Values of a mapping, by name; collects the faults of those that are wrong."""

    def __init__(self, values: Mapping[str, Any], file: str) -> None:
        self.values = values
        self.file = file
        self.faults: list[Fault] = []
        self.unclear: list[str] = []

    def _wrong(self, name: str, message: str) -> None:
        self.faults.append(Fault(self.file, message, place=name))

    def _known(self, name: str) -> Any:
        value = self.values.get(name)
        if isinstance(value, str) and value.strip().lower() in _UNKNOWN:
            return None
        return value

    def count(self, name: str, least: int = 1) -> int | None:
        """A whole number, or None where it is not known."""
        value = self._known(name)
        if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value.strip()):
            value = int(value)
        if value is None:
            return None
        if type(value) is not int or not least <= value < 2**53:
            self._wrong(name, f"{show(value)} is no whole number from {least}")
            return None
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._known(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            value = value.strip().lower() == "true"
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(name, f"{show(value)} is not true or false")
            return default
        return value

    def number(self, name: str) -> float | None:
        """A number of 0 or more, or None where it is not known."""
        value = self._known(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = float(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
            self._wrong(name, f"{show(value)} is no number of 0 or more")
            return None
        return float(value)

    def precision(self, name: str) -> WeightPrecision | None:
        """A precision, or None where it is not known."""
        value = self._known(name)
        if value is None:
            return None
        found = _PRECISIONS.get(str(value).strip().lower().removeprefix("torch."))
        if found is None:
            self.unclear.append(f"{name} {str(value)[:40]!r} can't be predicted yet")
        return found

    def done(self) -> None:
        """Raise InputError with every fault found."""
        if self.faults:
            raise InputError(self.faults)


def settings_of_recording(resolved: Mapping[str, Any], file: str) -> ServerSettings:
    """Read `vsim.settings` of a recording: groups of vLLM's own names.

    Raises:
        InputError: with every value that is wrong.
    """
    flat: dict[str, Any] = {}
    for group in ("model", "parallel", "cache", "scheduler"):
        found = resolved.get(group)
        flat |= found if isinstance(found, Mapping) else {}
    return _settings(flat, file, resolved)


def settings_of_table(metadata: Mapping[str, Any], file: str) -> ServerSettings:
    """Read the settings in a table's metadata; the README lists the names.

    Raises:
        InputError: with every value that is wrong.
    """
    longer = {
        "tensor_parallel": "tensor_parallel_size",
        "pipeline_parallel": "pipeline_parallel_size",
        "data_parallel": "data_parallel_size",
        "expert_parallel": "enable_expert_parallel",
        "kv_cache_dtype": "cache_dtype",
        "prefix_caching": "enable_prefix_caching",
    }
    flat = {longer.get(name, name): value for name, value in metadata.items()}
    return _settings(flat, file, {})


def _settings(flat: Mapping[str, Any], file: str, resolved: Mapping[str, Any]) -> ServerSettings:
    read = _Reader(flat, file)
    quantised, dtype = read.precision("quantization"), read.precision("dtype")
    kv = read.precision("cache_dtype")
    offload_gib = read.number("kv_offloading_size")
    settings = ServerSettings(
        tensor=read.count("tensor_parallel_size") or 1,
        pipeline=read.count("pipeline_parallel_size") or 1,
        data=read.count("data_parallel_size") or 1,
        expert_parallel=read.flag("enable_expert_parallel", False),
        token_budget=read.count("max_num_batched_tokens"),
        max_requests=read.count("max_num_seqs"),
        block_tokens=read.count("block_size"),
        num_gpu_blocks=read.count("num_gpu_blocks"),
        weights=quantised or dtype or "bf16",
        kv=kv or "bf16",
        unclear=tuple(read.unclear),
        host_bytes=None if not offload_gib else round(offload_gib * GIB),
        prefix_caching=read.flag("enable_prefix_caching", True),
        chunked_prefill=read.flag("enable_chunked_prefill", True),
        resolved=MappingProxyType(dict(resolved)),
    )
    read.done()
    return settings
