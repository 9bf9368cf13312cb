"""Sharing reads between the tiers: never slower, as even as whole pages allow, and its twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.placement.case import Case
from vsim.sim.placement.lru import lru
from vsim.sim.placement.sharing import share_reads
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers


@st.composite
def cases(draw: st.DrawFn) -> Case:
    reads = synthetic_reads(
        draw(st.integers(5, 40)),
        draw(st.integers(2, 30)),
        draw(st.sampled_from([0.3, 0.6, 0.8])),
        seed=draw(st.integers(0, 1000)),
        born_every=draw(st.sampled_from([0, 1, 3])),
    )
    tiers = TwoTiers(
        draw(st.sampled_from([1.0, 3.0, 10.0, 12.5])),
        1.0,
        draw(st.integers(0, reads.n_pages)),
        weight_bytes=draw(st.sampled_from([0, 3])),
        duplex=draw(st.booleans()),
        norm=draw(st.sampled_from([math.inf, 1.0, 2.0, 6.0])),
    )
    return Case(reads, tiers)


def twin(case: Case, schedule: Schedule) -> list[tuple[int, int]]:
    """(step, page) of every shared read, by sets."""
    reads, tiers = case.reads, case.tiers
    if tiers.norm == 1:
        return []
    factor = 1.0 if math.isinf(tiers.norm) else tiers.ratio() ** (1 / (tiers.norm - 1))
    resident = schedule.resident(reads.steps, reads.n_pages)
    shared = []
    streamed: set[int] = set()
    for t in range(reads.steps):
        read = reads.pages[reads.offsets[t] : reads.offsets[t + 1]].tolist()
        written = {p for p in range(reads.n_pages) if reads.born[p] == t}
        hit = [p for p in read if resident[t, p]]
        arrived = {
            p for p in range(reads.n_pages) if t and resident[t, p] and not resident[t - 1, p]
        }
        slow = len([p for p in read if p not in hit and p not in written])
        slow += len(arrived - streamed) + (0 if tiers.duplex else len(written))
        newborn = len(written & set(read))
        fast = (tiers.weight_bytes / reads.page_bytes + len(hit) + newborn) / tiers.ratio()
        count = int((fast - factor * slow) * tiers.ratio() / (1.0 + factor * tiers.ratio()))
        count = min(max(count, 0), len(hit))
        shared += [
            (t, p) for i, p in enumerate(hit) if (i + 1) * count // len(hit) > i * count // len(hit)
        ]
        streamed = set(read) | written
    return shared


@settings(max_examples=examples(150), deadline=None)
@given(cases())
def test_sharing_is_its_twin_and_makes_no_step_slower(case: Case) -> None:
    alone = lru(case.reads, case.tiers, case.resident())
    found = share_reads(case.reads, case.tiers, alone)
    shape = case.reads.steps, case.reads.n_pages
    left = alone.resident(*shape) & ~found.resident(*shape)
    assert not (found.resident(*shape) & ~alone.resident(*shape)).any()
    assert [(int(t), int(p)) for t, p in np.argwhere(left)] == sorted(twin(case, alone))
    before, after = case.cost(alone), case.cost(found)
    assert (after.promoted <= before.promoted).all()
    assert (after.step_s <= before.step_s * (1 + 1e-12)).all()


def test_both_tiers_take_equally_long_where_everything_fits() -> None:
    """Of 110 hits at 10 : 1, the slow tier takes 10; a page has 4,096 bytes."""
    reads = reads_of_sets([set(range(110))] * 3, [-1] * 110)
    case = Case(reads, TwoTiers(10.0, 1.0, 110))
    everything = Schedule.of(np.arange(110), np.zeros(110), np.full(110, 2))
    cost = case.cost(share_reads(reads, case.tiers, everything))
    assert cost.misses.tolist() == [10, 10, 10]
    assert cost.promoted.tolist() == [0, 0, 0]
    assert cost.step_s == pytest.approx(10 * reads.page_bytes)


def test_an_exclusive_tier_has_no_copies_to_read() -> None:
    reads = reads_of_sets([set(range(20))] * 3, [-1] * 20)
    tiers = TwoTiers(10.0, 1.0, 20, exclusive=True)
    everything = Schedule.of(np.arange(20), np.zeros(20), np.full(20, 2))
    assert share_reads(reads, tiers, everything) is everything
