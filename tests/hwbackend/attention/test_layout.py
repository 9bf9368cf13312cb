"""Where keys and values lie, and what the kernels refuse."""

import re
from typing import Any

import numpy as np
import pytest

from vsim.hwbackend.attention.decode import DecodeVariant, variant_for
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout, UnsupportedAttentionError
from vsim.hwbackend.attention.paged_kernel import group_of
from vsim.hwbackend.attention.reference import bf16_of, floats_of_bf16, keys_and_values


@pytest.mark.parametrize("head_major", [True, False])
def test_every_element_of_a_page_has_its_own_place(head_major: bool) -> None:
    layout = PageLayout(32, 3, 64, 2, head_major)
    layer, part, token, head, dim = np.ix_(*map(range, (2, 2, 32, 3, 64)))
    at = (layer * layout.layer_stride + part * layout.v_offset + token * layout.token_stride
          + head * layout.head_stride + dim * 2)  # fmt: skip
    assert np.array_equal(np.sort(at.ravel()), np.arange(0, layout.page_bytes, 2))
    assert layout.page_bytes == 2 * 2 * 32 * 3 * 64 * 2


@pytest.mark.parametrize("head_major", [True, False])
def test_the_reference_reads_pages_by_the_layout_s_strides(head_major: bool) -> None:
    layout = PageLayout(16, 2, 64, 3, head_major)
    random = np.random.default_rng(0)
    pages = random.integers(0, 0x7F80, (4, layout.page_bytes // 2), np.uint16).view(np.uint8)
    keys, values = keys_and_values([pages[2], pages[0]], layout, 29, layer=1)
    assert keys.shape == values.shape == (29, 2, 64)
    for token, head, found, part in ((0, 1, keys, 0), (28, 0, values, 1), (17, 1, values, 1)):
        page, row = ((2, token), (0, token - 16))[token >= 16]
        at = (layout.layer_stride + part * layout.v_offset + row * layout.token_stride
              + head * layout.head_stride)  # fmt: skip
        raw = pages[page, at : at + 128].view(np.uint16)
        assert np.array_equal(found[token, head], floats_of_bf16(raw))


def test_rounding_to_bf16_is_to_the_nearest_and_to_even() -> None:
    values = np.array([1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 0.0], np.float32)
    wanted = [1.0, -2.5, 1.0, 1 + 2**-6, 0.0]
    assert floats_of_bf16(bf16_of(values)).tolist() == wanted


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"page_tokens": 8}, "pages of 8 tokens: the kernels read pages of a multiple of 16"),
        ({"page_tokens": 24}, "pages of 24 tokens"),
        ({"head_dim": 96}, "heads of 96: the kernels read heads of 64 and 128 (no MLA)"),
        ({"head_dim": 576}, "heads of 576"),
        ({"kv_heads": 0}, "0 KV heads in 1 layers: both must be 1 or more"),
        ({"layers": 0}, "8 KV heads in 0 layers"),
    ],
)
def test_layouts_that_the_kernels_can_t_read_are_refused_by_name(given: Any, why: str) -> None:
    with pytest.raises(UnsupportedAttentionError, match=re.escape(why)):
        PageLayout(**{"page_tokens": 16, "kv_heads": 8, "head_dim": 128, **given})


@pytest.mark.parametrize("heads", [0, 7, 12, 72])
def test_other_groups_of_heads_are_refused_by_name(heads: int) -> None:
    why = f"{heads} query heads on 8 KV heads: the kernels do 1 to 8 for each, the same for all"
    with pytest.raises(UnsupportedAttentionError, match=re.escape(why)):
        group_of(heads, PageLayout(16, 8, 128))


def test_groups_of_one_to_eight_heads_are_taken() -> None:
    layout = PageLayout(16, 8, 128)
    assert [group_of(8 * group, layout) for group in range(1, 9)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("indptr", "indices", "last", "why"),
    [
        ([0, 1], [5], [0], "request 0 has a last page not of 1 to 16"),
        ([0, 1, 2], [5, 6], [16, 17], "request 1 has a last page not of 1 to 16"),
        ([0, 1, 1], [5], [3, 3], "request 1 attends to no page; leave it out of the batch"),
        ([0, 2], [5], [3], "indptr ends at 2 of 1 indices"),
        ([1, 2], [5], [3], "indptr has 2 entries for 1 requests"),
        ([0], [], [3], "indptr has 1 entries for 1 requests"),
        ([0, 2], [5, -1], [3], "slot -1 among the indices"),
    ],
)
def test_batches_that_make_no_sense_are_refused_by_name(
    indptr: list[int], indices: list[int], last: list[int], why: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        DecodeBatch.of(indptr, indices, last).tokens(16)


def test_a_request_s_tokens_are_full_pages_and_a_last_one() -> None:
    batch = DecodeBatch.of([0, 1, 4], [9, 3, 3, 0], [16, 5])
    assert batch.tokens(16).tolist() == [16, 37]


def test_a_variant_fits_the_gpu_or_there_is_none() -> None:
    layout = PageLayout(16, 8, 128)
    for group in range(1, 9):
        for shared in (232_448, 166_912, 101_376):  # H100, A100, L40
            variant = variant_for(group, layout, shared)
            assert variant.blocks * (variant.shared_bytes(group, 128) + 1024) <= shared + 1024
    assert variant_for(4, layout, 232_448) == DecodeVariant(together=11)
    with pytest.raises(UnsupportedAttentionError, match="blocks have 49,152 bytes of shared"):
        variant_for(4, layout, 49_152)
