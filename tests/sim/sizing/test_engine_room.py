"""What an engine holds of a sequence, against blocks counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.sizing.engine_room import HeldGroup, engine_room

# Gemma 3 27B in bf16: 16 KV heads of 128, so 8,192 bytes a token and layer.
FULL = KvGroup("full", "full", 10, 10 * 8192)
NEAR = KvGroup("window_1024", "window", 52, 52 * 8192, tokens=1024)


def held(*groups: KvGroup, tokens: int, equal: bool = True) -> tuple[HeldGroup, ...]:
    return engine_room(groups, tokens, step_tokens=8192, block_tokens=16, equal_groups=equal)


def test_one_group_is_held_in_whole_blocks_and_no_more() -> None:
    (full,) = held(FULL, tokens=1001)
    assert (full.blocks, full.prefill_blocks, full.block_bytes) == (63, 63, 16 * 10 * 8192)


def test_a_window_is_held_with_the_step_during_a_prefill_and_alone_after_it() -> None:
    _, near = held(FULL, NEAR, tokens=32_768)
    # 1,023 tokens behind the first of 8,192: 576 blocks hold 9,216, and one more since the window
    # may begin within a block
    assert near.prefill_blocks == (1023 + 8192 + 15) // 16 + 1 == 577
    assert near.blocks == 64 + 1


def test_groups_of_equal_size_are_padded_with_layers_that_there_are_not() -> None:
    full, near = held(FULL, NEAR, tokens=32_768)
    assert full.block_bytes == 16 * 10 * 8192
    # 52 layers in groups of 10: six of them, so that 60 layers' bytes are taken
    assert near.block_bytes == 16 * 60 * 8192
    own_full, own_near = held(FULL, NEAR, tokens=32_768, equal=False)
    assert own_full == full
    assert own_near.block_bytes == 16 * 52 * 8192


def test_kinds_with_nearly_as_many_layers_are_groups_of_the_larger_one() -> None:
    full, near = held(
        KvGroup("full", "full", 8, 8), KvGroup("window_9", "window", 9, 9, tokens=9), tokens=100
    )
    assert full.block_bytes == near.block_bytes == 16 * 9


def test_smaller_entries_get_longer_blocks_of_the_same_bytes() -> None:
    # Gemma 4's global layers: 4 KV heads of 512 beside 16 of 256
    full = KvGroup("full", "full", 5, 5 * 2 * 4 * 512 * 2)
    near = KvGroup("window_1024", "window", 25, 25 * 2 * 16 * 256 * 2, tokens=1024)
    wide, narrow = held(full, near, tokens=10_000)
    assert (wide.block_tokens, narrow.block_tokens) == (32, 16)
    assert wide.block_bytes == 5 * 16 * 2 * 16 * 256 * 2
    assert narrow.block_bytes == 5 * wide.block_bytes


def test_a_state_is_one_block_and_makes_those_of_attention_as_large() -> None:
    # Qwen3-Next: 2 KV heads of 256 in 12 layers; a state of 1,097,728 bytes in each of 36. In
    # blocks of 544 tokens, attention's are the first that are no smaller.
    full = KvGroup("full", "full", 12, 12 * 2048)
    state = KvGroup("state", "state", 36, 0, request_bytes=36 * 1_097_728)
    kept, states = held(full, state, tokens=1000)
    assert kept.block_tokens == 544
    assert 544 * 2048 >= 1_097_728 > 528 * 2048
    assert (states.blocks, states.block_bytes) == (1, 36 * 544 * 2048)


def test_a_chunk_is_held_whole() -> None:
    group = KvGroup("chunk_8192", "chunk", 36, 36, tokens=8192)
    (chunk,) = held(group, tokens=100_000, equal=False)
    assert (chunk.blocks, chunk.prefill_blocks) == (512, 1024)


GROUPS = st.one_of(
    st.builds(
        lambda layers, each: KvGroup("full", "full", layers, layers * each),
        st.integers(1, 60), st.integers(1, 5000),
    ),
    st.builds(
        lambda layers, each, tokens: KvGroup("w", "window", layers, layers * each, tokens=tokens),
        st.integers(1, 60), st.integers(1, 5000), st.integers(1, 5000),
    ),
    st.builds(
        lambda layers, each: KvGroup("s", "state", layers, 0, request_bytes=layers * each),
        st.integers(1, 60), st.integers(1, 10**7),
    ),
)  # fmt: skip


@given(st.lists(GROUPS, min_size=1, max_size=4), st.integers(1, 200_000), st.booleans())
def test_no_engine_holds_less_than_the_arithmetic(
    groups: list[KvGroup], tokens: int, equal: bool
) -> None:
    for each in held(*groups, tokens=tokens, equal=equal):
        least = each.group.held_bytes(tokens)
        if each.group.kind == "window":  # what the next token sees: without the first of the window
            least = each.group.held_bytes(min(tokens, max(each.group.tokens - 1, 1)))
        assert each.prefill_bytes >= each.bytes >= least


@pytest.mark.parametrize("tokens", [1, 15, 16, 17])
def test_a_short_sequence_takes_its_own_blocks_only(tokens: int) -> None:
    full, near = held(FULL, NEAR, tokens=tokens)
    assert full.blocks == near.blocks == near.prefill_blocks == -(-tokens // 16)
