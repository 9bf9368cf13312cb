"""Runs of reused prefix blocks, and the curve of LRU's hits that follows from them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.traces.test_prefix_cache import chains, packed

from vsim.traces.prefix_cache import lru_hits
from vsim.traces.prefix_reuse import PrefixReuse


def test_runs_of_three_prompts() -> None:
    """Of a b c d, a b e and a b c d the last finds a b as the second left them, c d as the first.

    Above a b, in the order of last use, lies nothing; above c d lie a, b and e.
    """
    reuse = PrefixReuse.of(*packed([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4]]))
    assert reuse.request.tolist() == [1, 2, 2]
    assert reuse.last_use.tolist() == [0, 1, 0]
    assert reuse.depth.tolist() == [0, 0, 2]
    assert reuse.count.tolist() == [2, 2, 2]
    assert reuse.above.tolist() == [0, 0, 3]
    assert reuse.lru_hits(np.arange(7)).tolist() == [0, 2, 4, 4, 5, 6, 6]


@settings(deadline=None)
@given(rows=chains(), spread=st.sampled_from([1, 10**12]))
def test_one_pass_equals_a_replay_at_every_capacity(rows: list[list[int]], spread: int) -> None:
    offsets, ids = packed(rows)
    reuse = PrefixReuse.of(offsets, ids * spread)
    capacities = np.arange(1, 60)
    replayed = [lru_hits(offsets, ids, int(size)) for size in capacities]
    assert reuse.lru_hits(capacities).tolist() == [int(hits.sum()) for hits in replayed]
    for size in (1, 3, 17, 59):
        assert reuse.lru_hits_of_requests(size).tolist() == replayed[size - 1].tolist()


def test_no_requests_and_no_reuse_give_a_flat_curve() -> None:
    for rows in ([], [[]], [[1, 2], [3]]):
        reuse = PrefixReuse.of(*packed(rows))
        assert reuse.lru_hits(np.array([0, 1, 100])).tolist() == [0, 0, 0]
        assert len(reuse.lru_curve()[0]) >= 2
