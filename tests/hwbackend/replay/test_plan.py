"""A plan is the log: the same operations, batches and pages, in the same order and times."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from tests.hwbackend.replay.conftest import SMALL
from tests.seeds import ALL, some
from tests.sim.engine.worlds import World, draw_world

from vsim.hwbackend.replay.carry_out import carry_out
from vsim.hwbackend.replay.measured_log import measured_log
from vsim.hwbackend.replay.options import Mode, ReplayOptions
from vsim.hwbackend.replay.plan import Plan, plan_of
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.recorded_times import RecordedTimes
from vsim.hwbackend.replay.replaying import replay, simulated_carriers
from vsim.sim.engine.backend import Completion, Operation, StepBatch
from vsim.sim.engine.kept_batches import kept_batches
from vsim.sim.engine.run import run_engine
from vsim.traces.faults import InputError
from vsim.traces.validation.tables import faults_in

SEEDS = range(32)


def logged(world: World) -> pa.Table:
    log = run_engine(world.state()).operations
    assert log is not None
    return log


def drawn(seed: int) -> World:
    return replace(draw_world(seed), operations="all")


def planned(
    world: World,
    log: pa.Table,
    until_ns: int | None = None,
    batches: list[StepBatch] | None = None,
) -> Plan:
    state = world.state()
    return plan_of(
        log,
        state.tier_names,
        page_tokens=int(world.engine["page_tokens"]),
        page_bytes=state.pages.page_bytes,
        file="log",
        until_ns=until_ns,
        batches=batches,
    )


@cache
def log_of(seed: int) -> pa.Table:
    """The log of a drawn world."""
    return logged(drawn(seed))


@cache
def plan_from_log(seed: int) -> Plan:
    """Its plan, from the log alone."""
    return planned(drawn(seed), log_of(seed))


@cache
def batches_of(seed: int) -> list[StepBatch]:
    """What the engine batched in it."""
    return kept_batches(drawn(seed).state())


@pytest.mark.parametrize("seed", some(SEEDS, 8))
def test_carried_out_in_the_recorded_times_nothing_differs(seed: int) -> None:
    log, plan = log_of(seed), plan_from_log(seed)
    times = carry_out(plan, RecordedTimes(plan))
    assert [t.kernels_ns for t in times] == [each.kernels_ns for each in plan.operations]
    ends = sorted(range(len(times)), key=lambda i: (times[i].end_ns, i))
    predicted = sorted(range(len(times)), key=lambda i: (plan.operations[i].end_ns, i))
    assert ends == predicted
    # what ran side by side does so again; time without work is left out, no other is
    first = plan.operations[0].submit_ns
    span = max(each.end_ns for each in plan.operations) - first
    assert max(t.end_ns for t in times) == span - plan.idle_ns
    again = measured_log(plan, times)
    assert list(faults_in(again, "operations", "measured", {})) == []
    assert again.num_rows == log.num_rows - plan.without_work
    assert sum(again.column("bytes").to_pylist()) == sum(log.column("bytes").to_pylist())


@pytest.mark.parametrize("seed", some(SEEDS, 8))
def test_batches_and_pages_are_the_engine_s_under_other_numbers(seed: int) -> None:
    batches, plan = batches_of(seed), plan_from_log(seed)
    steps = [each for each in plan.operations if each.kind == "step"]
    assert len(steps) == len(batches)
    number: dict[int, int] = {}
    for step, wanted in zip(steps, batches, strict=True):
        batch = step.operation.batch
        assert batch is not None
        for name in ("rows", "new_tokens", "context_tokens", "samples", "indptr", "last_page_len"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(wanted, name), name)
        if len(plan.tiers) == 1:
            for old, new in zip(wanted.indices.tolist(), batch.indices.tolist(), strict=True):
                assert number.setdefault(old, new) == new
    assert len(set(number.values())) == len(number)
    touched = [each.operation.batch.indices for each in steps if each.operation.batch]
    assert max(int(indices.max()) for indices in touched) < sum(plan.slots)
    ranges = np.concatenate([[0], np.cumsum(plan.slots)])
    for each in plan.operations:
        if each.kind == "copy":
            for slots, tier in (
                (each.operation.sources, each.operation.source_tier),
                (each.operation.targets, each.operation.target_tier),
            ):
                assert ((ranges[tier] <= slots) & (slots < ranges[tier + 1])).all()


# Those where a log does not tell in which order a request's pages of several tiers stand, and one.
@pytest.mark.parametrize("seed", SEEDS if ALL else (0, 7, 11, 25))
def test_with_batches_a_request_s_pages_stand_as_the_engine_has_them(seed: int) -> None:
    batches = batches_of(seed)
    plan = planned(drawn(seed), log_of(seed), batches=batches)
    steps = [each.operation.batch for each in plan.operations if each.kind == "step"]
    number: dict[int, int] = {}
    for batch, wanted in zip(steps, batches, strict=True):
        assert batch is not None
        for old, new in zip(wanted.indices.tolist(), batch.indices.tolist(), strict=True):
            assert number.setdefault(old, new) == new
    assert len(set(number.values())) == len(number)


def test_batches_of_another_run_are_refused() -> None:
    world = drawn(5)
    batches = kept_batches(world.state())
    wrong = [replace(batches[0], rows=batches[0].rows + 1), *batches[1:]]
    with pytest.raises(ValueError, match="has another batch"):
        planned(world, logged(world), batches=wrong)


def test_a_window_takes_what_had_ended_by_then() -> None:
    world = drawn(5)
    log = logged(world)
    whole = planned(world, log)
    first = whole.operations[0].submit_ns
    until = whole.operations[len(whole.operations) // 2].end_ns - first
    part = planned(world, log, until)
    assert 0 < len(part.operations) < len(whole.operations)
    assert max(each.end_ns for each in part.operations) <= first + until
    kept = [each for each in whole.operations if each.end_ns <= first + until]
    assert [each.end_ns for each in part.operations] == [each.end_ns for each in kept]
    with pytest.raises(InputError, match="holds no step in the window"):
        planned(world, log, 1)


class Slow(RecordedTimes):
    """Steps take twice as long, so that what ran beside them ends earlier among them."""

    def submit(self, operation: Operation) -> None:
        super().submit(operation)
        if operation.kind == "step":
            end, order, serial = next(e for e in self._under_way if e[2] == operation.serial)
            self._under_way.remove((end, order, serial))
            self._under_way.append((2 * end - self._now, order, serial))
            self._under_way.sort()


@pytest.mark.parametrize("seed", some(range(8), 4))
def test_nothing_is_submitted_before_what_had_ended_before_it(seed: int) -> None:
    plan = plan_from_log(seed)
    times = carry_out(plan, Slow(plan))
    for number, each in enumerate(plan.operations):
        for other in range(max(number - 40, 0), number):
            if plan.operations[other].end_ns <= each.submit_ns:
                assert times[other].end_ns <= times[number].submit_ns


class Broken(RecordedTimes):
    """Fails at the third wait."""

    waits = 0
    closed = 0

    def wait(self) -> Completion | None:
        self.waits += 1
        if self.waits == 3:
            raise RuntimeError("lost")
        return super().wait()

    def close(self) -> None:
        self.closed += 1


def test_the_backend_is_closed_when_it_fails() -> None:
    world = drawn(0)
    plan = planned(world, logged(world))
    backend = Broken(plan)
    with pytest.raises(RuntimeError, match="lost"):
        carry_out(plan, backend)
    assert backend.closed == 1


def test_kinds_and_tiers_that_can_t_be_carried_out_are_refused() -> None:
    world = drawn(0)
    log = logged(world)
    at = log.schema.get_field_index("kind")
    kinds = ["reserve", *log.column("kind").to_pylist()[1:]]
    other = log.set_column(at, "kind", pa.array(kinds).dictionary_encode())
    with pytest.raises(InputError, match="row 0, column kind: is 'reserve'"):
        planned(world, other)
    with pytest.raises(InputError, match="is 'hbm', which is none of the run's tiers: vram"):
        plan_of(log, ("vram",), page_tokens=16, page_bytes=1, file="log")


def test_sums_over_gpus_are_among_a_step_s_kernels(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    text = SMALL.replace("requests: 24", "requests: 6").replace("h100", "2xh200-measured")
    path.write_text(text + "parallel: {tensor: 2}\n")
    source = read_source(str(path), ReplayOptions())
    assert source.live is not None
    cost = source.live.server.cost
    for each in source.plan.operations:
        batch = each.operation.batch
        if batch is None:
            continue
        sums_ns = int(cost.curves.communication.at(int(batch.new_tokens.sum())))
        assert sums_ns > 100_000  # 64 of them
        assert each.began_ns == each.submit_ns + int(cost.launch_ns)
        assert each.kernels_ns > sums_ns
    for mode in get_args(Mode):
        options = ReplayOptions(mode)
        outcome = replay(source, options, simulated_carriers())
        assert outcome.total.worst == 0.0
        assert outcome.compared == len(source.plan.operations)
