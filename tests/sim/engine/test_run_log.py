"""The log is taken in batches of one size, and what comes of it does not depend on that size."""

from dataclasses import replace

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine import setup
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.result import StepLog, StepTotals, joined_steps
from vsim.sim.engine.run import collect, run_engine
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.simulated import SimulatedBackend

from .conftest import assert_same, make_requests, make_state
from .worlds import draw_world

SEEDS = range(4_000, 4_020)


@pytest.mark.parametrize("logged", [1, 2, 7])
@pytest.mark.parametrize("seed", some(SEEDS, 10))
def test_short_batches_give_the_same_however_the_engine_is_driven(
    seed: int, logged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = draw_world(seed)
    whole = run_engine(world.state())
    monkeypatch.setattr(setup, "_LOGGED", logged)
    for mode in ("fast", "events"):
        assert_same(run_engine(world.state(), mode=mode), whole)
    state = world.state()
    assert state.arrays["step"].size == logged + 1
    assert_same(collect(state, drive(state, SimulatedBackend(state)), 0), whole)


def test_batches_do_not_end_the_fast_way_of_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = make_requests([0], [100], [4_000])
    whole = run_engine(make_state(requests)).counters["fast_steps"]
    assert whole == 3_998  # all but the prompt's and the last
    monkeypatch.setattr(setup, "_LOGGED", 100)
    assert run_engine(make_state(requests)).counters["fast_steps"] == whole


def test_all_batches_but_the_last_are_of_one_size_in_every_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "_LOGGED", 64)
    world = replace(draw_world(4_100), operations="all")  # its other logs are full more often
    sizes: dict[str, list[int]] = {}
    for mode in ("fast", "events", "backend"):
        taken: list[int] = []
        log = RunLog(lambda steps, to=taken: to.append(len(steps)), keep=False)
        run_engine(world.state(), mode=mode, log=log)
        sizes[mode] = taken
    assert sizes["fast"] == sizes["events"] == sizes["backend"]
    assert len(sizes["fast"]) > 3
    assert set(sizes["fast"][:-1]) == {64}


def test_a_log_that_keeps_nothing_hands_everything_on() -> None:
    world = replace(draw_world(4_001), operations="transfers")
    whole = run_engine(world.state())
    assert whole.step_log is not None
    assert whole.operations is not None
    parts: list[StepLog] = []
    operations = []

    def take(steps: StepLog) -> None:
        parts.append(replace(steps, **{n: np.array(getattr(steps, n)) for n in columns}))

    columns = [n for n in StepLog.__dataclass_fields__ if n != "exceptions_ns"]
    result = run_engine(world.state(), log=RunLog(take, operations.append, keep=False))
    assert result.step_log is None
    assert result.operations is None
    assert (result.steps, result.gaps) == (whole.steps, whole.gaps)
    for name in columns:
        joined = getattr(joined_steps(parts, ()), name)
        np.testing.assert_array_equal(joined, getattr(whole.step_log, name))
    assert sum(table.num_rows for table in operations) == whole.operations.num_rows
    assert operations[0].slice(0, 5).equals(whole.operations.slice(0, 5))


def test_the_arrays_do_not_grow_with_the_number_of_steps() -> None:
    sizes = []
    for output in (100, 40_000):
        state = make_state(make_requests([0], [100], [output]))
        before = {name: array.ctypes.data for name, array in state.arrays.items()}
        result = run_engine(state, log=RunLog(keep=False))
        assert result.steps.steps == output
        assert {name: array.ctypes.data for name, array in state.arrays.items()} == before
        # only page tables and the slots behind them are as many as the request's pages
        slots = ("holds", "flags", "source", "chain", "ref", "open", "links", "mark", "key")
        paged = ("table", *slots)
        sizes.append({n: a.size for n, a in state.arrays.items() if n not in paged})
    assert sizes[0] == sizes[1]


def test_totals_are_sums_over_the_columns() -> None:
    n = 3
    big = np.full(n, 2**62)
    log = StepLog(*[np.zeros(n, np.int64)] * 2, big, big, *[np.zeros(n, np.int64)] * 5)
    assert StepTotals.of(log).prefill_tokens == 3 * 2**62
    twice = StepTotals.of(log) + StepTotals.of(log)
    assert twice == StepTotals(6, 0, 6 * 2**62, 6 * 2**62, 6, 0, 0)
