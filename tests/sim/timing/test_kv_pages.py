"""Pages of KV groups: their sizes, the units they are counted in, and how many a request needs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.timing.equal_groups import equal_groups, equal_layers
from vsim.sim.timing.kv_pages import KvPages, most_near_pages

FULL = KvGroup("full", "full", 10, 10 * 8192)
NEAR = KvGroup("window_1024", "window", 52, 52 * 8192, tokens=1024)
STATE = KvGroup("state", "state", 36, 0, request_bytes=39_518_208)


def test_one_group_of_full_attention_has_pages_for_units() -> None:
    pages = KvPages.of((FULL,), 16)
    assert not pages.grouped
    assert pages.hbm_unit_bytes == pages.unit_bytes == pages.page_bytes == 16 * 10 * 8192


def test_units_divide_the_pages_of_every_group_in_hbm_and_below() -> None:
    latent = KvGroup("full", "full", 4, 1_152, copies=8)
    pages = KvPages.of((latent, NEAR, STATE), 16)
    for tier in (0, 1):
        sizes = [each.bytes if tier else each.hbm_bytes for each in pages.groups]
        units = [pages.units(index, tier) for index in range(3)]
        assert [count * pages.unit(tier) for count in units] == sizes
        assert math.gcd(*units) == 1
    assert pages.groups[0].hbm_bytes == 8 * pages.groups[0].bytes
    assert pages.page_bytes == 16 * (8 * 1_152 + 52 * 8192)


def test_gemma_3_27b_holds_ten_full_layers_and_fifty_two_windows() -> None:
    pages = KvPages.of((FULL, NEAR), 16)
    # 32,768 tokens of 10 layers, and 65 pages of 52 layers: 2.68 and 0.44 GB
    most = 2_048 * 16 * 10 * 8192 + 65 * 16 * 52 * 8192
    assert pages.most_bytes(32_768, 1, caching=False) == most
    assert 3.1e9 < most < 3.15e9


@given(
    width=st.integers(1, 300),
    computed=st.integers(0, 2_000),
    tokens=st.integers(1, 200),
    page=st.integers(1, 64),
)
def test_no_step_needs_more_pages_of_a_window_or_chunk_than_the_most(
    width: int, computed: int, tokens: int, page: int
) -> None:
    last = (computed + tokens - 1) // page
    for first in (max(computed - width + 1, 0), computed // width * width):
        assert last - first // page + 1 <= most_near_pages(width, tokens, page)


def test_groups_are_padded_to_as_many_layers_as_the_kind_with_the_fewest() -> None:
    # vLLM's design document, case 3: one group of 10 full layers and six of the window
    assert equal_layers((FULL, NEAR)) == 10
    full, near = equal_groups((FULL, NEAR))
    assert full == FULL
    assert near.entry_bytes == 60 * 8192
    pages = KvPages.of((FULL, NEAR), 16, equal=True)
    assert [each.padding_bytes for each in pages.groups] == [0, 16 * 8 * 8192]


def test_kinds_of_nearly_as_many_layers_are_padded_to_the_most() -> None:
    full = KvGroup("full", "full", 20, 20 * 4096)
    near = KvGroup("window_512", "window", 24, 24 * 4096, tokens=512)
    assert equal_layers((full, near)) == 24
    assert [each.entry_bytes for each in equal_groups((full, near))] == [24 * 4096, 24 * 4096]


@pytest.mark.parametrize("groups", [(FULL,), (FULL, STATE), (NEAR,)])
def test_one_kind_and_states_are_not_padded(groups: tuple[KvGroup, ...]) -> None:
    assert equal_groups(groups) == groups
