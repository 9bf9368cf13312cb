"""What a step's kernels are told: which tokens, where their keys go, whose pages they read."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.hwbackend.fake.control import Fake
from tests.hwbackend.on_fake.nccl import Nccl

from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.attention.reference import (
    attention,
    bf16_of,
    floats_of_bf16,
    keys_and_values,
)
from vsim.hwbackend.compiling.compiler import compiled
from vsim.hwbackend.compiling.cubin import Cubin
from vsim.hwbackend.cuda.buffers import DeviceBuffer, upload
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import devices
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.places import place_of
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.model_step import Reduction, StepLimits
from vsim.hwbackend.dense.shape import DenseShape
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.memory.slots import TierSlots
from vsim.hwbackend.replay import model_work, selected_work
from vsim.hwbackend.replay.gpu import gpu_carriers
from vsim.hwbackend.replay.model_work import ModelWork, decodes_first
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.output_check import Row, WrongOutputError, check_row
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import replay
from vsim.hwbackend.replay.rooms import PagedRoom
from vsim.hwbackend.replay.selected_work import by_layer
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.hwbackend.replay.tensor_gpus import tensor_carriers
from vsim.sim.engine.backend import StepBatch
from vsim.traces.faults import InputError

SHAPE = DenseShape("tiny", layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn_hidden=512,
                   vocabulary=1000)  # fmt: skip
LAYOUT = PageLayout(16, 2, 64, 2)


COMPILE = """
import sys
from vsim.hwbackend.compiling.compiler import compiled
compiled(*eval(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile where no driver is loaded: NVRTC looks for one, and does not take the fake."""
    done: set[str] = set()
    outside = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}

    def apart(source: Path, arch: str, defines: dict[str, int | str]) -> Cubin:
        given = repr((str(source), arch, defines))
        if given not in done:
            done.add(given)
            subprocess.run([sys.executable, "-c", COMPILE, given], env=outside, check=True)
        return compiled(source, arch, defines)

    monkeypatch.setattr("vsim.hwbackend.attention.decode.compiled", apart)
    monkeypatch.setattr("vsim.hwbackend.attention.prefill.compiled", apart)


class Step:
    """In place of the dense parts: keeps what it is told, and calls for attention."""

    queries, attended = 0x1000, 0x2000
    layers = 2

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


class Part(Step):
    """In place of one GPU's dense parts of a model over several."""

    def __init__(self, memory: Memory, shape: DenseShape) -> None:
        super().__init__()
        self.memory, self.shape, self.layers = memory, shape, shape.layers
        self.current: list[int] = []

    def parts(
        self, stream: Stream, tokens: int, sampled: int, attention: Callable[[int], None],
        kv: KvTarget,
    ) -> Iterator[Reduction]:  # fmt: skip
        self.launches.append((tokens, sampled))
        self.target = kv
        for layer in range(self.layers):
            self.current.append(int(call("cuCtxGetCurrent")))
            attention(layer)
            yield Reduction(0x3000, tokens * self.shape.hidden)
            yield Reduction(0x3000, tokens * self.shape.hidden)


class Dense:
    step: Step
    filled: list[tuple[int, int]] = []  # noqa: RUF012 - a stand-in of one test at a time

    def __init__(self, context: Context, shape: DenseShape) -> None:
        Dense.step = Step()
        Dense.step.layers = shape.layers
        self.memory = Memory(context)
        self.kernels = self

    def fill_normal(self, stream: Stream, out: int, size_bytes: int, seed: int) -> None:
        Dense.filled.append((out, size_bytes))

    def __enter__(self) -> "Dense":
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()

    def model_step(self, stream: Stream, limits: StepLimits, *, rank: int) -> Step:
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


class PartOfDense(Dense):
    steps: list[Part] = []  # noqa: RUF012 - a stand-in of one test at a time

    def __init__(self, context: Context, shape: DenseShape) -> None:
        super().__init__(context, shape)
        self.part = Part(self.memory, shape)

    def model_step(self, stream: Stream, limits: StepLimits, *, rank: int) -> Step:
        assert rank == len(PartOfDense.steps)
        PartOfDense.steps.append(self.part)
        return self.part


TWO = """
name: two
seed: 3
workload:
  synth:
    requests: 2
    arrivals: {rate_per_s: 40}
    prompt_tokens: "0.5:90,0.99:400"
    output_tokens: "0.5:4,0.99:6"
machine: 2xh200-measured
model: llama-3.2-1b
parallel: {tensor: 2}
tiers:
  - {tier: hbm, capacity: 64MiB}
"""


def over_two(nccl: Nccl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    PartOfDense.steps = []
    monkeypatch.setitem(sys.modules, "nccl.bindings.nccl", nccl)
    monkeypatch.setattr(model_work, "DenseGpu", PartOfDense)
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return read_source(str(path), ReplayOptions(gpu=True))


def test_a_model_over_two_gpus_is_launched_part_by_part_with_sums_in_both_graphs(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nccl, options = Nccl(), ReplayOptions(gpu=True)
    source = over_two(nccl, tmp_path, monkeypatch)
    with tensor_carriers(source, options) as carriers:
        outcome = replay(source, options, carriers)
    assert outcome.compared == len(source.plan.operations)
    first, second = PartOfDense.steps
    # Both draw the same words, at the same positions, into the same slots of their own pages.
    for one, other in zip(first.loaded, second.loaded, strict=True):
        assert np.array_equal(one, other)
    assert first.launches == second.launches
    assert len(first.launches) > source.plan.steps  # in graphs, and once of each new size before
    assert len(set(first.current)) == len(set(second.current)) == 1
    assert first.current[0] != second.current[0], "each launches in its own GPU's context"
    shape = first.shape
    assert (shape.tensor, shape.heads, shape.gpu_kv_heads) == (2, 32, 4)
    assert first.target is not None
    assert second.target is not None
    assert first.target.base != second.target.base
    assert first.target.layer_stride == 2 * 4 * source.plan.page_tokens * 64 * 2
    # Two sums a layer, on each GPU's own stream, of all numbers of the residual stream.
    assert len(nccl.sums) == 2 * 2 * 16 * len(first.launches)
    assert {count for count, _, _ in nccl.sums} == {2048 * n for n, _ in first.launches}
    streams = {communicator: stream for _, communicator, stream in nccl.sums}
    assert len(set(streams.values())) == 2
    assert sorted(nccl.destroyed) == [0, 1]
    assert nccl.aborted == []
    kernels = [launch.name for launch in fake.launches()]
    assert {"paged_decode", "paged_prefill"} <= set(kernels)


@pytest.mark.parametrize("nth", [3, 32 + 3], ids=["before any graph", "in a graph"])
def test_a_sum_that_fails_ends_in_one_line_and_nobody_waits_for_it(
    nth: int, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nccl, options = Nccl(fails_at=nth), ReplayOptions(gpu=True)
    source = over_two(nccl, tmp_path, monkeypatch)
    with (
        pytest.raises(InputError, match=r"^GPU: nccl group_end.*unhandled cuda error"),
        tensor_carriers(source, options) as carriers,
    ):
        replay(source, options, carriers)
    assert nccl.aborted == [0, 1]
    assert nccl.destroyed == []


def test_without_nccl_a_model_over_gpus_is_refused_before_its_weights_are_drawn(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = over_two(Nccl(), tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "nccl.bindings.nccl", None)
    with (
        pytest.raises(InputError, match="nccl4py can't be imported"),
        tensor_carriers(source, ReplayOptions(gpu=True)),
    ):
        pass
    assert PartOfDense.steps == []


def recorded(tmp_path: Path) -> Source:
    trace = Path(__file__).parents[3] / "traces" / "recorded" / "standard.arrow"
    settings = ("workload.steps=3", "tiers.0.capacity=24MiB")
    return read_source(str(trace), ReplayOptions(gpu=True), overrides=settings)


def test_recorded_attention_reads_the_pages_that_each_layer_and_head_selected(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page of the log's attends is read once, by the layer and head that it is of."""
    monkeypatch.setattr(selected_work, "DenseGpu", Dense)
    source = recorded(tmp_path)
    selected, plan = source.selected, source.plan
    assert selected is not None
    assert (selected.layers, selected.requests, selected.heads) == (30, 1, 3)
    with gpu_carriers(source, ReplayOptions(gpu=True)) as carriers:
        outcome = replay(source, ReplayOptions(gpu=True), carriers)
    assert outcome.compared == plan.steps  # copies end with their step in this log
    names = [launch.name for launch in fake.launches()]
    launches = 2 * plan.steps + 1  # a step is its graph's second launch; once to load the kernels
    assert names.count("paged_decode") == 30 * launches
    for each in plan.operations:
        if each.kind != "step":
            continue
        batch = each.operation.batch
        assert batch is not None
        layers = by_layer(batch, selected)
        assert len(layers) == 30
        assert all(layer.requests <= 3 for layer in layers)
        read = np.concatenate([layer.indices for layer in layers])
        logged = np.concatenate([part.pages for part in each.reads])
        assert sorted(read.tolist()) == sorted(logged.tolist())


def test_recorded_attention_is_refused_where_it_can_t_be_replayed(
    fake: Fake, tmp_path: Path
) -> None:
    source = recorded(tmp_path)
    with (
        pytest.raises(InputError, match=r"engine\.movement: mapped is for pages"),
        gpu_carriers(replace(source, movement="mapped"), ReplayOptions(gpu=True)),
    ):
        pass


def test_an_output_of_other_pages_than_named_is_found(stream: Stream) -> None:
    """Pages are of normal numbers; the row attends to all but the last tokens of the second."""
    draw = np.random.Generator(np.random.PCG64(3))
    layout = PageLayout(16, 2, 64)
    raw = bf16_of(draw.standard_normal((3, layout.page_bytes // 2)))
    query = draw.standard_normal((1, 4, 64))
    with DeviceBuffer(1 << 20) as buffer:
        pages = buffer.address + np.arange(3) * layout.page_bytes
        upload(buffer.address, raw, stream)
        q, out = buffer.address + (1 << 19), buffer.address + (1 << 19) + 4096
        upload(q, bf16_of(query), stream)
        seen = [page.view(np.uint8) for page in raw]
        keys, values = keys_and_values(seen[:2], layout, 27)
        right = attention(floats_of_bf16(bf16_of(query)), keys, values)
        upload(out, bf16_of(right), stream)
        check_row(Row(q, out, pages[:2], 27, "request 5"), layout, 4, stream)
        for named, tokens in ((pages[1:], 27), (pages[:2], 32), (pages, 43)):
            with pytest.raises(WrongOutputError, match="attention of request 5 over"):
                check_row(Row(q, out, named, tokens, "request 5"), layout, 4, stream)
