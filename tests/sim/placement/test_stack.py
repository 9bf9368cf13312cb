"""Placement over K tiers: the evaluator, its twins, every policy and the bound below them."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.bounds.exact import optimum
from vsim.sim.bounds.tier_ascent import StackBound, bound_stack
from vsim.sim.placement.belady import belady
from vsim.sim.placement.case import Case
from vsim.sim.placement.lru import lru
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.stack.belady_cascade import belady_cascade
from vsim.sim.placement.stack.case import StackCase, StackPlacement
from vsim.sim.placement.stack.cost import exact_stack_seconds
from vsim.sim.placement.stack.lru_cascade import lru_cascade
from vsim.sim.placement.stack.operations import stack_operations
from vsim.sim.placement.stack.path_annealing import path_annealing
from vsim.sim.placement.stack.policies import (
    guided,
    ranking_predictors,
    stack_policies,
    two_tier_policies,
)
from vsim.sim.placement.stack.price_guided import price_guided
from vsim.sim.placement.stack.ranked_cascade import ranked_cascade
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.placement.stack.waterfall import waterfall
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.tier_stack import TierStack
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads

ONLINE = [name for name, run in stack_policies().items() if name != "belady"]


@st.composite
def stacks(draw: st.DrawFn, pages: int, tiers: int | None = None) -> TierStack:
    tiers = draw(st.integers(2, 4)) if tiers is None else tiers
    return TierStack(
        bytes_per_s=tuple(draw(st.sampled_from([3.35e12, 1e12, 1e11, 2e10])) for _ in range(tiers)),
        pages=(*(draw(st.integers(0, pages)) for _ in range(tiers - 1)), None),
        weight_bytes=draw(st.sampled_from([0, 300_000])),
        duplex=draw(st.booleans()),
        exclusive=draw(st.booleans()),
        norm=draw(st.sampled_from([math.inf, math.inf, 8.0, 2.0, 1.0])),
    )


@st.composite
def traces(draw: st.DrawFn) -> PageReads:
    return synthetic_reads(
        draw(st.integers(5, 40)),
        draw(st.integers(2, 30)),
        draw(st.sampled_from([0.3, 0.6, 0.8, 0.9])),
        seed=draw(st.integers(0, 1000)),
        born_every=draw(st.sampled_from([0, 1, 3])),
    )


@st.composite
def cases(draw: st.DrawFn, tiers: int | None = None) -> StackCase:
    reads = draw(traces())
    start = draw(st.sampled_from(["first-fill", "empty", "free"]))
    return StackCase(reads, draw(stacks(reads.n_pages, tiers)), start, mass_of(reads))


def mass_of(reads: PageReads) -> Seen:
    draw = np.random.Generator(np.random.PCG64(1))
    relative = draw.uniform(0, 5, reads.reads).astype(np.float32)
    return Seen(reads.offsets, reads.pages, relative)


@st.composite
def schedules(draw: st.DrawFn, case: StackCase) -> TierSchedule:
    """Any schedule that fits: pages are sent to random tiers at random steps, if they have room."""
    reads, stack = case.reads, case.stack
    random = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    restless = draw(st.sampled_from([0.05, 0.3, 1.0]))
    last = stack.tiers - 1
    table = np.full((reads.n_pages, reads.steps), last, np.int8)
    room = np.tile(stack.room(), (reads.steps, 1))
    for p in range(reads.n_pages):
        here = int(random.integers(stack.tiers))
        for t in range(reads.born[p] + 1, reads.steps):
            if random.random() < restless:
                here = int(random.integers(stack.tiers))
            if here < last and room[t, here] > 0:
                room[t, here] -= 1
                table[p, t] = here
    return TierSchedule.of_table(table, last)


def sets_of(reads: PageReads) -> list[set[int]]:
    return [
        set(reads.pages[reads.offsets[t] : reads.offsets[t + 1]].tolist())
        for t in range(reads.steps)
    ]


def seconds_by_definition(case: StackCase, schedule: TierSchedule) -> list[float]:
    """The time of each step by the words of `TierStack`, page by page and without its tables."""
    reads, stack = case.reads, case.stack
    last = stack.tiers - 1
    where = {
        (int(p), t): int(i)
        for p, i, first, end in zip(
            schedule.page, schedule.tier, schedule.first, schedule.last, strict=True
        )
        for t in range(first, end + 1)
    }
    sets, given = sets_of(reads), case.may_start()
    found = []
    for t in range(reads.steps):
        up, down = [0] * stack.tiers, [0] * stack.tiers
        for p in range(reads.n_pages):
            born = int(reads.born[p])
            if born == t:
                up[0] += p in sets[t]
                down[last] += not stack.exclusive
            if born >= t:
                continue
            here = where.get((p, t), last)
            up[here] += p in sets[t]
            if t == born + 1 and born >= 0:
                before = 0
            elif t == 0:
                before = here if given[p] < 0 else int(given[p])
            else:
                before = where.get((p, t - 1), last)
            if here == before:
                continue
            on_gpu = t > 0 and (p in sets[t - 1] or born == t - 1)
            if here == last and not stack.exclusive:
                continue
            if before > 0 and (stack.exclusive or not on_gpu):
                up[before] += 1
            if here > 0:
                down[here] += 1
        times = [(stack.weight_bytes + up[0] * reads.page_bytes) / stack.bytes_per_s[0]]
        for i in range(1, stack.tiers):
            pages = max(up[i], down[i]) if stack.duplex else up[i] + down[i]
            times.append(pages * reads.page_bytes / stack.bytes_per_s[i])
        if math.isinf(stack.norm):
            found.append(max(times))
        else:
            found.append(sum(x**stack.norm for x in times) ** (1 / stack.norm))
    return found


@settings(max_examples=examples(120), deadline=None)
@given(st.data())
def test_the_evaluator_equals_the_rules_of_a_stack_written_out(data: st.DataObject) -> None:
    case = data.draw(cases())
    schedule = data.draw(schedules(case))
    cost = case.cost(schedule)
    wanted = seconds_by_definition(case, schedule)
    if math.isinf(case.stack.norm):
        assert cost.step_s.tolist() == wanted
        exact = exact_stack_seconds(case.reads, case.stack, cost)
        assert float(exact) == pytest.approx(cost.time_s, rel=1e-12)
    else:
        assert cost.step_s.tolist() == pytest.approx(wanted, rel=1e-12)
    assert int(cost.hits.sum()) == case.reads.reads
    alive = [(case.reads.born < t).sum() for t in range(case.reads.steps)]
    assert cost.occupancy.sum(axis=1).tolist() == alive


@settings(max_examples=examples(120), deadline=None)
@given(st.data())
def test_two_tiers_cost_what_the_evaluator_of_two_tiers_says(data: st.DataObject) -> None:
    """Exactly, step by step: exclusive and inclusive, duplex and simplex, every start and norm."""
    case = data.draw(cases(tiers=2))
    schedule = data.draw(schedules(case))
    stack = case.stack
    two = Case(case.reads, two_tiers_of(stack), case.start)
    wanted = two.cost(Schedule.of(schedule.page, schedule.first, schedule.last))
    cost = case.cost(schedule)
    assert cost.step_s.tolist() == wanted.step_s.tolist()
    assert cost.hits.tolist() == np.stack([wanted.hits, wanted.misses], axis=1).tolist()
    assert cost.occupancy[:, 0].tolist() == wanted.occupancy.tolist()
    assert cost.moves.tolist() == [[0, wanted.demoted.sum()], [wanted.promoted.sum(), 0]]


def two_tiers_of(stack: TierStack) -> TwoTiers:
    return TwoTiers(
        *stack.bytes_per_s,
        int(stack.room()[0]),
        weight_bytes=stack.weight_bytes,
        exclusive=stack.exclusive,
        duplex=stack.duplex,
        norm=stack.norm,
    )


def test_a_page_goes_down_and_up_three_tiers_at_the_prices_of_their_channels() -> None:
    reads = reads_of_sets([{0}, set(), set(), {0}, set()], [-1], 60)
    schedule = TierSchedule.of([0, 0, 0], [0, 1, 0], [0, 1, 4], [0, 2, 4])
    for exclusive, wanted in (
        # HBM read; down to tier 1; nothing; up from 1 and down to 2, where it is read: simplex
        # counts both on 2; up from 2.
        (True, [60 / 6, 60 / 3, 0.0, 2 * 60 / 2, 60 / 2]),
        # The last tier has a copy: dropping is free, and what was read there stays in HBM.
        (False, [60 / 6, 60 / 3, 0.0, 60 / 2, 0.0]),
    ):
        stack = TierStack((6.0, 3.0, 2.0), (1, 1, None), duplex=False, exclusive=exclusive)
        cost = StackCase(reads, stack).cost(schedule)
        assert cost.step_s.tolist() == wanted


def test_schedules_that_do_not_fit_are_refused() -> None:
    reads = reads_of_sets([{0}, {0, 1}, {0}], [-1, 1], 10)
    case = StackCase(reads, TierStack((6.0, 3.0, 2.0), (1, 1, None)))
    with pytest.raises(ValueError, match="step 2 holds 2 pages in tier 1; it has room for 1"):
        case.cost(TierSchedule.of([0, 1], [1, 1], [0, 2], [2, 2]))
    with pytest.raises(ValueError, match="writes it"):
        case.cost(TierSchedule.of([1], [0], [1], [2]))
    with pytest.raises(ValueError, match="2 tiers above the last"):
        case.cost(TierSchedule.of([0], [2], [0], [2]))
    with pytest.raises(ValueError, match="overlap"):
        TierSchedule.of([0, 0], [0, 1], [0, 1], [1, 2])


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_schedule_survives_its_table(data: st.DataObject) -> None:
    case = data.draw(cases())
    given_ = data.draw(schedules(case))
    last = case.stack.tiers - 1
    again = TierSchedule.of_table(given_.table(case.reads.steps, case.reads.n_pages, last), last)
    joined = TierSchedule.of(given_.page, given_.tier, given_.first, given_.last)
    for name in ("page", "tier", "first", "last"):
        assert getattr(again, name).tolist() == getattr(joined, name).tolist()


def solved(case: StackCase) -> StackBound:
    return bound_stack(case.reads, case.stack, case.may_start(), evaluations=5)


@settings(max_examples=examples(60), deadline=None)
@given(cases(), st.integers(0, 5))
def test_no_policy_is_below_the_certificate(case: StackCase, seed: int) -> None:
    """Every policy, start, cost model and number of tiers."""
    bound = solved(case)
    runs = stack_policies()
    found = [run(case) for run in runs.values()]
    if case.stack.tiers == 2:
        found += [run(case) for run in two_tier_policies(seed).values()]
    found += guided_quickly(case, bound, seed)
    for placement in found:
        cost = case.cost(placement.schedule)
        if math.isinf(case.stack.norm):
            exact = exact_stack_seconds(case.reads, case.stack, cost)
            assert exact >= bound.certificate.exact_s, placement.name
        assert cost.time_s >= bound.bound_s * (1 - 1e-12), placement.name


def guided_quickly(case: StackCase, bound: StackBound, seed: int) -> list[StackPlacement]:
    first = [waterfall(case), belady_cascade(case)]
    priced = price_guided(case, bound.lam, bound.mu, first, seed=seed)
    annealed = path_annealing(case, bound.lam, bound.mu, priced, proposals=3000, seed=seed)
    assert case.cost(priced).time_s <= min(case.cost(s).time_s for s in first)
    assert case.cost(annealed).time_s <= case.cost(priced).time_s
    return [
        StackPlacement("price-guided", priced, True),
        StackPlacement("path-annealing", annealed, True),
    ]


@settings(max_examples=examples(15), deadline=None)
@given(cases())
def test_the_same_case_and_seed_give_the_same_schedule(case: StackCase) -> None:
    bound = solved(case)
    again = solved(case)
    assert again.certificate == bound.certificate
    runs = stack_policies()
    one = [run(case) for run in runs.values()] + guided_quickly(case, bound, 3)
    two = [run(case) for run in runs.values()] + guided_quickly(case, again, 3)
    for a, b in zip(one, two, strict=True):
        for name in ("page", "tier", "first", "last"):
            assert getattr(a.schedule, name).tolist() == getattr(b.schedule, name).tolist()


@settings(max_examples=examples(40), deadline=None)
@given(cases(), st.integers(1, 29), st.integers(0, 1000))
def test_an_online_policy_places_pages_at_a_step_by_what_was_read_up_to_it(
    case: StackCase, step: int, seed: int
) -> None:
    """Whatever is read later, the tiers up to that step are the same."""
    reads = case.reads
    if step >= reads.steps:
        return
    draw = np.random.Generator(np.random.PCG64(seed))
    sets = sets_of(reads)
    for t in range(step, reads.steps):
        alive = np.flatnonzero(reads.born <= t)
        sets[t] = set(draw.choice(alive, draw.integers(1, len(alive) + 1), replace=False).tolist())
    other = reads_of_sets(sets, reads.born.tolist(), reads.page_bytes)
    relative = case.seen.relative if case.seen else np.zeros(0, np.float32)
    known = int(reads.offsets[step])
    mass = np.concatenate([relative[:known], np.ones(other.reads - known, np.float32)])
    changed = replace(case, reads=other, seen=Seen(other.offsets, other.pages, mass))
    for name in ONLINE:
        run = stack_policies()[name]
        first = table_of(case, run(case).schedule)[:, :step]
        second = table_of(changed, run(changed).schedule)[:, :step]
        assert (first == second).all(), name


def table_of(case: StackCase, schedule: TierSchedule) -> npt.NDArray[np.int8]:
    return schedule.table(case.reads.steps, case.reads.n_pages, case.stack.tiers - 1)


def settled(
    here: dict[int, int],
    new: set[int],
    candidates: set[int],
    score: dict[int, float],
    room: list[int],
) -> dict[int, int]:
    """The cascade by its definition: where pages are next, from sorted lists."""
    last = len(room)
    found = {p: i for p, i in here.items() if p not in new}
    displaced, placed = set(new), set()
    for i in range(last):
        mine = [p for p in sorted(here, reverse=True) if p not in new | placed and here[p] == i]
        enter = [
            p
            for p in sorted(here)
            if p not in placed
            and (p in displaced or (p in candidates and here[p] > i))
            and score[p] > -math.inf
        ]
        kept = sorted(mine + enter, key=lambda p: -score[p])[: room[i]]
        displaced |= set(mine) - set(kept)
        placed |= set(kept)
        found.update(dict.fromkeys(kept, i))
    for p in displaced - placed:
        found[p] = last
    return found


def cascade_by_definition(case: StackCase, *, oracle: bool) -> list[list[int]]:
    """LRU or Belady over tiers: the tier of each page at each step."""
    reads, stack, sets = case.reads, case.stack, sets_of(case.reads)
    last, steps = stack.tiers - 1, reads.steps
    here = {p: int(i) for p, i in enumerate(case.starts()) if reads.born[p] < 0}
    table = [[last] * steps for _ in range(reads.n_pages)]
    for u in range(steps):
        known = u if stack.exclusive else u - 1
        new = {p for p in range(reads.n_pages) if reads.born[p] == u - 1 and u > 0}
        here |= dict.fromkeys(new, 0)
        if known >= 0:
            candidates = {p for p in sets[known] if reads.born[p] < u}
            score = {}
            for p in here:
                past = [t for t in range(known + 1) if p in sets[t]]
                following = [t for t in range(known + 1, steps) if p in sets[t]]
                if not oracle:
                    score[p] = float(past[-1] if past else reads.born[p])
                elif stack.exclusive and p in sets[u] and here[p] == 0 and p not in new:
                    score[p] = 1.0
                else:
                    score[p] = -float(following[0]) if following else -math.inf
            here = settled(here, new, candidates, score, stack.room().tolist())
        for p, i in here.items():
            table[p][u] = i
    return table


@settings(max_examples=examples(100), deadline=None)
@given(cases())
def test_lru_and_belady_equal_their_definitions(case: StackCase) -> None:
    for oracle, run in ((False, lru_cascade), (True, belady_cascade)):
        wanted = cascade_by_definition(case, oracle=oracle)
        assert table_of(case, run(case)).tolist() == wanted


@settings(max_examples=examples(60), deadline=None)
@given(cases(tiers=2))
def test_two_inclusive_tiers_are_placed_as_by_the_policies_of_two_tiers(case: StackCase) -> None:
    """LRU and Belady hit alike, if each page is read in the step that writes it."""
    born = case.reads.born
    first = {p: t for t, pages in reversed(list(enumerate(sets_of(case.reads)))) for p in pages}
    if any(b >= 0 and first.get(p) != b for p, b in enumerate(born.tolist())):
        return
    case = replace(case, stack=replace(case.stack, exclusive=False))
    two = Case(case.reads, two_tiers_of(case.stack), case.start)
    for mine, theirs in ((lru_cascade, lru), (belady_cascade, belady)):
        hits = case.cost(mine(case)).hits[:, 0].tolist()
        assert hits == two.cost(theirs(two.reads, two.tiers, two.resident())).hits.tolist()


def test_a_ranked_cascade_that_follows_mass_needs_mass() -> None:
    reads = synthetic_reads(20, 5, 0.5, seed=1)
    case = StackCase(reads, TierStack((4.0, 2.0, 1.0), (4, 4, None)))
    with pytest.raises(ValueError, match="the trace has none"):
        ranked_cascade(case, ranking_predictors()["ewma-mass"])


def test_bandwidths_are_balanced_where_the_tiers_below_have_time_left() -> None:
    """Fast lower tiers and pages that are read always: LRU leaves all reads to HBM, ranking not."""
    reads = reads_of_sets([set(range(60))] * 60, [-1] * 60)
    case = StackCase(reads, TierStack((2e9, 1e9, 1e9), (60, 60, None), exclusive=False))
    ranked = case.cost(ranked_cascade(case, ranking_predictors()["ewma-reads"]))
    balanced = case.cost(lru_cascade(case, balanced=True))
    plain = case.cost(lru_cascade(case))
    assert plain.hit_ratios[0] == 1.0
    assert balanced.time_s < 0.9 * plain.time_s
    assert ranked.time_s < 0.7 * plain.time_s
    assert min(ranked.hit_ratios[1:]) > 0.1


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_operations_replayed_from_the_start_find_every_page_where_they_read_it(
    data: st.DataObject,
) -> None:
    case = data.draw(cases())
    reads, stack = case.reads, case.stack
    schedule = data.draw(schedules(case))
    cost = case.cost(schedule)
    names = (*("hbm", "peer", "host")[: stack.tiers - 1], "last")
    table = stack_operations(case, schedule, cost, names).to_pylist()
    given_ = case.may_start()
    where = table_of(case, schedule)
    here = {
        p: names[int(where[p, 0]) if given_[p] < 0 else int(given_[p])]
        if reads.born[p] < 0
        else "hbm"
        for p in range(reads.n_pages)
    }
    moved = 0
    attended = set()
    for number, row in enumerate(table):
        assert row["id"] == number
        for p in row["pages"]:
            if row["kind"] == "attend":
                fresh = reads.born[p] == row["step"]
                assert row["source_tier"] == ("hbm" if fresh else here[p])
                attended.add((row["step"], p))
                if fresh:
                    here[p] = "hbm"
            elif row["kind"] == "evict":
                assert here[p] == row["source_tier"]
                here[p] = "last"
            else:
                moved += row["bytes"] // len(row["pages"])
                here[p] = row["target_tier"]
        for before in row["depends_on"]:
            assert table[before]["kind"] == "attend"
            assert set(row["pages"]) <= set(table[before]["pages"])
    assert len(attended) == reads.reads
    assert moved == cost.moved_bytes


@pytest.mark.parametrize("duplex", [True, False])
def test_the_best_schedule_of_two_exclusive_tiers_meets_the_exact_optimum(duplex: bool) -> None:
    """And the bound is within a hundredth of it: on small cases neither side is loose."""
    reads = synthetic_reads(24, 10, 0.6, seed=1, born_every=4, drift=0.9)
    case = StackCase(reads, TierStack((4.0, 1.0), (6, None), duplex=duplex))
    tiers = two_tiers_of(case.stack)
    best = optimum(reads, tiers, case.starts() == 0).time_s
    bound = bound_stack(reads, case.stack, case.may_start(), evaluations=200)
    assert 0.99 * best < bound.bound_s <= best * (1 + 1e-9)
    annealed = guided(case, bound, anneal=True)["path-annealing"].schedule
    assert case.cost(annealed).time_s == pytest.approx(best, rel=0.01)
