"""The online policy: what it learns, and that it never sees ahead."""

import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.traces.test_prefix_reuse import chains, packed

from vsim.sim.prefixes.belady import belady
from vsim.sim.prefixes.choosing import closed
from vsim.sim.prefixes.expected_returns import CHOSEN, Constants, expected_returns
from vsim.traces.prefix_reuse import PrefixReuse


def found_in(rows: list[list[int]], blocks: int, constants: Constants = CHOSEN) -> list[int]:
    """What each request finds, where one comes every two seconds."""
    offsets, ids = packed(rows)
    arrival_ns = np.arange(len(rows), dtype=np.int64) * 2_000_000_000
    return expected_returns(offsets, ids, arrival_ns, blocks, constants).tolist()


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
    rows = rounds_of_two_kinds(160, 6)
    room = 190  # four conversations of up to 40 blocks, and little else
    lru = int(PrefixReuse.of(*packed(rows)).lru_hits(np.array([room]))[0])
    assert sum(found_in(rows, room)) > lru


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(1, 30), ahead=chains())
def test_what_comes_later_changes_nothing(
    rows: list[list[int]], blocks: int, ahead: list[list[int]]
) -> None:
    later = [[block + 10_000 for block in row] for row in ahead]
    longer = found_in([*rows, *later, *rows], blocks)
    assert longer[: len(rows)] == found_in(rows, blocks)


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), blocks=st.integers(1, 60))
def test_until_returns_were_seen_it_is_lru(rows: list[list[int]], blocks: int) -> None:
    """25 requests of a few blocks each are fewer than it learns from."""
    lru = PrefixReuse.of(*packed(rows)).lru_hits_of_requests(blocks)
    assert found_in(rows, blocks) == lru.tolist()


def test_constants_change_what_it_keeps_and_not_what_it_is_until_it_has_learned() -> None:
    rows = rounds_of_two_kinds(160, 6)
    never = found_in(rows, 190, CHOSEN._replace(learn_after=10**9))
    assert never == PrefixReuse.of(*packed(rows)).lru_hits_of_requests(190).tolist()
    others = (CHOSEN._replace(turns=1, bins=1), CHOSEN._replace(prior=1e9), CHOSEN)
    assert len({sum(never), *(sum(found_in(rows, 190, each)) for each in others)}) > 2


def pauses_that_tell(rounds: int) -> list[tuple[int, list[int]]]:
    """Conversations whose second turn comes after a second go on after another, others never do.

    Each has a first turn of four blocks, a second after 1 or 20 s, which adds one, and, if that was
    soon, a third after 40 s.
    """
    rows = []
    for at in range(rounds):
        first = [10 * at + block for block in range(4)]
        begins, soon = 3_000 * at, at % 2 == 0
        rows.append((begins, first))
        rows.append((begins + (1_000 if soon else 20_000), [*first, 10 * at + 4]))
        if soon:
            rows.append((begins + 41_000, [*first, 10 * at + 4, 10 * at + 5]))
    return sorted(rows)


def test_it_learns_from_the_pause_before_a_turn_whether_another_comes() -> None:
    """Room for the conversations that go on, and not for all that are as young."""
    times, rows = zip(*pauses_that_tell(600), strict=True)
    offsets, ids = packed(list(rows))
    arrival_ns = np.array(times) * 1_000_000
    reuse = PrefixReuse.of(offsets, ids)
    # in 41 s fourteen conversations begin, seven of them with a third turn to come
    room = 7 * 5 + 15
    half = len(rows) // 2  # by then it has learned
    lru = int(reuse.lru_hits_of_requests(room)[half:].sum())
    most = int(belady(reuse, room).found()[half:].sum())
    blind = CHOSEN._replace(short_s=1e9, long_s=1e9)
    kept, unseen = (
        int(expected_returns(offsets, ids, arrival_ns, room, each)[half:].sum())
        for each in (CHOSEN, blind)
    )
    assert lru < unseen < kept
    assert kept - lru > 0.85 * (most - lru)


def test_without_times_requests_count_as_seconds() -> None:
    rows = rounds_of_two_kinds(160, 6)
    offsets, ids = packed(rows)
    found = [
        expected_returns(offsets, ids, np.array(times, np.int64), 190).tolist()
        for times in ([7] * len(rows), np.arange(len(rows)) * 1_000_000_000)
    ]
    assert found[0] == found[1]


def test_shares_of_the_gap_that_sets_of_constants_close_are_told(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = rounds_of_two_kinds(160, 6)
    trace.write_text(
        "".join(
            json.dumps({"timestamp": 2000 * at, "input_length": 512 * len(row),
                        "output_length": 4, "hash_ids": row}) + "\n"
            for at, row in enumerate(rows)
        )
    )  # fmt: skip
    reuse = PrefixReuse.of(*packed(rows))
    never = CHOSEN._replace(learn_after=10**9)
    found = closed(trace, [190], [CHOSEN, never])
    lru = reuse.lru_hits_of_requests(190).sum()
    gap = belady(reuse, 190).found().sum() - lru
    assert found.tolist() == [[(sum(found_in(rows, 190)) - lru) / gap], [0.0]]
