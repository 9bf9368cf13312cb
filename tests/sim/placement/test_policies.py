"""Every policy: a feasible schedule, never below the bound; and its obvious twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.lp import bound
from vsim.sim.placement.belady import belady
from vsim.sim.placement.case import Case
from vsim.sim.placement.lru import lru
from vsim.sim.placement.page_oracle import page_oracle
from vsim.sim.placement.policies import (
    DRAWING,
    FOLLOWING_MASS,
    policies,
    rounded,
    solved_for_rounding,
    studies,
)
from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention, Seen, retain
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.placement.window_share import window_share_schedule
from vsim.sim.schedules.cost import exact_seconds
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads


def sets_of(reads: PageReads) -> list[set[int]]:
    return [
        set(reads.pages[reads.offsets[t] : reads.offsets[t + 1]].tolist())
        for t in range(reads.steps)
    ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    reads = synthetic_reads(
        draw(st.integers(5, 40)),
        draw(st.integers(2, 30)),
        draw(st.sampled_from([0.3, 0.6, 0.8, 0.9])),
        seed=draw(st.integers(0, 1000)),
        born_every=draw(st.sampled_from([0, 1, 3])),
    )
    tiers = TwoTiers(
        hbm_bytes_per_s=draw(st.sampled_from([1e12, 3.35e12])),
        slow_bytes_per_s=draw(st.sampled_from([1e11, 2e12])),
        hbm_pages=draw(st.integers(0, reads.n_pages)),
        weight_bytes=draw(st.sampled_from([0, 300_000])),
        exclusive=draw(st.booleans()),
        duplex=draw(st.booleans()),
        norm=draw(st.sampled_from([math.inf, 8.0, 2.0, 1.0])),
    )
    start = draw(st.sampled_from(["first-fill", "empty", "free"]))
    return Case(reads, tiers, start, mass_of(reads))


def mass_of(reads: PageReads) -> Seen:
    """Mass for every read, drawn; unread pages have none."""
    draw = np.random.Generator(np.random.PCG64(1))
    relative = draw.uniform(0, 5, reads.reads).astype(np.float32)
    return Seen(reads.offsets, reads.pages, relative)


@settings(max_examples=examples(80), deadline=None)
@given(cases(), st.integers(0, 5))
def test_no_policy_is_below_the_bound(case: Case, seed: int) -> None:
    """All policies, starts and cost models; the evaluator refuses what does not fit."""
    solved = solved_for_rounding(case)
    runs = {**policies(), **studies()}
    found = [runs[n](case, seed) for n in runs if n != "interval-annealing"]
    found.append(rounded(case, solved, mip_s=0.0))
    for placement in found:
        cost = case.cost(placement.schedule)
        if math.isinf(case.tiers.norm):
            assert exact_seconds(case.reads, case.tiers, cost) >= solved.certificate.exact_s
        assert cost.time_s >= solved.bound_s * (1 - 1e-12), placement.name
        assert cost.hits.sum() + cost.misses.sum() == case.reads.reads


@settings(max_examples=10, deadline=None)
@given(cases())
def test_interval_annealing_is_no_worse_than_belady_and_not_below_the_bound(case: Case) -> None:
    from vsim.sim.placement.interval_annealing import interval_annealing

    schedule = interval_annealing(
        case.reads, case.tiers, case.may_start_resident(), proposals=20_000
    )
    time_s = case.cost(schedule).time_s
    solved = bound(case.reads, case.tiers, case.may_start_resident())
    assert time_s >= solved.bound_s * (1 - 1e-12)
    if not case.tiers.exclusive and math.isinf(case.tiers.norm) and not case.reads.born.max() >= 0:
        start = np.flatnonzero(case.may_start_resident())[: case.tiers.hbm_pages]
        resident = np.zeros(case.reads.n_pages, np.bool_)
        resident[start] = True
        base = case.cost(belady(case.reads, case.tiers, resident)).time_s
        assert time_s <= base * (1 + 1e-9)


def test_static_never_moves_a_page_and_keeps_new_ones_while_there_is_room() -> None:
    reads = reads_of_sets([{0, 1}, {0, 2}, {2, 3}], [-1, -1, 1, 2])
    case = Case(reads, TwoTiers(10.0, 1.0, 3))
    cost = case.cost(policies()["static"](case, 0).schedule)
    assert cost.promoted.tolist() == [0, 0, 0]
    assert cost.hits.tolist() == [2, 2, 2]
    assert cost.occupancy.tolist() == [2, 2, 3]


def lru_by_definition(sets: list[set[int]], resident: list[int], room: int) -> list[set[int]]:
    """The pages in HBM at each step; the order of eviction is by last read, then page."""
    here = {p: (-1, p) for p in resident}
    held = []
    for t, reads in enumerate(sets):
        held.append(set(here))
        missed = [p for p in sorted(reads) if p not in here]
        for p in reads & set(here):
            here[p] = (t, p)
        for p in missed:
            if len(here) >= room:
                old = [q for q in here if here[q][0] < t]
                if not old:
                    break
                del here[min(old, key=here.__getitem__)]
            here[p] = (t, p)
    return held


def held_at(schedule: Schedule, reads: PageReads) -> list[set[int]]:
    table = schedule.resident(reads.steps, reads.n_pages)
    return [set(np.flatnonzero(row).tolist()) for row in table]


@settings(max_examples=examples(100), deadline=None)
@given(cases().filter(lambda c: c.tiers.hbm_pages > 0))
def test_lru_equals_its_definition(case: Case) -> None:
    resident = case.resident()
    found = held_at(lru(case.reads, case.tiers, resident), case.reads)
    start = np.flatnonzero(resident).tolist()
    assert found == lru_by_definition(sets_of(case.reads), start, case.tiers.hbm_pages)


def belady_hits(sets: list[set[int]], resident: set[int], room: int) -> list[int]:
    """Hits of each step; a tie between equally far next reads changes none of them."""

    def next_read(page: int, after: int) -> int:
        return next((t for t in range(after, len(sets)) if page in sets[t]), len(sets))

    here = set(resident)
    hits = []
    for t, reads in enumerate(sets):
        hits.append(len(reads & here))
        wanted = [p for p in here | reads if next_read(p, t + 1) < len(sets)]
        here = set(sorted(wanted, key=lambda p: next_read(p, t + 1))[:room])
    return hits


@settings(max_examples=examples(60), deadline=None)
@given(cases())
def test_belady_has_the_hits_of_its_definition(case: Case) -> None:
    resident = case.resident()
    reads = case.reads
    schedule = belady(reads, case.tiers, resident)
    hits = case.cost(schedule).hits
    wanted = belady_hits(
        sets_of(reads), set(np.flatnonzero(resident).tolist()), case.tiers.hbm_pages
    )
    born_now = [
        int((reads.born[reads.pages[reads.offsets[t] : reads.offsets[t + 1]]] == t).sum())
        for t in range(reads.steps)
    ]
    assert hits.tolist() == [h + b for h, b in zip(wanted, born_now, strict=True)]


def window_share_by_definition(
    reads: PageReads, resident: list[int], room: int, window: int, share: float
) -> list[set[int]]:
    sets = sets_of(reads)
    here = set(resident)
    held = []
    for t in range(reads.steps):
        count = [sum(p in s for s in sets[t : t + window]) for p in range(reads.n_pages)]
        out = sorted(
            (p for p in range(reads.n_pages) if p not in here and reads.born[p] < t),
            key=lambda p: (-count[p], p),
        )
        inside = sorted(here, key=lambda p: (count[p], p))
        fills = 0
        while len(here) + fills < room and fills < len(out) and count[out[fills]] > 0:
            fills += 1
        rest = out[fills:]
        pairs = 0
        while pairs < min(len(rest), len(inside)) and count[rest[pairs]] > count[inside[pairs]]:
            pairs += 1
        moved = math.ceil(share * pairs)
        here |= set(out[: fills + moved])
        here -= set(inside[:moved])
        held.append(set(here))
    return held


@settings(max_examples=examples(100), deadline=None)
@given(cases(), st.integers(1, 12), st.integers(0, 10))
def test_window_share_equals_its_definition(case: Case, window: int, tenths: int) -> None:
    resident = case.resident()
    schedule = window_share_schedule(case.reads, case.tiers, resident, window, tenths / 10)
    wanted = window_share_by_definition(
        case.reads,
        np.flatnonzero(resident).tolist(),
        case.tiers.hbm_pages,
        window,
        tenths / 10,
    )
    assert held_at(schedule, case.reads) == wanted


@settings(max_examples=examples(40), deadline=None)
@given(cases())
def test_the_page_oracle_hits_as_many_pages_as_fit(case: Case) -> None:
    """From step 1 on: all it reads that was written before, up to the capacity."""
    cost = case.cost(page_oracle(case.reads, case.tiers, case.resident()))
    for t, reads in enumerate(sets_of(case.reads)):
        if t > 0:
            born = case.reads.born
            old = sum(born[p] < t for p in reads)
            assert cost.hits[t] == min(old, case.tiers.hbm_pages) + (len(reads) - old)


def test_the_rounding_meets_the_bound_where_the_program_is_integral() -> None:
    reads = synthetic_reads(60, 40, 0.6, seed=3)
    case = Case(reads, TwoTiers(10.0, 1.0, 15))
    solved = solved_for_rounding(case)
    best = rounded(case, solved, mip_s=5.0)
    assert case.cost(best.schedule).time_s == pytest.approx(solved.bound_s, rel=5e-3)


def test_a_seed_gives_the_same_schedule_twice() -> None:
    reads = synthetic_reads(80, 60, 0.8, seed=4, born_every=9)
    case = Case(reads, TwoTiers(10.0, 1.0, 20), seen=mass_of(reads))
    for name, run in policies().items():
        one, two = run(case, 7).schedule, run(case, 7).schedule
        assert one.page.tobytes() == two.page.tobytes(), name
        assert one.first.tobytes() == two.first.tobytes(), name
        assert one.last.tobytes() == two.last.tobytes(), name


def test_the_policies_that_draw_are_those_that_a_seed_changes() -> None:
    reads = synthetic_reads(80, 60, 0.8, seed=4, born_every=9)
    case = Case(reads, TwoTiers(10.0, 1.0, 20), seen=mass_of(reads))
    found = set()
    for name, run in {**policies(), **studies()}.items():
        one, two = run(case, 1).schedule, run(case, 2).schedule
        if not (np.array_equal(one.page, two.page) and np.array_equal(one.first, two.first)):
            found.add(name)
    # At a hundred percent, and by annealing, two seeds never meet; a few in ten may.
    assert found | {"window-share", "lp-rounding"} == DRAWING
    assert "belady-error-100" in found


def test_the_policies_that_follow_mass_are_those_that_a_trace_without_it_stops() -> None:
    case = Case(synthetic_reads(20, 5, 0.5, seed=1), TwoTiers(10.0, 1.0, 5))
    found = set()
    for name, run in {**policies(), **studies()}.items():
        try:
            run(case, 0)
        except ValueError:
            found.add(name)
    assert found == FOLLOWING_MASS


def test_predictions_that_are_all_wrong_cost_more_than_right_ones() -> None:
    case = Case(synthetic_reads(300, 200, 0.6, seed=4), TwoTiers(10.0, 1.0, 75))
    times = [case.cost(belady(case.reads, case.tiers, case.resident(), error=e)).time_s
             for e in (0.0, 0.5, 1.0)]  # fmt: skip
    assert times[0] < times[1] < times[2]


def test_a_balanced_policy_leaves_work_to_the_slow_tier_where_room_is_plenty() -> None:
    """Every page is read at every step and fits: HBM alone takes 11 / 10 of both together."""
    reads = reads_of_sets([set(range(110))] * 60, [-1] * 110)
    case = Case(reads, TwoTiers(10.0, 1.0, 110))
    solved = bound(reads, case.tiers, case.may_start_resident())
    found = {
        name: case.cost(policies()[name](case, 0).schedule).time_s / solved.bound_s
        for name in ("ewma-reads", "ewma-reads-balanced")
    }
    assert found["ewma-reads"] == pytest.approx(1.1, rel=1e-3)
    assert found["ewma-reads-balanced"] < 1.02


def test_a_predictor_of_mass_needs_mass() -> None:
    case = Case(synthetic_reads(20, 5, 0.5, seed=1), TwoTiers(10.0, 1.0, 5))
    with pytest.raises(ValueError, match="follows attention mass"):
        policies()["learned"](case, 0)


def test_a_policy_that_knows_more_steps_hits_more() -> None:
    case = Case(synthetic_reads(200, 60, 0.8, seed=9), TwoTiers(10.0, 1.0, 50))
    predictor = Predictor("x", (Feature("reads", 0.9, 1.0),))
    hits = []
    for known in (0, 1, 4, 60):
        kept = retain(
            case.reads, case.tiers, case.resident(), predictor, Retention(foresight=known)
        )
        hits.append(int(case.cost(kept.schedule).hits.sum()))
    assert hits[0] < hits[1] < hits[2]
    # All of the future, soonest first, is what Belady keeps.
    most = int(case.cost(belady(case.reads, case.tiers, case.resident())).hits.sum())
    assert hits[3] == most
