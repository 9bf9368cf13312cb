"""KV in groups by hand: what a request holds, how many fit, and how much of a prefix can be used.

A page has 10 tokens. `FULL` takes 1,000 B a token, `WINDOW` (the last 50 tokens) 3,000 B, `CHUNK`
(those since the last multiple of 40) 2,000 B, `STATE` 45,000 B a request.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.timing.kv_pages import KvPages
from vsim.sim.timing.near_terms import token_bytes

from .conftest import make_requests, make_state
from .round_machine import COST, PAGES_OF_10, round_machine

FULL = KvGroup("full", "full", 1, 1_000)
WINDOW = KvGroup("window_50", "window", 3, 3_000, tokens=50)
CHUNK = KvGroup("chunk_40", "chunk", 2, 2_000, tokens=40)
STATE = KvGroup("state", "state", 4, 0, request_bytes=45_000)
IMAGE = KvGroup("image", "fixed", 1, 0, request_bytes=7_000)


def serve(
    groups: Sequence[KvGroup],
    prompts: Sequence[int],
    capacity: int,
    *,
    outputs: int = 2,
    apart_ns: int = 0,
    prefixes: Sequence[Sequence[int]] | None = None,
    tiers: Sequence[dict[str, Any]] = (),
    **engine: Any,
) -> EngineResult:
    """Serve prompts, at once or one long after the other, on the round machine."""
    requests = make_requests(
        [i * apart_ns for i in range(len(prompts))],
        prompts,
        [outputs] * len(prompts),
        prefixes,
        10 if prefixes else 0,
    )
    kv_bytes = sum(map(token_bytes, groups))
    cost = replace(COST, kv_groups=tuple(groups), kv_bytes_per_token=kv_bytes)
    hbm = {"tier": "hbm", "capacity": f"{capacity}B"}
    settings = PAGES_OF_10 | {"token_budget": 100_000} | engine
    return run_engine(make_state(requests, [hbm, *tiers], round_machine(), cost=cost, **settings))


def held(result: EngineResult, name: str) -> tuple[int, int]:
    """Pages of a group that requests held at once at most: at any time, and while they decoded."""
    group = next(each for each in result.groups if each.name == name)
    return group.requests_peak_pages, group.decoding_peak_pages


def test_a_request_holds_its_prompt_its_window_its_chunk_and_its_state() -> None:
    result = serve([FULL, WINDOW, CHUNK, STATE, IMAGE], [400], 10**8, outputs=3)
    # 402 tokens are computed, in 41 pages; the prompt is computed in one step
    assert held(result, "full") == (41, 41)
    # the last 50 tokens before token 401 begin with token 351, and 400 needs a new page: 350 .. 409
    assert held(result, "window_50") == (40, 6)
    # the chunk of token 400 begins with it
    assert held(result, "chunk_40") == (40, 1)
    assert held(result, "state") == held(result, "image") == (1, 1)
    assert [each.page_bytes for each in result.groups] == [10_000, 30_000, 20_000, 45_000, 7_000]
    assert [each.end_pages for each in result.groups] == [0] * 5


def test_a_chunk_of_a_prompt_needs_its_window_and_itself() -> None:
    result = serve([FULL, WINDOW], [400], 10**8, token_budget=100)
    # tokens 300 .. 399 and the 49 before them begin in page 25, and reach to page 39
    assert held(result, "window_50")[0] == 15


@pytest.mark.parametrize("groups", [[FULL, WINDOW], [FULL, STATE], [FULL, WINDOW, STATE], [WINDOW]])
def test_as_many_requests_run_as_the_groups_leave_room_for(groups: list[KvGroup]) -> None:
    pages = KvPages.of(tuple(groups), 10)
    one = pages.most_bytes(402, 402, caching=False)
    admit = {"admission": "whole_sequence", "chunked_prefill": False}
    for capacity, running in ((3 * one, 3), (3 * one - 1, 2)):
        result = serve(groups, [400] * 5, capacity, **admit)
        assert result.status.tolist() == [0] * 5
        assert result.counters["peak_running"] == running
        assert result.preemptions.sum() == 0


def test_a_request_that_fits_to_the_byte_is_served_and_one_that_lacks_a_byte_is_rejected() -> None:
    groups = [FULL, WINDOW, STATE]
    # 31 pages of full attention; of the window 5 before a step's 50 tokens and 5 of them, and one
    # since they begin anywhere in a page; one state
    need = 31 * 10_000 + 11 * 30_000 + 45_000
    assert serve(groups, [300], need, token_budget=50).status.tolist() == [0]
    assert serve(groups, [300], need - 1, token_budget=50).status.tolist() == [1]


def hits(groups: Sequence[KvGroup], shared: int, **settings: Any) -> int:
    """Tokens that a second prompt of 400 hits of the first one's, of which it shares some pages."""
    first, second = list(range(40)), [*range(shared), *range(100, 140 - shared)]
    settings = {"capacity": 10**8} | settings
    result = serve(groups, [405, 405], prefixes=[first, second], apart_ns=10**12, **settings)
    assert result.hit_tokens[0] == 0
    return int(result.hit_tokens[1])


def test_with_a_window_all_of_a_prefix_is_found_while_its_pages_are_kept() -> None:
    assert hits([FULL, WINDOW], 25) == 250


def test_with_a_state_a_prefix_is_found_up_to_a_copy_of_the_state() -> None:
    # the prompt is computed 100 tokens at a time, so that copies are kept at 100, 200, 300 and 400
    assert hits([FULL, STATE], 25, token_budget=100) == 200
    assert hits([FULL, STATE], 40, token_budget=100) == 400
    # at once: only behind all of it
    assert hits([FULL, STATE], 25) == 0
    assert hits([FULL, STATE], 40) == 400
    # the last full page behind 170 and 340 tokens ends at 170 and 340, behind 405 at 400
    assert hits([STATE], 39, token_budget=85) == 340


def test_what_is_fixed_is_never_shared_and_hinders_no_hit() -> None:
    assert hits([FULL, IMAGE], 25) == 250


def test_a_window_that_was_evicted_ends_the_prefix_where_one_is_still_whole() -> None:
    """HBM has room for one request's 41 pages of full attention and 9 of the window.

    Computed 30 tokens at a time, the first prompt has given up window pages again and again, of
    which the last stay: those of the 9 that were not taken for new ones.
    """
    room = 41 * 10_000 + 9 * 30_000
    assert hits([FULL, WINDOW], 40, capacity=room, token_budget=30) == 400
    # pages 20 to 24 of the window, which a prefix of 250 tokens needs, are long gone
    assert hits([FULL, WINDOW], 25, capacity=room, token_budget=30) == 0


def test_a_prefix_that_lies_below_comes_back_group_by_group() -> None:
    """Three prompts in turn, of which HBM holds one; the first comes again."""
    pages = KvPages.of((FULL, WINDOW, STATE), 10)
    room = pages.most_bytes(407, 407, caching=True)
    first, second = list(range(40)), list(range(100, 140))
    result = serve(
        [FULL, WINDOW, STATE],
        [405, 405, 405],
        room,
        prefixes=[first, second, first],
        apart_ns=10**12,
        tiers=[{"tier": "host", "capacity": "10GB"}],
    )
    assert result.hit_tokens.tolist() == [0, 0, 400]
    # of full attention 40 pages, of the window the 5 that token 400 sees, and the state
    assert result.counters["promoted"] <= 46
    assert result.tiers[1].hit_tokens > 0


def test_a_latent_that_every_gpu_holds_is_held_and_moved_once_below() -> None:
    groups = (KvGroup("full", "full", 1, 1_000, copies=4),)
    pages = KvPages.of(groups, 10)
    assert not pages.grouped
    assert (pages.hbm_unit_bytes, pages.unit_bytes) == (40_000, 10_000)
    room = 45 * 40_000
    first, second = list(range(40)), list(range(100, 140))
    result = serve(
        groups,
        [405, 405, 405],
        room,
        prefixes=[first, second, first],
        apart_ns=10**12,
        tiers=[{"tier": "host", "capacity": "10GB"}],
        operations="transfers",
    )
    assert result.hit_tokens.tolist() == [0, 0, 400]
    moved = result.counters["promoted"]
    link = next(each for each in result.links if each.name == "host-hbm")
    assert link.forward_bytes == moved * 10_000
    assert result.tiers[0].capacity_pages == 45


def test_entries_of_several_tokens_take_their_share_of_a_page() -> None:
    groups = [FULL, KvGroup("coarse", "full", 2, 640, tokens_per_entry=128)]
    # 10 tokens are 50 B of entries
    assert [each.bytes for each in KvPages.of(tuple(groups), 10).groups] == [10_000, 50]
    assert held(serve(groups, [400], 10**8), "coarse") == (41, 41)
