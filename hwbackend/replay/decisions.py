"""What an engine decided on the hardware's own times, beside what it decided in simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.replay.plan import Plan, Planned
from vsim.sim.engine.result import EngineResult


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of the engine.

    Args:
        plan: its operations, as they happened.
        result: what became of its requests.
    """

    plan: Plan
    result: EngineResult

    def steps(self) -> list[Planned]:
        """Its steps in order."""
        return [each for each in self.plan.operations if each.kind == "step"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of decision in both runs.

    Args:
        name: the kind.
        simulated, measured: how many there were, in `unit`.
        differing: at how many steps, or for how many requests, they differ.
        unit: what is counted.
        of: `steps` or `requests`.
    """

    name: str
    simulated: int
    measured: int
    differing: int
    unit: str
    of: str

    def as_json(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Decisions:
    """The comparison.

    Args:
        steps: in the simulated run, and in the measured one.
        alike: how many steps from the start have equal batches.
        kinds: each kind of decision.
        first: where the runs part and why, in words; None where they never do.
    """

    steps: tuple[int, int]
    alike: int
    kinds: tuple[Difference, ...]
    first: str | None

    def as_json(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {
            "simulated_steps": self.steps[0],
            "measured_steps": self.steps[1],
            "steps_alike": self.alike,
            "kinds": [kind.as_json() for kind in self.kinds],
            "first_difference": self.first,
        }


def compare_decisions(simulated: Run, measured: Run) -> Decisions:
    """Compare two runs of one scenario on one trace, step by step and request by request."""
    ours, theirs = simulated.steps(), measured.steps()
    alike = 0
    while alike < min(len(ours), len(theirs)) and _same(ours[alike], theirs[alike]):
        alike += 1
    parted = alike < max(len(ours), len(theirs))
    up, down = _copied(simulated.plan, up=True), _copied(measured.plan, up=True)
    kinds = (
        _by_step("admissions", _joined(ours), _joined(theirs), "requests"),
        _by_step("promotions", up, down, "pages"),
        _by_step(
            "write-backs", _copied(simulated.plan, up=False), _copied(measured.plan, up=False),
            "pages",
        ),
        _evictions(simulated.result, measured.result),
        _by_request("prefix hits", simulated, measured, lambda run: run.hit_tokens, "tokens"),
        _by_request("preemptions", simulated, measured, lambda run: run.preemptions, "times"),
    )  # fmt: skip
    first = _explained(simulated, measured, alike) if parted else None
    return Decisions((len(ours), len(theirs)), alike, kinds, first)


def _same(one: Planned, other: Planned) -> bool:
    a, b = one.operation.batch, other.operation.batch
    assert a is not None
    assert b is not None
    return (
        np.array_equal(a.rows, b.rows)
        and np.array_equal(a.new_tokens, b.new_tokens)
        and np.array_equal(a.context_tokens, b.context_tokens)
    )


def _rows(step: Planned) -> list[int]:
    assert step.operation.batch is not None
    found: list[int] = step.operation.batch.rows.tolist()
    return found


def _joined(steps: Sequence[Planned]) -> dict[int, Any]:
    """Requests that are in a batch and were not in the one before."""
    found = {}
    before: set[int] = set()
    for number, step in enumerate(steps):
        rows = _rows(step)
        if joined := [row for row in rows if row not in before]:
            found[number] = joined
        before = set(rows)
    return found


def _copied(plan: Plan, *, up: bool) -> dict[int, Any]:
    """Pages copied towards the GPU, or away from it, by the step that called for them."""
    found: dict[int, list[int]] = {}
    for each in plan.operations:
        operation = each.operation
        if operation.kind == "copy" and (operation.source_tier > operation.target_tier) == up:
            way = [operation.source_tier, operation.target_tier]
            found.setdefault(each.step, []).extend(way * len(operation.sources))
    return {step: ways[::2] for step, ways in found.items()}


def _by_step(name: str, ours: dict[int, Any], theirs: dict[int, Any], unit: str) -> Difference:
    steps = ours.keys() | theirs.keys()
    return Difference(
        name,
        sum(len(each) for each in ours.values()),
        sum(len(each) for each in theirs.values()),
        sum(ours.get(step) != theirs.get(step) for step in steps),
        unit,
        "steps",
    )


def _by_request(
    name: str,
    simulated: Run,
    measured: Run,
    of: Callable[[EngineResult], NDArray[np.integer]],
    unit: str,
) -> Difference:
    ours, theirs = of(simulated.result), of(measured.result)
    return Difference(
        name, int(ours.sum()), int(theirs.sum()), int((ours != theirs).sum()), unit, "requests"
    )


def _evictions(ours: EngineResult, theirs: EngineResult) -> Difference:
    one = [tier.evicted_pages for tier in ours.tiers]
    other = [tier.evicted_pages for tier in theirs.tiers]
    differing = sum(a != b for a, b in zip(one, other, strict=True))
    return Difference("evictions", sum(one), sum(other), differing, "pages", "tiers")


def _explained(simulated: Run, measured: Run, step: int) -> str:
    """Say how the first step that differs differs, and what made it so."""
    ours, theirs = simulated.steps(), measured.steps()
    if step >= min(len(ours), len(theirs)):
        return f"step {step}: only one of the runs has it"
    one, other = ours[step], theirs[step]
    more = [row for row in _rows(other) if row not in _rows(one)]
    fewer = [row for row in _rows(one) if row not in _rows(other)]
    late_ns = other.submit_ns - one.submit_ns
    when = f"step {step} began {abs(late_ns) / 1e6:.3f} ms {'later' if late_ns > 0 else 'earlier'}"
    if not more and not fewer:
        return f"{when}, with the same requests and other tokens of each"
    arrival = simulated.result.arrival_ns
    low, high = sorted((one.submit_ns, other.submit_ns))
    came = [row for row in [*more, *fewer] if low < arrival[row] <= high]
    changed = f"{len(more)} more and {len(fewer)} fewer requests than simulated"
    if came:
        return f"{when}, with {changed}: {len(came)} of them arrived in between"
    loaded = [
        row for row in [*more, *fewer]
        if simulated.result.faults[row] or measured.result.faults[row]
    ]  # fmt: skip
    cause = "room came free"
    if loaded:
        cause = f"pages that {len(loaded)} of them waited for came"
    return f"{when}, with {changed}: {cause} at another time"
