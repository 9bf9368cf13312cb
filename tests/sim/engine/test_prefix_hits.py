"""Prefix hits in fixed order: the engine's equal those of an LRU list in plain Python, exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests
from vsim.traces.synth import SynthSpec, synthesise

from .conftest import make_requests, make_state
from .lru_replay import one_at_a_time, replay_lru
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def engine_hits(requests: Requests, capacity_pages: int, page_tokens: int = 10) -> list[int]:
    """Pages that each request hits when it is served before the next arrives; -1 if rejected."""
    size = f"{capacity_pages * page_tokens * COST.kv_bytes_per_token}B"
    state = make_state(
        one_at_a_time(requests),
        [{"tier": "hbm", "capacity": size}],
        round_machine(),
        cost=COST,
        block_tokens=page_tokens,
        page_tokens=page_tokens,
        reclaim_low=0.0,
        reclaim_high=0.0,
    )
    result = run_engine(state)
    assert result.counters["recomputed"] == 0
    return np.where(result.status == 0, result.hit_tokens // page_tokens, -1).tolist()


def generated(requests: int = 400) -> Requests:
    """Conversations with long prompts, in blocks of 512 as Mooncake's."""
    return synthesise(
        SynthSpec.model_validate(
            {
                "seed": 11,
                "requests": requests,
                "arrivals": {"rate_per_s": 3.4},
                "prompt_tokens": "0.5:6900,0.9:25000,0.99:85400",
                "output_tokens": "0.5:350,0.99:1100",
                "sessions": {
                    "turns_mean": 3,
                    "think_s_mean": 30,
                    "follow_up_tokens": "0.5:500,0.99:8000",
                    "system_prompts": 6,
                    "system_prompt_tokens": 1_100,
                    "zipf": 1.0,
                },
                "block_tokens": 512,
            }
        )
    )


@pytest.mark.parametrize("capacity", [50, 200, 600, 2_000, 100_000])
def test_hits_of_a_generated_trace_equal_the_replay(capacity: int) -> None:
    requests = generated()
    expected = replay_lru(requests, capacity)
    assert engine_hits(requests, capacity, 512) == expected
    assert any(each > 0 for each in expected)


def test_a_larger_lru_cache_never_hits_less() -> None:
    requests = generated()
    fit = [200, 400, 800, 1_600, 3_200, 6_400]
    totals = [np.array(engine_hits(requests, capacity, 512)) for capacity in fit]
    served = np.logical_and.reduce([hits >= 0 for hits in totals])
    sums = [int(hits[served].sum()) for hits in totals]
    assert sums == sorted(sums)
    assert len(set(sums)) > 3


@st.composite
def chains(draw: st.DrawFn, least_rest: int = 0) -> Requests:
    """Prompts that go on from leading parts of earlier ones, in blocks of 10."""
    rows: list[list[int]] = []
    fresh = 0
    for _ in range(draw(st.integers(2, 25))):
        base = draw(st.sampled_from([[], *rows]))
        kept = base[: draw(st.integers(0, len(base)))]
        new = draw(st.integers(0, 5))
        rows.append([*kept, *range(fresh, fresh + new)])
        fresh += new
    n = len(rows)
    # up to a whole block behind the named ones; at times none, so that the last page is a named one
    rest = draw(st.lists(st.integers(least_rest, 10), min_size=n, max_size=n))
    prompt = [max(len(row) * 10 + tail, 1) for row, tail in zip(rows, rest, strict=True)]
    output = draw(st.lists(st.integers(1, 25), min_size=n, max_size=n))
    return make_requests(range(n), prompt, output, rows, 10)


@settings(max_examples=examples(100), deadline=None)
@given(requests=chains(), capacity=st.integers(1, 60))
def test_hits_of_any_trace_equal_the_replay(requests: Requests, capacity: int) -> None:
    assert engine_hits(requests, capacity) == replay_lru(requests, capacity)


@settings(max_examples=examples(60), deadline=None)
@given(requests=chains(least_rest=1), spare=st.integers(0, 30), more=st.integers(1, 20))
def test_more_room_never_lowers_the_hits_of_any_trace(
    requests: Requests, spare: int, more: int
) -> None:
    # All requests fit both times, and no prompt ends with a named page: its last page would be
    # computed again beside the cached one, which ages, where a smaller cache has only a fresh one.
    capacity = int((requests.prompt_tokens + requests.output_tokens).max()) // 10 + 1 + spare
    small, large = (np.array(engine_hits(requests, c)) for c in (capacity, capacity + more))
    assert (large >= small).all()


def test_a_prompt_never_hits_its_last_token() -> None:
    # all 40 tokens are cached; the last page is computed again, for there must be a token to sample
    requests = make_requests([0, 1], [40, 40], [1, 1], [[0, 1, 2, 3]] * 2, 10)
    assert engine_hits(requests, 50) == [0, 3]


def test_blocks_coarser_than_pages_expand() -> None:
    # two blocks of 40 tokens, pages of 10: the second prompt shares the first block, 4 pages
    requests = make_requests([0, 10**6], [85, 85], [1, 1], [[0, 1], [0, 2]], 40)
    assert engine_hits(requests, 50) == [0, 4]
    assert engine_hits(requests, 50, 20) == [0, 2]
    assert engine_hits(requests, 50, 40) == [0, 1]


def test_blocks_finer_than_pages_match_whole_pages() -> None:
    chain = list(range(8))
    requests = make_requests([0, 10**6], [85, 85], [1, 1], [chain, [*chain[:5], 90, 91, 92]], 10)
    assert engine_hits(requests, 50, 10) == [0, 5]
    assert engine_hits(requests, 50, 20) == [0, 2]
    assert engine_hits(requests, 50, 40) == [0, 1]


def test_without_prefix_caching_nothing_hits() -> None:
    requests = one_at_a_time(make_requests([0, 0], [85, 85], [1, 1], [list(range(8))] * 2, 10))
    tiers = [{"tier": "hbm", "capacity": pages(50)}]
    settings = PAGES_OF_10 | {"prefix_caching": False}
    result = run_engine(make_state(requests, tiers, round_machine(), cost=COST, **settings))
    assert result.hit_tokens.tolist() == [0, 0]
    assert result.tiers[0].inserted_pages == 0
