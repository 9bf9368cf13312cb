"""The online policy: what it learns, and that it never sees ahead."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.traces.test_prefix_reuse import chains, packed

from vsim.sim.prefixes.expected_returns import expected_returns
from vsim.traces.prefix_reuse import PrefixReuse


def rounds_of_two_kinds(rounds: int, comers: int) -> list[list[int]]:
    """Each round a conversation goes on by two blocks, and `comers` prompts come just once.

    Four conversations take turns, so that each pauses for 4·(comers + 1) requests; one that has 40
    blocks makes room for another.
    """
    talks: list[list[int]] = [[], [], [], []]
    rows: list[list[int]] = []
    fresh = 0
    for at in range(rounds):
        talk = talks[at % 4]
        if len(talk) == 40:
            talk.clear()
        talk.extend(range(fresh, fresh + 2))
        fresh += 2
        rows.append(list(talk))
        for _ in range(comers):
            rows.append(list(range(fresh, fresh + 8)))
            fresh += 8
    return rows


def test_it_keeps_conversations_through_a_pause_that_lru_forgets() -> None:
    offsets, ids = packed(rounds_of_two_kinds(160, 6))
    room = 190  # four conversations of up to 40 blocks, and little else
    kept = int(expected_returns(offsets, ids, room).sum())
    lru = int(PrefixReuse.of(offsets, ids).lru_hits(np.array([room]))[0])
    assert kept > lru


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(1, 30), ahead=chains())
def test_what_comes_later_changes_nothing(
    rows: list[list[int]], blocks: int, ahead: list[list[int]]
) -> None:
    later = [[block + 10_000 for block in row] for row in ahead]
    alone = expected_returns(*packed(rows), blocks)
    longer = expected_returns(*packed([*rows, *later, *rows]), blocks)
    assert longer[: len(rows)].tolist() == alone.tolist()


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(1, 60))
def test_until_returns_were_seen_it_is_lru(rows: list[list[int]], blocks: int) -> None:
    """25 requests of a few blocks each are fewer than it learns from."""
    offsets, ids = packed(rows)
    found = expected_returns(offsets, ids, blocks)
    assert found.tolist() == PrefixReuse.of(offsets, ids).lru_hits_of_requests(blocks).tolist()
