"""A server's memories and links without its requests: copies, and at most one step."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vsim.sim.engine.backend import Operation
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State
from vsim.sim.machine.machine import Machine

from .conftest import make_requests, make_state
from .round_machine import COST, round_machine

TIERS = ("hbm", "host", "nvme", "lpddr")


@dataclass(frozen=True, slots=True)
class Copy:
    """So many bytes from one tier to another, started at a time."""

    size_bytes: int
    source: str = "host"
    target: str = "hbm"
    start_ns: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A step at time 0, of one token, whose attention reads so many bytes of each tier."""

    hbm: int = 0
    host: int = 0
    lpddr: int = 0


def server(machine: Machine | None = None, **cost: Any) -> State:
    """A server with nothing to do. Every tier but NVMe can be attended in place.

    A token of context is a byte, so that attention can be told what to read. Nothing else of a step
    takes time but what `cost` says.
    """
    found = machine or round_machine()
    tiers: list[dict[str, Any]] = [{"tier": tier, "capacity": "1MB"} for tier in TIERS]
    for tier in tiers[1:]:
        tier["access"] = "promote" if tier["tier"] == "nvme" else "in_place"
    attention_alone = {
        "launch_ns": 0.0,
        "flops_per_token": 0.0,
        "weight_read_bytes": 0.0,
        "kv_read_bytes_per_token": 1.0,
        "kv_write_bytes_per_token": 0.0,
        "hbm_read_bytes_per_s": float(found.hbm.read.value),
        "hbm_write_bytes_per_s": float(found.hbm.write.value),
    }
    return make_state(
        make_requests([0], [1], [1]),
        tiers,
        found,
        cost=replace(COST, **(attention_alone | cost)),
        page_tokens=10,
    )


def ends(state: State, *copies: Copy, step: Step | None = None) -> list[int]:
    """When each copy arrives, in the order given; a step's end behind them."""
    backend = SimulatedBackend(state)
    starts = sorted({copy.start_ns for copy in copies} | {0})
    for number, start in enumerate(starts):
        backend.submit(Operation("timer", number, at_ns=start))
    found: dict[int, int] = {}
    while (done := backend.wait()) is not None:
        if done.kind == "timer":
            for serial, copy in enumerate(copies):
                if copy.start_ns == done.at_ns:
                    backend.submit(_operation(serial, copy))
            if step is not None and done.at_ns == 0:
                _set_up(state, step)
                backend.submit(Operation("step", len(copies)))
            continue
        found |= dict.fromkeys(done.serials, done.at_ns)
        state.control["done"] = 0
        if done.kind == "step":
            state.control["in_flight"] = 0
    return [found[serial] for serial in range(len(copies) + (step is not None))]


def _operation(serial: int, copy: Copy) -> Operation:
    slot = np.array([serial])
    return Operation(
        "copy",
        serial,
        source_tier=TIERS.index(copy.source),
        target_tier=TIERS.index(copy.target),
        sources=slot,
        targets=slot,
        size_bytes=copy.size_bytes,
    )


def _set_up(state: State, step: Step) -> None:
    """Let the next step decode one token over just this: the sums that `sum_step` would make."""
    control, below = state.control, step.host + step.lpddr
    control["step_tokens"] = control["decodes"] = 1
    control["step_context"] = control["decode_context"] = step.hbm + below
    control["decode_lower"] = below
    for tier, size in (("host", step.host), ("lpddr", step.lpddr)):
        state.arrays["t"]["attend_tokens"][TIERS.index(tier)] = size
