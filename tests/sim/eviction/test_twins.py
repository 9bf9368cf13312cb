"""Every compiled policy equals its twin, page by page, whatever is in use."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.eviction import dispatch, lru
from vsim.sim.eviction.registry import ALGORITHMS
from vsim.sim.eviction.state import TierPolicy, make_state

N_KEYS = 24
COMPILES = settings(deadline=None, max_examples=examples(100))  # the first example compiles


def use_counts(slots, count=0):
    """How many use each slot: a field of a structured array, as anything may be that is indexed.

    In all tests, since policies are compiled for every type that they meet.
    """
    counts = np.zeros(max(slots, 2), np.dtype([("other", np.int16), ("ref", np.int32)]))["ref"]
    counts[:slots] = count
    return counts


class Side:
    """One tier under test, driven in the compiled policy and in its twin at once."""

    def __init__(self, ev, tier, policy, first, slots):
        self.ev, self.tier = ev, tier
        self.twin = ALGORITHMS[policy].twin(slots)
        self.free = list(range(first, first + slots))
        self.key = {}  # of resident slots

    def residents(self):
        return sorted(self.key)

    def insert(self, key, rank):
        slot = self.free.pop()
        dispatch.on_insert(self.ev, self.tier, slot, key, rank)
        self.twin.insert(slot, key, rank)
        self.key[slot] = key

    def expect(self, key):
        dispatch.expect(self.ev, self.tier, key)
        self.twin.expect(key)

    def hit(self, slot):
        dispatch.on_hit(self.ev, self.tier, slot)
        self.twin.hit(slot)

    def release(self, slot):
        dispatch.on_release(self.ev, self.tier, slot)
        self.twin.release(slot)

    def remove(self, slot):
        dispatch.on_remove(self.ev, self.tier, slot)
        self.twin.remove(slot)
        del self.key[slot]
        self.free.append(slot)

    def victim(self, ref):
        slot = dispatch.victim(self.ev, self.tier, ref)
        assert slot == self.twin.victim(ref.tolist())
        if slot >= 0:
            del self.key[slot]
            self.free.append(slot)
        return slot


def steps_of(seed, length):
    """Draw operations: lists drawn one by one stay too short to fill queues and ghosts.

    Each is what to do, a tier, a number that picks a key or a page, and a rank (0 also leaves out
    `expect`).
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    names = ["access", "use", "end", "remove", "victim"]
    operations = draw.choice(names, length, p=draw.dirichlet([6, 1, 1, 0.2, 0.2])).tolist()
    tiers, ranks = draw.integers(0, 2, length).tolist(), draw.integers(0, 4, length).tolist()
    picks = draw.integers(0, 10**6, length).tolist()
    return list(zip(operations, tiers, picks, ranks, strict=True))


@pytest.mark.parametrize("policy", ALGORITHMS)
@given(
    other=st.sampled_from(sorted(ALGORITHMS)),
    slots=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    steps=st.builds(steps_of, st.integers(0, 2**32 - 1), st.integers(1, 400)),
)
@COMPILES
def test_compiled_policy_gives_the_same_victims_as_its_twin(policy, other, slots, steps):
    ev = make_state(
        [
            TierPolicy(ALGORITHMS[name].kind, n)
            for name, n in zip((policy, other), slots, strict=True)
        ],
        N_KEYS,
    )
    sides = [Side(ev, 0, policy, 0, slots[0]), Side(ev, 1, other, slots[0], slots[1])]
    ref = use_counts(sum(slots))
    for operation, tier, pick, rank in steps:
        side = sides[tier]
        residents = side.residents()
        if operation == "access":
            key = pick % (N_KEYS + 1) - 1  # -1: a page without a key is never found again
            found = [slot for slot in residents if side.key[slot] == key and key >= 0]
            if found:
                side.hit(found[0])
                continue
            if rank > 0:
                side.expect(key)
            if not side.free and side.victim(ref) < 0:
                assert all(ref[slot] > 0 for slot in residents)
                continue
            side.insert(key, rank)
        elif operation == "victim":
            evictable = [slot for slot in residents if ref[slot] == 0]
            victim = side.victim(ref)
            assert (victim in evictable) if evictable else victim == -1
        elif residents:
            slot = residents[pick % len(residents)]
            if operation == "use":
                ref[slot] += 1
                side.hit(slot)
            elif operation == "end" and ref[slot] > 0:
                ref[slot] -= 1
                if ref[slot] == 0:
                    side.release(slot)
            elif operation == "remove":
                ref[slot] = 0
                side.remove(slot)
        assert ev.policy["count"].tolist() == [len(side.key) for side in sides]
    _drain(sides, ref)
    assert ev.policy["parked"].tolist() == [0, 0]


def _drain(sides: Sequence[Side], ref):
    """End all uses: then every resident page can be evicted, once."""
    for side in sides:
        for slot in side.residents():
            if ref[slot] > 0:
                ref[slot] = 0
                side.release(slot)
        left = side.residents()
        assert sorted(side.victim(ref) for _ in left) == left
        assert side.victim(ref) == -1


@pytest.mark.parametrize("policy", ALGORITHMS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=examples(20))
def test_removals_anywhere_leave_the_order_of_the_others(policy, seed):
    pages = 80
    draw = np.random.Generator(np.random.PCG64(seed))
    side = Side(
        make_state([TierPolicy(ALGORITHMS[policy].kind, pages)], pages), 0, policy, 0, pages
    )
    for key in range(pages):
        side.insert(key, int(draw.integers(0, 1000)))
    for slot in draw.integers(0, pages, pages).tolist():
        side.hit(slot)
    for slot in draw.permutation(pages)[: pages // 2].tolist():
        side.remove(slot)
    _drain([side], use_counts(pages))


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_pages_in_use_are_examined_once_and_not_at_every_victim(policy):
    pinned, free = 900, 100
    ev = make_state([TierPolicy(ALGORITHMS[policy].kind, pinned + free)], pinned + free)
    ref = use_counts(pinned + free)
    for slot in range(pinned + free):
        dispatch.on_insert(ev, 0, slot, slot, 1)
    ref[:pinned] = 1
    victims = [dispatch.victim(ev, 0, ref) for _ in range(free)]
    assert sorted(victims) == list(range(pinned, pinned + free))
    assert ev.policy["examined"][0] <= pinned + free
    assert dispatch.victim(ev, 0, ref) == -1
    examined = int(ev.policy["examined"][0])
    assert [dispatch.victim(ev, 0, ref) for _ in range(50)] == [-1] * 50
    assert ev.policy["examined"][0] == examined
    assert ev.policy["parked"][0] == pinned


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_a_page_released_after_parking_can_be_evicted_again(policy):
    ev = make_state([TierPolicy(ALGORITHMS[policy].kind, 3)], 3)
    ref = use_counts(3, 1)
    for slot in range(3):
        dispatch.on_insert(ev, 0, slot, slot, 1)
    assert dispatch.victim(ev, 0, ref) == -1
    ref[1] = 0
    dispatch.on_release(ev, 0, 1)
    assert dispatch.victim(ev, 0, ref) == 1
    assert dispatch.victim(ev, 0, ref) == -1


def test_use_counts_may_be_narrow_integers():
    ev = make_state([TierPolicy(ALGORITHMS["lru"].kind, 2)], 2)
    for slot in range(2):
        dispatch.on_insert(ev, 0, slot, slot, 1)
    ref = np.array([1, 0], np.int8)
    assert lru.victim(ev, 0, ref) == 1
    assert lru.victim(ev, 0, ref) == -1
