"""study: the highest load of each configuration that meets an SLO, over whatever workers there are.

Every run is looked up in the store before it is made, and kept there as soon as it is done; so a
search that was killed goes on where it was, and ends with the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from pydantic import ValidationError

from vsim.sim.goodput.grid import Configuration
from vsim.sim.goodput.load import nearest_rung, rate_scale
from vsim.sim.goodput.measured import Measured
from vsim.sim.goodput.point import Origin, Point
from vsim.sim.goodput.search import Bracket, bracket, next_rungs
from vsim.sim.goodput.slo import Kept, Slo
from vsim.sim.goodput.workers import Workers
from vsim.traces.requests import Requests
from vsim.traces.writing import Documents

STORED: Final = "size point"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """A load that was run.

    Args:
        rate_scale: the load.
        measured: the run's figures.
        kept: how it stands to each promise of the SLO.
    """

    rate_scale: float
    measured: Measured
    kept: tuple[Kept, ...] = ()

    @property
    def met(self) -> bool:
        """Whether it kept all of them."""
        return all(each.met for each in self.kept)


@dataclass(frozen=True, slots=True)
class Studied:
    """What is known of a configuration.

    Args:
        configuration: which one.
        trace: which of the traces it serves.
        tried: every load that was run, rising.
        best: the highest load that meets the SLO, with what became of its stores; without an SLO,
            the scenario's own load; None where no load meets it.
        above: the lowest load that fails; None where none does, or there is no SLO.
        monotone: whether no load above a failing one met the SLO.
    """

    configuration: Configuration
    trace: int
    tried: tuple[Tried, ...]
    best: Tried | None
    above: Tried | None
    monotone: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to study.

    Args:
        configurations: which ones.
        trace_of: for each, which of the traces it serves.
        traces: the requests, as they are read or drawn.
        slo: the promises; None to run each configuration at its own load.
        base: the folder at which relative paths start.
        warm_up: share of the requests that come before those that count.
    """

    configurations: Sequence[Configuration]
    trace_of: Sequence[int]
    traces: Sequence[Requests]
    slo: Slo | None
    base: str
    warm_up: float = 0.0

    def point(self, number: int, scale: float | None, *, follows_stores: bool = False) -> Point:
        """The run of a configuration at a load; None for its own."""
        scenario = self.configurations[number].scenario
        workload = scenario.workload
        if scale is not None:
            workload = workload.model_copy(update={"rate_scale": scale})
            scenario = scenario.model_copy(update={"workload": workload})
        requests = len(self.traces[self.trace_of[number]])
        counted = min(workload.requests or requests, requests)
        limits = {} if self.slo is None else self.slo.limits_ns
        return Point(
            scenario, self.trace_of[number], self.base, tuple(sorted(limits.items())),
            ceil(self.warm_up * counted), follows_stores,
        )  # fmt: skip

    @property
    def at_once(self) -> int:
        """Loads of a configuration to try side by side: alone it must occupy two processes."""
        return 2 if len(self.configurations) == 1 else 1


@dataclass(slots=True)
class _Course:
    """A configuration on its way; stateful: what was found so far, and what is being run."""

    found: dict[int, Tried] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    best: Tried | None = None
    done: bool = False


_OWN: Final = 1 << 30
"""Stands for the scenario's own load, which need not lie on the ladder."""
_FOLLOWED: Final = _OWN + 1
"""Stands for the run that follows what is stored, at the load that was found."""


class Studies:
    """Configurations being studied together; stateful: their courses.

    Args:
        plan: what to study.
        workers: who runs it.
        store: where runs are kept.
        tell: is told what goes on.
    """

    def __init__(self, plan: Plan, workers: Workers, store: Documents, tell: Tell) -> None:
        self._plan, self._workers, self._store, self._tell = plan, workers, store, tell
        self._origin = Origin.of(plan.traces)
        self._courses = [_Course() for _ in plan.configurations]
        self._running: dict[int, tuple[int, int, str]] = {}
        self._numbered = 0
        self.made = 0
        self.read = 0

    def run(self) -> list[Studied]:
        """Study all configurations to their end."""
        for number in range(len(self._courses)):
            self._go_on(number)
        while self._running:
            done = self._workers.next_done()
            number, rung, key = self._running.pop(done.number)
            self._store.put(key, done.measured.model_dump(mode="json"))
            self.made += 1
            self._take(number, rung, done.measured)
            self._go_on(number)
            self._tell(f"{self.made + self.read} runs, {len(self._running)} under way")
        return [self._studied(number) for number in range(len(self._courses))]

    def _go_on(self, number: int) -> None:
        """Ask for what a configuration needs next, as long as the store has it."""
        course = self._courses[number]
        while not course.waiting and not course.done:
            wanted = self._wanted(number)
            if not wanted:
                course.done = True
            for rung, point in wanted:
                course.waiting.add(rung)
                key = self._origin.key(point)
                kept = self._kept(key)
                if kept is not None:
                    self.read += 1
                    self._take(number, rung, kept)
                    continue
                self._numbered += 1
                self._running[self._numbered] = (number, rung, key)
                self._workers.submit(self._numbered, point)

    def _wanted(self, number: int) -> list[tuple[int, Point]]:
        course, plan = self._courses[number], self._plan
        if plan.slo is None:
            follow = bool(plan.configurations[number].scenario.tiers[1:])
            wanted = (
                [] if course.best else [(_OWN, plan.point(number, None, follows_stores=follow))]
            )
            return wanted
        start = nearest_rung(plan.configurations[number].scenario.workload.rate_scale)
        met = {rung: tried.met for rung, tried in course.found.items()}
        rungs = next_rungs(met, start, plan.at_once)
        if rungs:
            return [(rung, plan.point(number, rate_scale(rung))) for rung in rungs]
        below = bracket(met).below
        if course.best is not None or below is None:
            return []
        if not plan.configurations[number].scenario.tiers[1:]:
            course.best = course.found[below]
            return []
        return [(_FOLLOWED, plan.point(number, rate_scale(below), follows_stores=True))]

    def _kept(self, key: str) -> Measured | None:
        document = self._store.get(key)
        if document is None:
            return None
        try:
            return Measured.model_validate(document)
        except ValidationError:  # spoilt, or of another vsim: made again
            return None

    def _take(self, number: int, rung: int, measured: Measured) -> None:
        course, slo = self._courses[number], self._plan.slo
        course.waiting.discard(rung)
        if slo is None:
            scale = self._plan.configurations[number].scenario.workload.rate_scale
            course.best = course.found[rung] = Tried(scale, measured)
            return
        kept = slo.kept(measured.latency_ns, measured.good, measured.requests)
        if rung == _FOLLOWED:
            below = bracket(self._met(course)).below
            assert below is not None  # it was followed since it is the highest
            course.best = Tried(rate_scale(below), measured, kept)
        else:
            course.found[rung] = Tried(rate_scale(rung), measured, kept)

    def _met(self, course: _Course) -> Mapping[int, bool]:
        return {rung: tried.met for rung, tried in course.found.items()}

    def _studied(self, number: int) -> Studied:
        course = self._courses[number]
        if self._plan.slo is None:
            found = Bracket(None, None, monotone=True)
        else:
            found = bracket(self._met(course))
        return Studied(
            self._plan.configurations[number],
            self._plan.trace_of[number],
            tuple(course.found[rung] for rung in sorted(course.found)),
            course.best,
            None if found.above is None else course.found[found.above],
            found.monotone,
        )


def runs_of(studied: Sequence[Studied]) -> Iterator[tuple[int, Studied, Tried]]:
    """Every run, with the number of its configuration, in their order and by load."""
    for number, each in enumerate(studied):
        for tried in each.tried:
            yield number, each, tried
