"""What schedules cost, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vsim.sim.placement.case import Case
from vsim.sim.placement.moves import hits_of_reads, operations, paid_promotions
from vsim.sim.placement.policies import policies
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.cost import evaluate
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers, first_fill_order

READS = reads_of_sets([{0, 1}, {0, 1}, {1}, {0, 2}], [-1, -1, 2], 10)
TIERS = TwoTiers(10.0, 1.0, 2)
NOTHING = np.zeros(3, np.bool_)


def test_a_page_that_was_streamed_in_stays_for_free() -> None:
    cost = evaluate(READS, TIERS, Schedule.of([0], [1], [1]), NOTHING)
    assert cost.hits.tolist() == [0, 1, 0, 0]
    assert cost.promoted.sum() == 0
    assert cost.step_s.tolist() == [20.0, 10.0, 10.0, 20.0]


def test_a_page_that_was_not_streamed_in_is_paid_where_its_residency_starts() -> None:
    cost = evaluate(READS, TIERS, Schedule.of([0], [3], [3]), NOTHING)
    assert cost.promoted.tolist() == [0, 0, 0, 1]
    # Page 0 hits, but its promotion loads the channel beside the miss of page 2.
    assert cost.step_s.tolist() == [20.0, 20.0, 10.0, 20.0]


def test_a_page_stays_from_its_birth_for_free_and_hits_in_the_step_that_writes_it() -> None:
    reads = reads_of_sets([{0}, {0}], [0], 10)
    cost = evaluate(reads, TIERS, Schedule.of([0], [1], [1]), np.zeros(1, np.bool_))
    assert cost.hits.tolist() == [1, 1]
    assert cost.promoted.sum() == 0
    assert cost.occupancy.tolist() == [0, 1]


def test_an_exclusive_tier_charges_every_move() -> None:
    tiers = replace(TIERS, exclusive=True, duplex=False)
    cost = evaluate(READS, tiers, Schedule.of([0], [1], [1]), NOTHING)
    assert cost.promoted.tolist() == [0, 1, 0, 0]
    # Page 2, written in step 2 and not kept, goes down with page 0 and on its own.
    assert cost.demoted.tolist() == [0, 0, 1, 1]
    assert cost.step_s.tolist() == [20.0, 20.0, 20.0, 30.0]
    duplex = evaluate(READS, replace(tiers, duplex=True), Schedule.of([0], [1], [1]), NOTHING)
    assert duplex.step_s.tolist() == [20.0, 20.0, 10.0, 20.0]


def test_pages_in_hbm_at_the_start_that_do_not_stay_are_demoted_at_once() -> None:
    tiers = replace(TIERS, exclusive=True)
    start = np.array([True, True, False])
    cost = evaluate(READS, tiers, Schedule.of([1], [0], [3]), start)
    assert cost.demoted.tolist() == [1, 0, 0, 1]


def test_an_inclusive_simplex_channel_carries_what_is_written_through() -> None:
    tiers = replace(TIERS, duplex=False)
    cost = evaluate(READS, tiers, Schedule.of([], [], []), NOTHING)
    assert cost.step_s.tolist() == [20.0, 20.0, 20.0, 20.0]


def test_the_step_time_is_the_norm_of_both_tiers() -> None:
    start = np.array([True, False, False])
    schedule = Schedule.of([0], [0], [3])
    reads = reads_of_sets([{0, 1}], [-1, -1, -1], 10)
    for norm, wanted in ((1.0, 13.0), (2.0, math.hypot(3.0, 10.0)), (math.inf, 10.0)):
        tiers = replace(TIERS, weight_bytes=20, norm=norm)
        schedule = Schedule.of([0], [0], [0])
        cost = evaluate(reads, tiers, schedule, start)
        assert cost.time_s == pytest.approx(wanted, rel=1e-12)


def test_a_schedule_above_the_capacity_is_refused_with_the_step() -> None:
    with pytest.raises(ValueError, match="step 1 holds 2 pages; HBM has room for 1"):
        evaluate(READS, replace(TIERS, hbm_pages=1), Schedule.of([0, 1], [1, 1], [1, 2]), NOTHING)


def test_a_page_before_its_birth_is_refused() -> None:
    with pytest.raises(ValueError, match="writes it"):
        evaluate(READS, TIERS, Schedule.of([2], [2], [3]), NOTHING)


def test_layer_by_layer_is_never_faster_than_step_by_step() -> None:
    reads = synthetic_reads(60, 20, 0.7, seed=2, born_every=4)
    layers = replace(reads, layer=(np.arange(60) % 3).astype(np.int16))
    case = Case(layers, TwoTiers(10.0, 1.0, 15, weight_bytes=300))
    split = case.by_layer()
    split.reads.check()
    assert split.reads.steps == 60
    assert split.reads.reads == reads.reads
    static = policies()["static"]
    whole_s = case.cost(static(case, 0).schedule).time_s
    split_s = split.cost(static(split, 0).schedule).time_s
    assert split_s >= whole_s * (1 - 1e-12)


def test_first_fill_takes_the_earliest_tokens_of_all_layers() -> None:
    reads = reads_of_sets([set(range(6))], [-1] * 6)
    reads = replace(
        reads,
        layer=np.array([0, 0, 0, 1, 1, 1], np.int16),
        position=np.array([0, 1, 2, 0, 1, 2], np.int32),
    )
    assert first_fill_order(reads).tolist() == [0, 3, 1, 4, 2, 5]


def test_operations_hold_every_read_once_and_every_move() -> None:
    case = Case(synthetic_reads(60, 30, 0.7, seed=5, born_every=4), TwoTiers(10.0, 1.0, 12))
    for name in ("static", "lru", "page-oracle", "window-share"):
        schedule = policies()[name](case, 0).schedule
        cost = case.cost(schedule)
        table = operations(case, schedule, cost, "host").to_pylist()
        attended = {
            (row["step"], page) for row in table if row["kind"] == "attend" for page in row["pages"]
        }
        assert len(attended) == case.reads.reads
        for tier, count in (("hbm", cost.hits), ("host", cost.misses)):
            found = [0] * case.reads.steps
            for row in table:
                if row["kind"] == "attend" and row["source_tier"] == tier:
                    found[row["step"]] += len(row["pages"])
            assert found == count.tolist(), name
        moved = sum(row["bytes"] for row in table if row["kind"] == "copy")
        assert moved == cost.moved_bytes
        assert int(paid_promotions(case, schedule).sum()) == int(cost.promoted.sum())
        assert int(hits_of_reads(case, schedule).sum()) == int(cost.hits.sum())


def test_operations_replayed_from_the_start_never_read_a_page_where_it_is_not() -> None:
    case = Case(synthetic_reads(40, 30, 0.7, seed=6, born_every=4), TwoTiers(10.0, 1.0, 9))
    schedule = policies()["window-share"](case, 0).schedule
    here = set(np.flatnonzero(case.resident()).tolist())
    for row in operations(case, schedule, case.cost(schedule), "host").to_pylist():
        pages = set(row["pages"])
        if row["kind"] == "copy":
            here |= pages
        elif row["kind"] == "evict":
            assert pages <= here
            here -= pages
        elif row["source_tier"] == "hbm":
            born = {p for p in pages if case.reads.born[p] == row["step"]}
            assert pages - born <= here
        else:
            assert not pages & here
