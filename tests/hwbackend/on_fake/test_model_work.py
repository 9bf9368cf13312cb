"""What a step's kernels are told: which tokens, where their keys go, whose pages they read."""

import os
import subprocess
import sys

import numpy as np
import pytest
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import devices
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.places import place_of
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.model_step import StepLimits
from vsim.hwbackend.dense.shape import DenseShape
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.memory.slots import TierSlots
from vsim.hwbackend.replay import model_work
from vsim.hwbackend.replay.model_work import ModelWork, decodes_first
from vsim.hwbackend.replay.rooms import PagedRoom
from vsim.hwbackend.replay.step_limits import Limits
from vsim.sim.engine.backend import StepBatch

SHAPE = DenseShape("tiny", layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn_hidden=512,
                   vocabulary=1000)  # fmt: skip
LAYOUT = PageLayout(16, 2, 64, 2)


COMPILE = """
from vsim.hwbackend.attention import decode, prefill
from vsim.hwbackend.compiling.compiler import compiled
compiled(decode.SOURCE, "sm_90a", decode.DecodeVariant().defines(2, 64))
compiled(prefill.SOURCE, "sm_90a", {"GROUP": 2, "HEAD_DIM": 64})
"""


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    """Compile them where no driver is loaded: NVRTC looks for one, and takes none for the fake."""
    outside = {
        k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "VSIM_FAKE_DRIVER")
    }
    subprocess.run([sys.executable, "-c", COMPILE], env=outside, check=True)


class Step:
    """In place of the dense parts: keeps what it is told, and calls for attention."""

    layers, queries, attended = 2, 0x1000, 0x2000

    def __init__(self) -> None:
        self.loaded: tuple[np.ndarray, ...] = ()
        self.launches: list[tuple[int, int]] = []
        self.target: KvTarget | None = None

    def load(self, stream: Stream, *arrays: np.ndarray) -> None:
        self.loaded = arrays

    def launch(self, stream: Stream, tokens: int, sampled: int, attention, kv: KvTarget) -> None:  # type: ignore[no-untyped-def]  # a stand-in
        self.launches.append((tokens, sampled))
        self.target = kv
        for layer in range(self.layers):
            attention(layer)


class Dense:
    step: Step

    def __init__(self, context: Context, shape: DenseShape) -> None:
        Dense.step = Step()

    def __enter__(self) -> "Dense":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def model_step(self, stream: Stream, limits: StepLimits) -> Step:
        return self.step


def batch() -> StepBatch:
    """A chunk of 20 tokens behind 10, a decode at 33, a chunk of 5 from the start."""
    return StepBatch(
        rows=np.array([4, 7, 9]),
        new_tokens=np.array([20, 1, 5]),
        context_tokens=np.array([30, 33, 5]),
        samples=np.array([False, True, True]),
        indptr=np.array([0, 2, 5, 6], np.int32),
        indices=np.array([3, 9, 0, 1, 2, 5], np.int32),
        last_page_len=np.array([14, 1, 5], np.int32),
    )


def test_decodes_come_first_and_all_else_stays_with_its_request() -> None:
    found = decodes_first(batch())
    assert found.rows.tolist() == [7, 4, 9]
    assert found.new_tokens.tolist() == [1, 20, 5]
    assert found.context_tokens.tolist() == [33, 30, 5]
    assert found.samples.tolist() == [True, False, True]
    assert found.indptr.tolist() == [0, 3, 5, 6]
    assert found.indices.tolist() == [0, 1, 2, 3, 9, 5]
    assert found.last_page_len.tolist() == [1, 14, 5]


def test_each_new_token_goes_to_its_place_and_attention_reads_the_batch_s_pages(
    context: Context, stream: Stream, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_work, "DenseGpu", Dense)
    slots = [TierSlots("hbm", place_of("device:0"), 10)]
    room = PagedRoom(LAYOUT.page_bytes, slots, 2 << 20, devices()[:1])
    work = ModelWork(context, room, Limits(100, 8, 100, 8), SHAPE, LAYOUT)
    try:
        work.prepare(stream, batch())
        words, positions, places, sampled = Dense.step.loaded
        assert len(words) == 26
        assert (words < SHAPE.vocabulary).all()
        assert positions.tolist() == [32, *range(10, 30), *range(5)]
        pages = {32: 2, **{p: 3 if p < 16 else 9 for p in range(10, 30)}}
        wanted = [pages[p] * LAYOUT.page_bytes + p % 16 * LAYOUT.token_stride
                  for p in positions[:21].tolist()]  # fmt: skip
        assert places[:21].tolist() == wanted
        assert places[21:].tolist() == [
            5 * LAYOUT.page_bytes + p * LAYOUT.token_stride for p in range(5)
        ]
        assert sampled.tolist() == [0, 25]
        assert Dense.step.launches == [(26, 2)], "kernels of a new size are loaded outside of time"
        with capture(stream) as graph:
            work.launch(stream)
        before = len(fake.launches())
        graph.launch(stream)
        stream.synchronize()
        graph.close()
        names = [launch.name for launch in fake.launches()[before:]]
        assert names == ["paged_decode", "paged_prefill"] * SHAPE.layers
        work.prepare(stream, batch())
        assert len(Dense.step.launches) == 2, "a size is loaded once"
    finally:
        work.close()
        room.close()
