"""MeasuredRun: a run of a real server as values: what was sent, and what each request saw."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vsim.sim.fidelity.settings import ServerSettings
from vsim.traces.requests import Requests

Int64s = NDArray[np.int64]
Origin = Literal["recorded", "public"]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """One play of the requests: n of them in order of arrival, ties as the engine queued them.

    -1 stands for what was not measured.

    Args:
        requests: what was sent, with the arrivals that this repeat had.
        scheduled_ns: int64[n], when a step first held each.
        first_token_ns: int64[n], its first token at the client.
        last_token_ns: int64[n], its last token at the client.
        gpu_hit_tokens: int64[n], prompt tokens found in HBM when first admitted.
        host_hit_tokens: int64[n], prompt tokens loaded from the host when first admitted.
        preemptions: int64[n], how often each was preempted.
        gaps_ms: mean, p50, p90 and p99 of the gaps between tokens, those that are known.
        steps: steps of the engine, None where they were not counted.
    """

    requests: Requests
    scheduled_ns: Int64s
    first_token_ns: Int64s
    last_token_ns: Int64s
    gpu_hit_tokens: Int64s
    host_hit_tokens: Int64s
    preemptions: Int64s
    gaps_ms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    steps: int | None = None

    def __len__(self) -> int:
        return len(self.requests)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredRun:
    """A run of a real server.

    Args:
        name: what the run is called.
        file: where it was read from.
        origin: `recorded` by this project, or `public`.
        engine: the server's name, such as vLLM.
        version: the engine's version; empty where it is not known.
        gpu: the GPU as its driver or its owner calls it.
        gpus: how many served.
        model: the model's name.
        model_shape: its Hugging Face config, or None: a model of the catalogue is meant.
        workload: what was sent, in a word; empty where it is not known.
        settings: what the server was started with.
        repeats: one or several plays.
        counters: what the server counted over all of them, where that is all there is.
        drawn_weights: whether the weights were drawn, and not trained.
    """

    name: str
    file: str
    origin: Origin
    engine: str
    version: str
    gpu: str
    gpus: int
    model: str
    model_shape: Mapping[str, Any] | None
    workload: str
    settings: ServerSettings
    repeats: tuple[Repeat, ...]
    counters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    drawn_weights: bool = False


@dataclass(frozen=True, slots=True)
class MeasuredThroughput:
    """The most that a server gave with all requests queued at once.

    Args:
        name: what the figure is called.
        file: where it was read from.
        engine: the server's name.
        gpu: the GPU as its owner calls it.
        gpus: how many served, as one server.
        model: the model's name.
        prompt_tokens: of each request.
        output_tokens: of each request.
        output_tokens_per_s: what was measured.
        settings: what the server was started with.
    """

    name: str
    file: str
    engine: str
    gpu: str
    gpus: int
    model: str
    prompt_tokens: int
    output_tokens: int
    output_tokens_per_s: float
    settings: ServerSettings
