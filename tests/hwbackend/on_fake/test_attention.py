"""Attention's launches on the fake driver: what they are given, and that nothing stays behind.

The kernel is played in numpy (`Emulated`) from nothing but the bytes of its arguments and memory.
"""

import ctypes
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.hwbackend.attention.emulated import Emulated
from tests.hwbackend.fake.control import UNKNOWN, Fake

from vsim.hwbackend.attention import trial
from vsim.hwbackend.attention.checking import DecodeCase, error_of
from vsim.hwbackend.attention.decode import DecodeVariant, PagedDecode, _Arguments
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout, UnsupportedAttentionError
from vsim.hwbackend.attention.planner import Plan
from vsim.hwbackend.attention.prefill import PagedPrefill
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.streams import Stream

LLAMA = PageLayout(16, 8, 128)
SMALL = (
    DecodeCase(LLAMA, 32, (15, 33, 1), shared=1),
    DecodeCase(PageLayout(32, 2, 64, 3, head_major=False), 14, (70, 200), keep=0.5),
)


def view(address: int, dtype: Any, count: int) -> NDArray[Any]:
    """Look at memory of the fake."""
    size = np.dtype(dtype).itemsize * count
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype)


class Played:
    """Carries out launches of the decode kernel as decode.cu reads its arguments."""

    def __init__(self, case: DecodeCase) -> None:
        self.case = case
        self.launches = 0

    def __call__(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: list[int]
    ) -> None:
        assert name == "paged_decode"
        a = _Arguments.from_address(arguments[0])
        layout, (batch, slots) = self.case.layout, self.case.batch()
        assert (a.token_stride, a.head_stride) == (layout.token_stride, layout.head_stride)
        assert (a.slot_bytes, a.v_offset) == (layout.page_bytes, layout.v_offset)
        starts = view(a.block_items, np.int32, grid[0] + 1)
        items = view(a.items, np.int32, 8 * int(starts[-1])).reshape(-1, 8)
        used = DecodeBatch(
            batch.indptr, view(a.indices, np.int32, len(batch.indices)), batch.last_page_len
        )
        # The arguments name a layer's keys; pages of one layer look like it from there on.
        base = a.keys - (layout.layers - 1) * layout.layer_stride
        pages = view(base, np.uint8, slots * layout.page_bytes).reshape(slots, -1)
        shape = (batch.requests, self.case.heads, layout.head_dim)
        q = view(a.q, np.uint16, int(np.prod(shape))).reshape(shape)
        emulated = Emulated(pages, layout, used)
        found = emulated.run_bf16(Plan(used, items, starts, 0), q, layout.layers - 1)
        view(a.out, np.uint16, found.size)[:] = found.ravel()
        self.launches += 1


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_what_a_launch_is_given_leads_to_the_dense_result(
    fake: Fake, context: Context, stream: Stream, case: DecodeCase
) -> None:
    played = Played(case)
    fake.on_launch(played)
    error, same = error_of(context, case, DecodeVariant(), stream)
    assert error < 3e-3
    assert same
    assert played.launches == 2


def test_a_captured_launch_follows_what_is_bound_later(
    fake: Fake, context: Context, stream: Stream
) -> None:
    with PagedDecode(context, LLAMA, 32) as decode, DeviceBuffer(4096) as memory:
        decode.reserve(requests=3, indices=200)
        decode.bind(decode.plan(DecodeBatch.of([0, 1], [7], [3])), stream)
        with capture(stream) as graph:
            decode.launch(stream, memory.address, memory.address, memory.address)
        with graph:
            later = decode.plan(DecodeBatch.of([0, 100, 102, 200], np.arange(200), [1, 2, 3]))
            decode.bind(later, stream)
            graph.launch(stream)
            stream.synchronize()
            a = _Arguments.from_buffer_copy(fake.launches()[-1].arguments[0])
            assert view(a.indices, np.int32, 200).tolist() == list(range(200))
            assert np.array_equal(view(a.items, np.int32, later.items.size), later.items.ravel())
        with pytest.raises(ValueError, match="of indices, where 800 were reserved"):
            decode.bind(decode.plan(DecodeBatch.of([0, 201], np.arange(201), [1])), stream)


def test_launches_may_begin_early_on_hopper(fake: Fake, context: Context, stream: Stream) -> None:
    for early in (True, False):
        variant = DecodeVariant(early=early)
        with PagedDecode(context, LLAMA, 32, variant=variant) as decode:
            decode.bind(decode.plan(DecodeBatch.of([0, 1], [7], [3])), stream)
            decode.launch(stream, 0, 0, 0)
            stream.synchronize()
        last = fake.launches()[-1]
        assert last.attributes == int(early)
        assert last.shared_bytes == variant.shared_bytes(4, 128)
        assert last.block == (128, 1, 1)


@pytest.mark.parametrize("kind", [PagedDecode, PagedPrefill])
def test_nothing_stays_behind_where_a_call_of_the_driver_fails(
    fake: Fake, context: Context, kind: Any
) -> None:
    before = fake.live()
    begin = fake.call_count()
    kind(context, LLAMA, 32).close()
    calls = fake.call_count() - begin
    assert calls > 3
    for nth in range(1, calls + 1):
        fake.fail("", nth, UNKNOWN)
        try:
            made = kind(context, LLAMA, 32)
        except CudaError:
            assert fake.live() == before
        else:  # a call of `close` was to fail: a second one gives back what is left
            with pytest.raises(CudaError):
                made.close()
            made.close()
        assert fake.live() == before
        assert fake.failures_left() == 0


def test_a_prefill_launch_has_a_block_a_tile_and_head(
    fake: Fake, context: Context, stream: Stream
) -> None:
    batch = DecodeBatch.of([0, 10], np.arange(10), [4])
    with PagedPrefill(context, LLAMA, 32) as prefill, DeviceBuffer(4096) as memory:
        prefill.bind(prefill.plan(batch, np.array([100], np.int32)), stream)
        prefill.launch(stream, memory.address, memory.address, memory.address)
        stream.synchronize()
    last = fake.launches()[-1]
    assert last.grid == (8 * -(-100 * 4 // 128), 1, 1)
    assert last.shared_bytes == 3 * 2 * 64 * 256


def test_misuse_is_refused_before_anything_is_launched(
    fake: Fake, context: Context, stream: Stream
) -> None:
    with PagedDecode(context, LLAMA, 32) as decode:
        with pytest.raises(RuntimeError, match="launch before bind"):
            decode.launch(stream, 0, 0, 0)
        decode.bind(decode.plan(DecodeBatch.of([0, 1], [7], [3])), stream)
        with pytest.raises(IndexError, match="layer 1 of pages with 1"):
            decode.launch(stream, 0, 0, 0, layer=1)
        other = decode.plan(DecodeBatch.of([0, 1], [7], [3]))
        with pytest.raises(ValueError, match="a plan for 3 blocks, where launches have 264"):
            decode.bind(Plan(other.batch, other.items, np.zeros(4, np.int32), 0), stream)
    with pytest.raises(UnsupportedAttentionError, match="slots of 64 bytes: they must hold a page"):
        PagedDecode(context, LLAMA, 32, slot_bytes=64)
    assert fake.launches() == []


def test_the_trial_comes_to_its_end(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--shapes 2x64 --pool-gib 0.0625 --chunk-mib 2 --prefill 16x64 --slow host:0=0.5"
    assert trial.main(words.split()) == 0
    assert trial.main(["--check", "--few", "1", "--shapes", "none"]) == 1  # no kernel has run
    out = capsys.readouterr().out
    assert "a plain kernel" in out
    assert "off by inf" in out
