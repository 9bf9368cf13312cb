"""Source: what is to be replayed, as a predicted plan, and the server that it is of."""

from collections.abc import Callable
from dataclasses import dataclass

from vsim.hwbackend.replay.plan import Plan
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.state import State
from vsim.sim.simulation import Server
from vsim.traces.requests import Requests


@dataclass(frozen=True, slots=True, eq=False)
class LiveServer:
    """A server whose engine can decide again.

    Args:
        server: its scenario, machine and model.
        requests: what arrives.
        simulated: what the simulated run gave.
        state: makes the engine's arrays anew.
    """

    server: Server
    requests: Requests
    simulated: EngineResult
    state: Callable[[], State]


@dataclass(frozen=True, slots=True)
class Selected:
    """How pages of recorded attention are numbered: column = (layer · requests + request) · heads
    + head, where `heads` is 1 if a page holds those of all KV heads.

    Args:
        layers: of the model.
        requests: that decode side by side.
        heads: columns of a layer and request.
        longest: tokens of the longest context.
    """

    layers: int
    requests: int
    heads: int
    longest: int


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What is to be replayed.

    Args:
        name: of the scenario.
        file: what the user named.
        kind: `requests`, `attention` or `operations`.
        machine: the machine of the prediction, by name.
        model: the model, by name.
        weight_bytes: of the model, as the server holds it.
        precision: of its weights and of its KV.
        gpus: over which it is spread.
        movement: how a page changes tier: `paged` or `mapped`.
        plan: the predicted operations.
        live: what a live replay needs; None where nothing is decided by time.
        server: scenario, machine and model; None for a log.
        selected: of recorded attention.
        notes: what was left out or assumed, a line each.
    """

    name: str
    file: str
    kind: str
    machine: str
    model: str
    weight_bytes: int
    precision: tuple[str, str]
    gpus: int
    movement: str
    plan: Plan
    live: LiveServer | None
    server: Server | None
    notes: tuple[str, ...]
    selected: Selected | None = None
