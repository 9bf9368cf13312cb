"""With nothing in use, policies are the published algorithms: written again here, key by key."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.eviction.cache_replay import replay

BELADY = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]  # Belady, Nelson, Shedler 1969
COMPILES = settings(deadline=None, max_examples=examples(200))


def trace_of(seed, n_keys):
    """Draw 400 skewed accesses with scans: lists drawn one by one are too short to fill ghosts."""
    draw = np.random.Generator(np.random.PCG64(seed))
    trace = np.minimum(draw.geometric(2 / n_keys, 400), n_keys) - 1
    for start in draw.integers(0, 400 - n_keys, 3):
        trace[start : start + n_keys] = np.arange(n_keys)
    return trace.tolist()


traces = st.builds(trace_of, st.integers(0, 2**32 - 1), st.integers(4, 20))


def misses(trace, capacity, policy, ranks=None):
    ranks = None if ranks is None else np.array(ranks, np.int64)
    return replay(np.array(trace, np.int64), capacity, policy, n_keys=20, ranks=ranks).misses


def arc(trace, c):
    """ARC(c), Figure 4 of the paper; queues are lists, least recent first."""
    t1, t2, b1, b2, p, missed = [], [], [], [], 0.0, 0

    def replace(x):
        if t1 and (len(t1) > p or (x in b2 and len(t1) == p)):
            b1.append(t1.pop(0))
        else:
            b2.append(t2.pop(0))

    for x in trace:
        if x in t1 or x in t2:
            (t1 if x in t1 else t2).remove(x)
            t2.append(x)
            continue
        missed += 1
        if x in b1:
            p = min(c, p + (1 if len(b1) >= len(b2) else len(b2) / len(b1)))
            replace(x)
            b1.remove(x)
            t2.append(x)
        elif x in b2:
            p = max(0, p - (1 if len(b2) >= len(b1) else len(b1) / len(b2)))
            replace(x)
            b2.remove(x)
            t2.append(x)
        else:
            if len(t1) + len(b1) == c:
                if len(t1) < c:
                    b1.pop(0)
                    replace(x)
                else:
                    t1.pop(0)
            elif len(t1) + len(t2) + len(b1) + len(b2) >= c:
                if len(t1) + len(t2) + len(b1) + len(b2) == 2 * c:
                    b2.pop(0)
                replace(x)
            t1.append(x)
    return missed


def two_queue(trace, c):
    """2Q, full version, section 4 of the paper; queues are lists, oldest first."""
    k_in, k_out = max(1, c // 4), max(1, c // 2)
    am, a1_in, a1_out, missed = [], [], [], 0

    def reclaim():
        if len(am) + len(a1_in) < c:
            return
        if len(a1_in) > k_in or not am:
            a1_out.append(a1_in.pop(0))
            if len(a1_out) > k_out:
                a1_out.pop(0)
        else:
            am.pop(0)

    for x in trace:
        if x in am:
            am.remove(x)
            am.append(x)
        elif x in a1_out:
            missed += 1
            a1_out.remove(x)
            reclaim()
            am.append(x)
        elif x not in a1_in:
            missed += 1
            reclaim()
            a1_in.append(x)
    return missed


def s3_fifo(trace, c):
    """S3-FIFO, Algorithm 1 of the paper; queues are lists, oldest first."""
    s, m, g, freq, missed = [], [], [], {}, 0
    main_share = c - -(-c // 10)

    def evict_m():
        while True:
            t = m.pop(0)
            if freq[t] == 0:
                return
            freq[t] -= 1
            m.append(t)

    def evict_s():
        while s:
            t = s.pop(0)
            if freq[t] <= 1:
                g.append(t)
                if len(g) > main_share:
                    g.pop(0)
                return
            freq[t] = 0
            m.append(t)
            if len(m) > main_share:
                evict_m()
                return

    for x in trace:
        if x in s or x in m:
            freq[x] = min(freq[x] + 1, 3)
            continue
        missed += 1
        while len(s) + len(m) >= c:
            if 10 * len(s) >= c:
                evict_s()
            else:
                evict_m()
        if x in g:
            g.remove(x)
            m.append(x)
        else:
            s.append(x)
        freq[x] = 0
    return missed


def sieve(trace, c):
    """SIEVE, Algorithm 1 of the paper; `queue` from head (new) to tail (old)."""
    queue, visited, hand, missed = [], {}, None, 0
    for x in trace:
        if x in queue:
            visited[x] = True
            continue
        missed += 1
        if len(queue) == c:
            o = queue[-1] if hand is None else hand
            while visited[o]:
                visited[o] = False
                o = queue[queue.index(o) - 1]  # -1 after the head is the tail
            place = queue.index(o)
            hand = queue[place - 1] if place > 0 else None
            queue.remove(o)
        queue.insert(0, x)
        visited[x] = False
    return missed


@pytest.mark.parametrize(
    ("policy", "published"),
    [("arc", arc), ("2q", two_queue), ("s3-fifo", s3_fifo), ("sieve", sieve)],
)
@given(trace=traces, capacity=st.integers(1, 15))
@COMPILES
def test_misses_equal_the_published_algorithm(policy, published, trace, capacity):
    assert misses(trace, capacity, policy) == published(trace, capacity)


@pytest.mark.parametrize(
    ("policy", "frames", "faults"), [("fifo", 3, 9), ("fifo", 4, 10), ("lru", 3, 10), ("lru", 4, 8)]
)
def test_the_anomaly_trace_gives_its_published_faults(policy, frames, faults):
    assert misses(BELADY, frames, policy) == faults


@given(trace=traces, capacity=st.integers(1, 15), rank=st.integers(-5, 5))
@COMPILES
def test_priority_with_one_rank_is_lru(trace, capacity, rank):
    assert misses(trace, capacity, "priority", [rank] * 20) == misses(trace, capacity, "lru")


@given(trace=traces, capacity=st.integers(1, 15))
@COMPILES
def test_more_capacity_never_lowers_the_hits_of_lru(trace, capacity):
    assert misses(trace, capacity + 1, "lru") <= misses(trace, capacity, "lru")


@given(trace=traces, capacity=st.integers(1, 15))
@COMPILES
def test_cost_zero_for_all_is_lru(trace, capacity):
    """All pages are worth the inflation, which stays 0, so only the time of last use decides."""
    assert misses(trace, capacity, "cost", [0] * 20) == misses(trace, capacity, "lru")


def test_lfu_keeps_what_is_used_often_and_breaks_ties_by_recency():
    assert misses([0, 0, 1, 2, 0], 2, "lfu") == 3  # 1 leaves, not 0
    assert misses([0, 1, 2, 1], 2, "lfu") == 3  # of 0 and 1, used once each, 0 leaves
    assert misses([0, 1, 2, 0], 2, "lfu") == 4


def test_clock_gives_a_used_page_one_second_chance():
    assert misses([0, 1, 0, 2, 0], 2, "clock") == 3  # 0 was used: 1 leaves
    assert misses([0, 1, 0, 2, 3, 0], 2, "clock") == 5  # its chance is spent: 0 leaves


def test_priority_keeps_the_higher_rank():
    assert misses([0, 1, 2, 0], 2, "priority", [1] + [0] * 19) == 3
    assert misses([0, 1, 2, 0], 2, "priority", [0] + [1] * 19) == 4


def test_cost_aware_keeps_the_dear_page_until_inflation_catches_up():
    """Cost 3 against 1: each eviction of a cheap page raises L by 1, so 0 outlives two of them."""
    costs = [3] + [1] * 19
    assert misses([0, 1, 2, 0], 2, "cost", costs) == 3
    assert misses([0, 1, 2, 3, 0], 2, "cost", costs) == 4
    assert misses([0, 1, 2, 3, 4, 0], 2, "cost", costs) == 6  # at a tie of 3, 0 is the older
