"""Facts: what one of vLLM's files says of a server, in the names of its own settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """One request of a benchmark, times in seconds on one clock.

    Args:
        start_s: when it was sent.
        first_s: when its first token came.
        last_s: when its last token came.
        prompt_tokens: length of its prompt.
        output_tokens: tokens generated.
    """

    start_s: float
    first_s: float
    last_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a benchmark saw.

    Args:
        requests: those that succeeded, in the order of the benchmark's data set.
        gaps_s: every gap between tokens.
    """

    requests: tuple[BenchmarkRequest, ...]
    gaps_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says.

    Args:
        file: its name.
        kind: which of vLLM's files it is.
        settings: by vLLM's names: `max_num_seqs`, `block_size`; as they would be in Python.
        version: vLLM's; empty where it does not say.
        counters: what was counted over the whole run, by name.
        benchmark: requests one by one, or None.
        notes: what was left out, a sentence each.
    """

    file: str
    kind: Literal["log", "metrics", "benchmark"]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    version: str = ""
    counters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    benchmark: Benchmark | None = None
    notes: tuple[str, ...] = ()
