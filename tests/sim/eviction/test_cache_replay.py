"""Replays of a fixed order: exact counts on a generated trace, prefixes, and refused arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.sim.eviction.cache_replay import (
    CacheResult,
    _specialised,
    access_all,
    access_requests,
    densify,
    replay,
    replay_prefixes,
)
from vsim.sim.eviction.registry import ALGORITHMS
from vsim.traces.faults import InputError

N_KEYS, ACCESSES, CAPACITY = 1000, 12_000, 100


def generated_trace():
    """Zipf with weight 1, a scan in the middle, and a shift of what is popular at the end."""
    draw = np.random.Generator(np.random.PCG64(20))
    cumulative = np.cumsum(1 / np.arange(1, N_KEYS + 1))
    keys = np.searchsorted(cumulative, draw.random(ACCESSES) * cumulative[-1])
    keys[5000:5500] = np.arange(300, 800)
    keys[9000:] = (keys[9000:] + 500) % N_KEYS
    return keys.astype(np.int32)


RANKS = np.arange(N_KEYS, dtype=np.int64) % 7 + 1
GOLDEN_MISSES = {
    "lru": 5_377,
    "clock": 5_231,
    "lfu": 6_092,
    "fifo": 5_964,
    "2q": 4_784,
    "arc": 4_708,
    "sieve": 5_027,
    "s3-fifo": 4_642,
    "priority": 10_097,
    "cost": 5_079,
}


def twin_misses(policy):
    """Drive a twin as a cache of its own."""
    twin, ref = ALGORITHMS[policy].twin(CAPACITY), [0] * CAPACITY
    slot_of, key_of, missed = {}, {}, 0
    for key in generated_trace().tolist():
        if key in slot_of:
            twin.hit(slot_of[key])
            continue
        missed += 1
        twin.expect(key)
        slot = len(key_of)
        if slot == CAPACITY:
            slot = twin.victim(ref)
            del slot_of[key_of[slot]]
        slot_of[key], key_of[slot] = slot, key
        twin.insert(slot, key, int(RANKS[key]))
    return missed


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_misses_on_the_generated_trace_are_exact(policy):
    result = replay(generated_trace(), CAPACITY, policy, n_keys=N_KEYS, ranks=RANKS)
    assert result == CacheResult(
        ACCESSES, ACCESSES - GOLDEN_MISSES[policy], GOLDEN_MISSES[policy] - CAPACITY
    )


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_twins_give_the_same_misses_on_the_generated_trace(policy):
    assert twin_misses(policy) == GOLDEN_MISSES[policy]


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_a_cache_that_holds_everything_misses_each_key_once(policy):
    keys = generated_trace()
    distinct = len(np.unique(keys))
    assert replay(keys, distinct, policy) == CacheResult(ACCESSES, ACCESSES - distinct, 0)


def naive_prefixes(requests, capacity):
    """Contiguous hits of each request in an LRU cache: a dictionary, least recent first."""
    cache, hits = {}, []
    for request in requests:
        found = [block in cache for block in request]
        hits.append(found.index(False) if False in found else len(found))
        for block in reversed(request):
            if block in cache:
                del cache[block]
            elif len(cache) == capacity:
                del cache[next(iter(cache))]
            cache[block] = None
    return hits


@given(
    requests=st.lists(st.lists(st.integers(0, 15), max_size=8, unique=True), max_size=40),
    capacity=st.integers(1, 12),
)
@settings(deadline=None)  # the first example compiles
def test_prefix_hits_under_lru_equal_a_plain_dictionary(requests, capacity):
    keys = np.array([block for request in requests for block in request], np.int64)
    offsets = np.cumsum([0, *map(len, requests)])
    result = replay_prefixes(offsets, keys, capacity, "lru", n_keys=16)
    assert result.hits.tolist() == naive_prefixes(requests, capacity)
    assert result.blocks == len(keys)


@pytest.mark.parametrize("policy", ALGORITHMS)
def test_prefixes_of_one_block_count_the_same_hits_as_single_accesses(policy):
    keys = generated_trace()
    result = replay_prefixes(np.arange(ACCESSES + 1), keys, CAPACITY, policy)
    single = replay(keys, CAPACITY, policy)
    assert int(result.hits.sum()) == single.hits
    assert result.evictions == single.evictions
    assert result.hit_ratio == single.hits / ACCESSES


def test_a_prompts_last_block_is_evicted_before_the_prefix_it_needs():
    result = replay_prefixes(np.array([0, 3, 4, 7]), np.array([1, 2, 3, 9, 1, 2, 3]), 3, "lru")
    assert result.hits.tolist() == [0, 0, 2]


def test_a_hit_after_a_miss_in_the_same_request_is_no_prefix_hit():
    result = replay_prefixes(np.array([0, 3, 6]), np.array([1, 2, 3, 1, 9, 3]), 10, "lru")
    assert result.hits.tolist() == [0, 1]


@pytest.mark.parametrize("loop", [access_all, access_requests])
def test_a_loop_is_compiled_once_whatever_it_is_given(loop):
    kept = np.zeros(3, np.int32)
    kept.flags.writeable = False
    for keys in (kept, np.arange(9)[::3] // 9, np.array([1, 0, 1], np.int8)):
        for capacity in (1, 2, np.int64(3)):
            n_keys = int(keys.max()) + 1
            for ranks in (None, np.ones(n_keys, np.int32), np.ones(2 * n_keys, np.int64)[::2]):
                given = {"n_keys": n_keys, "ranks": ranks}
                if loop is access_all:
                    replay(keys, capacity, "fifo", **given)
                else:
                    replay_prefixes([0, 1, 3], keys, capacity, "fifo", **given)
    assert len(_specialised(loop, ALGORITHMS["fifo"]).signatures) == 1


def test_densify_numbers_ids_in_ascending_order():
    keys, n_keys = densify(np.array([[2**60, -5], [7, 2**60]]))
    assert keys.dtype == np.int32
    assert keys.tolist() == [[2, 0], [1, 2]]
    assert n_keys == 3


def test_an_empty_trace_has_no_misses():
    result = replay(np.zeros(0, np.int32), 4, "arc")
    assert result == CacheResult(0, 0, 0)
    assert result.miss_ratio == 0.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"policy": "lur"}, "'lur' is unknown .did you mean 'lru'"),
        ({"capacity": 0}, "0 keys hold nothing"),
        ({"keys": np.array([-1])}, "densify"),
        ({"keys": np.array([2**40])}, "densify"),
        ({"n_keys": 3}, "must lie in 0 .. 2"),
        ({"ranks": np.ones(2, np.int64)}, "one for each of 4 keys"),
        ({"policy": "cost", "ranks": -np.ones(4, np.int64)}, "costs are at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, says):
    given_arguments = {"keys": np.arange(4), "capacity": 2, "policy": "lru", **arguments}
    with pytest.raises(InputError, match=says):
        replay(**given_arguments)


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 5, 4], []])
def test_offsets_that_do_not_fit_the_keys_are_refused(offsets):
    with pytest.raises(InputError, match="must rise from 0 to 4"):
        replay_prefixes(np.array(offsets), np.arange(4), 2, "lru")
