"""Prefix caches of models whose KV is in groups: needs, the bound by parts, and policies."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.prefixes.exact_tiers import Group, optimum
from tests.sim.prefixes.test_tier_bound import drawn, worth_of
from tests.traces.test_prefix_reuse import chains, packed

from vsim.sim.bounds.prefix_descent import descend
from vsim.sim.bounds.prefix_tiers import TierCase, TierPrices, certify_tier_prefixes, tier_worth
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.loading import load_model
from vsim.sim.prefixes.group_policies import lru_of_groups, rounded_of_groups
from vsim.sim.prefixes.model_blocks import ModelBlocks, first_needed
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.traces.faults import InputError
from vsim.traces.prefix_reuse import PrefixReuse

FULL: Group = (2, lambda blocks: 0)
WINDOW: Group = (3, lambda blocks: max(0, blocks - 2))
STATE: Group = (4, lambda blocks: blocks - 1)
MIXES = ((FULL, WINDOW), (FULL, STATE), (WINDOW, STATE), (FULL, WINDOW, STATE), (STATE,))


def needs_of(groups: tuple[Group, ...], longest: int) -> BlockNeeds:
    return BlockNeeds(
        np.array([size for size, _ in groups]),
        np.array([[0, *(first(h) for h in range(1, longest + 1))] for _, first in groups]),
        np.array([group is STATE for group in groups]),
    )


def made(
    rows: list[list[int]],
    groups: tuple[Group, ...],
    rooms: tuple[int, ...],
    loads: tuple[float, ...],
) -> TierCase:
    reuse = PrefixReuse.of(*packed(rows))
    needs = needs_of(groups, max(1, *map(len, rows)))
    tiers = CacheTiers(("hbm", "host")[: len(rooms)], rooms, tuple(map(Fraction, loads)))
    return TierCase(reuse, tier_worth("seconds", reuse, needs, worth_of), needs, tiers)


@pytest.mark.parametrize("groups", MIXES)
def test_the_bound_is_no_less_than_the_exact_optimum_in_parts(groups: tuple[Group, ...]) -> None:
    random = np.random.default_rng(len(groups))
    worth = [worth_of(d) for d in range(8)]
    close = 0
    for _ in range(25):
        rows = [*drawn(random, 6, 4), [0]]
        rooms = tuple(random.integers(0, 14, int(random.integers(1, 3))).tolist())
        loads = (0.0, 0.125)[: len(rooms)]
        exact = optimum(rows, rooms, worth, loads, groups)
        case = made(rows, groups, rooms, loads)
        descent = descend(case, 300)
        most = float(certify_tier_prefixes(case, descent.prices).most)
        assert most >= exact * (1 - 1e-9)
        assert rounded_of_groups(case, descent) * float(case.worth.unit) <= exact + 1e-6
        relaxed = optimum(rows, rooms, worth, loads, groups, whole=False)
        close += most <= max(exact, relaxed) * 1.02 + 1e-2
    assert close >= 23


def test_a_window_and_a_state_by_hand() -> None:
    """Of a prefix of three blocks: all 3 full pieces, the last 2 of the window, 1 state: 6 + 6 + 4.

    Two requests that are alike, over one slot: with 16 parts all three blocks are found. With 15
    two are: 4 + 6 + 4 = 14.
    """
    rows = [[0, 1, 2], [0, 1, 2]]
    groups = (FULL, WINDOW, STATE)
    worth = [worth_of(d) for d in range(3)]
    for room, blocks in ((16, 3), (15, 2), (14, 2), (9, 1), (8, 0)):
        assert optimum(rows, (room,), worth, (0.0,), groups) == sum(worth[:blocks])
    case = made(rows, groups, (16,), (0.0,))
    assert rounded_of_groups(case, descend(case, 50)) == case.worth.units[3]


@settings(deadline=None, max_examples=examples(60))
@given(
    rows=chains(),
    room=st.integers(1, 60),
    groups=st.sampled_from(MIXES),
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(-6.0, 6.0),
)
def test_no_policy_is_above_the_bound_whatever_the_prices(
    rows: list[list[int]], room: int, groups: tuple[Group, ...], seed: int, size: float
) -> None:
    case = made(rows, groups, (room,), (0.0,))
    offsets, codes = packed(rows)
    random = np.random.default_rng(seed)
    prices = random.exponential(10.0**size, (len(rows), 1)) * (random.random((len(rows), 1)) < 0.5)
    descent = descend(case, 50)
    found = lru_of_groups(offsets, codes, needs_of(groups, max(map(len, rows))), room)
    saved = {
        "lru": int(case.worth.units[found].sum()),
        "rounded": rounded_of_groups(case, descent),
    }
    certify_tier_prefixes(case, TierPrices(prices)).refuse_if_false(saved)
    certify_tier_prefixes(case, descent.prices).refuse_if_false(saved)


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), room=st.integers(1, 40))
def test_lru_of_one_group_of_full_attention_is_lru(rows: list[list[int]], room: int) -> None:
    offsets, codes = packed(rows)
    found = lru_of_groups(offsets, codes, BlockNeeds.of_equal_blocks(max(map(len, rows))), room)
    assert found.tolist() == PrefixReuse.of(offsets, codes).lru_hits_of_requests(room).tolist()


def test_lru_with_a_state_finds_the_ends_of_earlier_prompts_only() -> None:
    """After a b c, what begins with a b d has no state at b; a b c e has one at c."""
    offsets, codes = packed([[0, 1, 2], [0, 1, 3], [0, 1, 2, 4]])
    found = lru_of_groups(offsets, codes, needs_of((FULL, STATE), 4), 100)
    assert found.tolist() == [0, 0, 3]


@pytest.mark.parametrize(
    ("group", "first"),
    [
        (KvGroup("full", "full", 1, 8), [0, 0, 0, 0]),
        # the token behind 64, 128, 192 tokens sees itself and 99 before it: from 29 and 93 on
        (KvGroup("w", "window", 1, 8, tokens=100), [0, 0, 0, 1]),
        (KvGroup("w", "window", 1, 8, tokens=1), [0, 1, 2, 3]),
        # chunks of 128 begin at 0 and 128
        (KvGroup("c", "chunk", 1, 8, tokens=128), [0, 0, 2, 2]),
        (KvGroup("s", "state", 1, 0, request_bytes=99), [0, 0, 1, 2]),
        (KvGroup("f", "fixed", 1, 0, request_bytes=99), [0, 1, 2, 3]),
    ],
)
def test_what_prefixes_of_blocks_of_64_tokens_need(group: KvGroup, first: list[int]) -> None:
    assert [first_needed(group, 64, blocks) for blocks in range(4)] == first


def test_blocks_of_a_model_with_windows_by_hand() -> None:
    """gpt-oss-20b: 12 full and 12 windowed layers of 8 heads x 64 x (K, V) x 2 B = 2,048 B a token.

    A block of 512 tokens is 12 x 2,048 x 512 = 12,582,912 B of each group, so that a part is that.
    A window of 128 needs the last block alone.
    """
    blocks = ModelBlocks(load_model("gpt-oss-20b"), "bf16", 512)
    assert blocks.grouped
    assert blocks.part_bytes() == 12_582_912
    assert blocks.part_bytes("fp8") == 6_291_456
    needs = blocks.needs(3)
    assert needs.parts.tolist() == [1, 1]
    assert sorted(needs.first.tolist()) == [[0, 0, 0, 0], [0, 0, 1, 2]]
    assert blocks.block_bytes == blocks.least_bytes() == 2 * 12_582_912


def test_a_precision_that_changes_groups_unlike_is_refused() -> None:
    """A state stays in its own precision, whatever its keys and values are kept in."""
    blocks = ModelBlocks(load_model("qwen3-next-80b-a3b"), "bf16", 64)
    with pytest.raises(InputError, match="by different shares"):
        blocks.part_bytes("fp8")
