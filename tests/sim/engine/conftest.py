"""Small worlds for engine tests: a trace, a machine whose figures are round, and state checks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.seeds import ALL

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.backend import Completion, Operation
from vsim.sim.engine.bit_sets import upper
from vsim.sim.engine.class_heaps import least_active_service
from vsim.sim.engine.class_marks import next_marked
from vsim.sim.engine.entry import world
from vsim.sim.engine.layout import DEFERRED, FAIR, INBOUND, LEAVING
from vsim.sim.engine.queues import next_group
from vsim.sim.engine.result import EngineResult, StepLog
from vsim.sim.engine.setup import build_state
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost, step_cost
from vsim.traces.requests import Requests


def make_requests(
    arrival_ns: Sequence[int],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    prefixes: Sequence[Sequence[int]] | None = None,
    block_tokens: int = 0,
    **columns: Any,
) -> Requests:
    """Requests from plain lists; `columns` replaces any other column."""
    n = len(arrival_ns)
    none = np.full(n, -1, np.int64)
    chains = prefixes or [()] * n
    values: dict[str, Any] = {
        "id": np.arange(n),
        "arrival_ns": np.asarray(arrival_ns, np.int64),
        "prompt_tokens": np.asarray(prompt_tokens, np.int64),
        "output_tokens": np.asarray(output_tokens, np.int64),
        "session": none,
        "parent": none,
        "think_ns": none,
        "tenant": np.zeros(n, np.int32),
        "tenant_names": ("",),
        "priority": np.zeros(n, np.int32),
        "prefix_offsets": np.concatenate([[0], np.cumsum([len(c) for c in chains])]).astype(
            np.int64
        ),
        "prefix_ids": np.asarray([i for c in chains for i in c], np.int64),
        "block_tokens": block_tokens,
        "source": "test",
    }
    return Requests(**(values | columns))


def make_state(
    requests: Requests,
    tiers: Sequence[dict[str, Any]] = ({"tier": "hbm"},),
    machine: Machine | str = "h100",
    model: str = "llama-3.1-8b",
    cost: StepCost | None = None,
    pacing: str = "arrivals",
    operations: str = "none",
    rules: ServerRules | None = None,
    **engine: Any,
) -> State:
    """A state for a scenario, without the checks of settings that can't act.

    Round costs make tokens nearly free, so what lies below is always loaded unless said otherwise.
    """
    engine = {"loading": "always"} | engine
    scenario = Scenario.model_validate(
        {
            "name": "test",
            "workload": {"trace": "none", "pacing": pacing},
            "machine": "h100",
            "model": model,
            "engine": engine,
            "tiers": list(tiers),
            "output": {"operations": operations},
        }
    )
    found = load_machine(machine) if isinstance(machine, str) else machine
    if rules is not None:
        engine_rules = {"admission": rules.admission, "watermark": rules.watermark}
        settings = scenario.engine.model_copy(update=engine_rules)
        scenario = scenario.model_copy(update={"engine": settings})
    found_cost = cost or step_cost(found, load_model(model))
    return build_state(scenario, found, found_cost, requests, rules=rules)


def assert_same(a: EngineResult, b: EngineResult) -> None:
    """Two results agree bit for bit, but for counts that tell how they were made."""
    made_by = {"fast_steps", "simpy_events"}
    for name in EngineResult.__dataclass_fields__.keys() - {"keys"}:  # which are the trace's
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, StepLog):
            for column in StepLog.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(x, column), getattr(y, column), column)
        elif isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y, err_msg=name)
        elif name == "counters":
            assert {k: v for k, v in x.items() if k not in made_by} == {
                k: v for k, v in y.items() if k not in made_by
            }
        else:
            assert x == y, name


@borrowing_kernel
def words_begin(size: int) -> int:
    """Where the words about words of a bit set begin."""
    return upper(size)


def free_slots(state: State, tier: int) -> NDArray[np.int64]:
    """The slots of a tier that were used and are free."""
    base, slots = int(state.arrays["t"]["base"][tier]), int(state.arrays["t"]["slots"][tier])
    if state.control["stacked"]:
        recycled = int(state.arrays["t"]["recycled"][tier])
        return state.arrays["free"][base : base + recycled].astype(np.int64)
    lower = words_begin(state.arrays["holds"].size)
    members = bits(state.arrays["open"][:lower])
    above = bits(state.arrays["open"][lower:])[:lower]
    np.testing.assert_array_equal(above, members.reshape(-1, 32).any(axis=1), "can't be found")
    return np.flatnonzero(members[base : base + slots]) + base


def bits(words: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The 32 bits of each word, lowest first."""
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").astype(np.bool_)


def check_state(state: State) -> None:
    """Whatever must hold between any two operations."""
    arrays, tiers = state.arrays, len(state.tier_names)
    held, flags, ref = arrays["holds"], arrays["flags"], arrays["ref"]
    requests = arrays["r"][: len(state.requests)]
    holders = requests[requests["row"] >= 0]
    users = row_entries(state, holders)
    chain, source = arrays["chain"], arrays["source"]
    for name, count in (("f", "flows"), ("done", "done"), ("out", "out")):
        for first in arrays[name]["first"][: state.control[count]].tolist():
            target = first
            while target >= 0:
                users.append(np.array([target, source[target]]))
                assert flags[target] & INBOUND
                target = int(chain[target])
    for path in arrays["p"][arrays["p"]["pages"] > 0]:  # gathered, and not yet in the outbox
        target = int(path["first"])
        for _ in range(path["pages"]):
            users.append(np.array([target, source[target]]))
            assert flags[target] & INBOUND
            target = int(chain[target])
        assert target == -1
    for number, tier in enumerate(arrays["t"]):
        waiting, room = int(tier["deferred_first"]), 0
        below = min(number + 1, tiers - 1)
        for _ in range(tier["deferred"]):
            assert flags[waiting] & DEFERRED
            users.append(np.array([waiting]))
            room += int(page_sizes(state, below, slice(waiting, waiting + 1))[0])
            waiting = int(chain[waiting])
        assert room == tier["deferred_units"]
    counted = np.bincount(np.concatenate([np.empty(0, np.int64), *users]), minlength=ref.size)
    np.testing.assert_array_equal(ref, counted, "reference counts are not their pages' users")
    at = arrays["at"].reshape(tiers, -1).T if state.control["keys"] else np.empty((0, tiers))
    for number in range(tiers):
        tier = arrays["t"][number]
        base, size, free = int(tier["base"]), int(tier["slots"]), int(tier["free"])
        fresh, recycled = int(tier["fresh"]), int(tier["recycled"])
        capacity = state.capacity_units[number]
        assert 0 <= free <= capacity == tier["capacity"]
        own = slice(base, base + fresh)  # those never used yet lie behind
        assert (ref[base + fresh : base + size] == 0).all()
        unused = np.zeros(fresh, bool)
        unused[free_slots(state, number) - base] = True
        assert unused.sum() == recycled, "a slot is free twice"
        key, used_by, size = held[own], ref[own], page_sizes(state, number, own)
        assert capacity - free == size[~unused].sum(), "room is lost"
        assert (used_by[unused] == 0).all()
        assert (key[unused] == -1).all()
        keyed = key >= 0
        assert (unused | (used_by > 0) | keyed).all(), "a page nobody uses and nobody can find"
        assert (at[key[keyed], number] == np.flatnonzero(keyed) + base).all()
        assert (at[:, number] >= 0).sum() == keyed.sum(), "a key leads to a page that is not its"
        assert size[keyed & (used_by == 0)].sum() == tier["idle"]
        assert size[(flags[own] & LEAVING) > 0].sum() == tier["leaving"]
    check_classes(state)
    rows = arrays["rows"][: state.control["free_rows"]]
    taken = holders["row"]
    assert np.unique(np.concatenate([rows, taken])).size == rows.size + taken.size
    assert rows.size + taken.size == state.control["rows"], "a page table's row is lost"


def page_sizes(state: State, tier: int, slots: slice) -> NDArray[np.int64]:
    """Units of a tier that the pages in some slots take there."""
    if not state.pages.grouped:
        return np.ones(slots.stop - slots.start, np.int64)
    units = [state.pages.units(group, tier) for group in range(len(state.pages.groups))]
    return np.array(units)[state.arrays["group_of"][slots]]


def row_entries(state: State, holders: NDArray[Any]) -> list[NDArray[np.int32]]:
    """The slots that each request with a row holds, group by group, which must be of that group."""
    table, found = state.arrays["table"], []
    for request in holders:
        row = int(request["row"])
        first = row * int(state.control["row_pages"])
        if not state.pages.grouped:
            found.append(table[first : first + int(request["held"])])
            continue
        count = len(state.pages.groups)
        spans = state.arrays["span"].reshape(-1, count, 2)[row]
        for group, kv in enumerate(state.arrays["kv"]):
            start, end = (int(kv["segment"]) + first + spans[group]).tolist()
            slots = table[start:end]
            assert (state.arrays["group_of"][slots] == group).all(), "a slot of another group"
            if not request["swapped"]:
                check_low(state, row, group, slots)
            found.append(slots)
            if state.pages.groups[group].keeps_tokens:
                assert spans[group][1] == request["held"]
    return found


def check_low(state: State, row: int, group: int, slots: NDArray[np.int32]) -> None:
    """As many of a row's pages of a group are counted in each lower tier as lie there."""
    tiers = state.arrays["t"]
    low = state.arrays["low"].reshape(-1, len(tiers), len(state.pages.groups))[row, 1:, group]
    ends = tiers["base"] + tiers["slots"]
    found = [((slots >= t["base"]) & (slots < e)).sum() for t, e in zip(tiers, ends, strict=True)]
    assert low.tolist() == found[1:]


@borrowing_kernel
def first_class(address: int) -> int:
    """The class that the engine would take next."""
    return next_group(world(address))


@borrowing_kernel
def least_service(address: int) -> int:
    """What the engine would start a tenant that comes back with."""
    return least_active_service(world(address))


@borrowing_kernel
def following_class(group: int, address: int) -> int:
    """The next class with waiting requests, by number."""
    return next_marked(world(address), group)


def check_classes(state: State) -> None:
    """Heaps and marks of scheduling classes find what a look at every class finds."""
    g = state.arrays["g"]
    service = g["service"].tolist()
    waiting = np.flatnonzero(g["waiting"] > 0).tolist()
    if waiting:
        found = first_class(state.address)
        assert found == min(waiting, key=lambda group: (service[group], group))
    found, marked = -1, []
    while (found := following_class(found + 1, state.address)) >= 0:
        marked.append(found)
    assert marked == waiting
    if state.control["scheduler"] == FAIR and g.size > 1:
        active = np.flatnonzero(g["waiting"] + g["running"] > 0).tolist()
        assert least_service(state.address) == min((service[c] for c in active), default=-1)


CLOSELY = 100
"""Waits of a run before each of which the whole state is looked at."""
APART = 1 if ALL else 11
"""How many waits go by from one such look to the next after those."""


class CheckedBackend(SimulatedBackend):
    """A simulated backend that checks the state: before every wait at first, then now and then.

    What is lost stays lost: a later look finds it. Which class is next is checked before each wait.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.checked = state
        self.waits = 0
        self.submitted: list[Operation] = []

    def submit(self, operation: Operation) -> None:
        self.submitted.append(operation)
        if operation.kind == "copy":
            assert operation.targets is not None
            assert operation.size_bytes == self._moved_bytes(operation.targets)
        super().submit(operation)

    def _moved_bytes(self, targets: NDArray[np.int64]) -> int:
        """Each page once, whatever HBM holds of it."""
        pages = self.checked.pages
        if not pages.grouped:
            return len(targets) * pages.groups[0].bytes
        groups = self.checked.arrays["group_of"][targets]
        return int(np.array([each.bytes for each in pages.groups])[groups].sum())

    def wait(self) -> Completion | None:
        if self.waits < CLOSELY or self.waits % APART == 0:
            check_state(self.checked)
        else:
            check_classes(self.checked)
        self.waits += 1
        return super().wait()
