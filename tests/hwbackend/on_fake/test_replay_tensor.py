"""A model over two GPUs: each carries out its share of every copy and step, or none is left."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from tests.hwbackend.fake.control import ILLEGAL_ADDRESS, LAUNCH_FAILED, OUT_OF_MEMORY, Fake
from tests.hwbackend.on_fake.test_replay_command import TINY

from vsim.hwbackend.cuda.buffers import DeviceBuffer, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.graphs import Graph
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.replay import gpu
from vsim.hwbackend.replay.contents import WrongPageError
from vsim.hwbackend.replay.cuda_carrier import copies
from vsim.hwbackend.replay.gpu_share import GpuShare, wait_for
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.outcome import Outcome
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import replay
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.source import Selected, Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.hwbackend.replay.tensor_gpus import tensor_carriers
from vsim.hwbackend.replay.view import show
from vsim.sim.engine.backend import Operation, StepBatch
from vsim.traces.faults import InputError

TWO = TINY.replace("machine: h100", "machine: 2xh200-measured") + "parallel: {tensor: 2}\n"
TWO = TWO.replace("requests: 24", "requests: 12").replace("capacity: 64MiB", "capacity: 48MiB")
PLAN, LIVE = ReplayOptions(gpu=True), ReplayOptions(gpu=True, mode="live")
MIB = 1 << 20


class SmallWork:
    """Steps that write a buffer on each GPU; `at_step` is called at each of them.

    Args:
        at_step: told the step's number.
        fills: how often each GPU writes.
    """

    def __init__(
        self, at_step: Callable[[int], None] | None = None, fills: tuple[int, int] = (1, 1)
    ) -> None:
        self.at_step, self.fills = at_step, fills
        self.steps = self.aborts = 0
        self.buffers: list[DeviceBuffer] = []

    def bytes(self, limits: Limits) -> int:
        return 2 * MIB

    def make(
        self, contexts: Sequence[Context], rooms: Sequence[PageRoom], limits: Limits
    ) -> "SmallWork":
        self.contexts = contexts
        for context in contexts:
            context.make_current()
            self.buffers.append(DeviceBuffer(2 * MIB))
        return self

    def prepare(self, streams: Sequence[Stream], batches: Sequence[StepBatch]) -> None:
        assert [len(batch) for batch in batches] == 2 * [len(batches[0])]
        self.steps += 1
        if self.at_step is not None:
            self.at_step(self.steps)

    def launch(self, streams: Sequence[Stream]) -> None:
        for context, stream, buffer, fills in zip(
            self.contexts, streams, self.buffers, self.fills, strict=True
        ):
            context.make_current()
            for _ in range(fills):
                fill(buffer.address, 1, 4096, stream)

    def verify(self, streams: Sequence[Stream]) -> int:
        return len(streams)

    def abort(self) -> None:
        self.aborts += 1

    def close(self) -> None:
        while self.buffers:
            self.buffers.pop().close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("replayed") / "two.yaml"
    path.write_text(TWO)
    return read_source(str(path), PLAN)


def replayed(source: Source, options: ReplayOptions, work: SmallWork | None = None) -> Outcome:
    with tensor_carriers(source, options, work or SmallWork()) as carriers:
        return replay(source, options, carriers)


def said(source: Source, options: ReplayOptions = PLAN, work: SmallWork | None = None) -> str:
    """The one line that a replay ends in."""
    with pytest.raises(InputError) as ended:
        replayed(source, options, work)
    (fault,) = ended.value.faults
    return str(fault)


def test_every_gpu_carries_out_its_share_of_each_operation(source: Source, fake: Fake) -> None:
    assert source.gpus == 2
    work = SmallWork()
    outcome = replayed(source, replace(PLAN, repeats=2), work)
    assert outcome.backend == "2 x Fake H200"
    assert outcome.compared == len(source.plan.operations)
    assert not pc.any(outcome.log.column("predicted")).as_py()
    copies = sum(each.kind == "copy" for each in source.plan.operations)
    assert copies > 0
    # Of each repeat, on each GPU: a step's first launch and the one that counts, and its copies.
    launches = fake.calls_by_name()["cuGraphLaunch"]
    assert launches == 2 * 2 * (2 * source.plan.steps + copies)
    assert work.aborts == 0


@pytest.mark.parametrize("options", [PLAN, LIVE], ids=["plan", "live"])
def test_pages_are_looked_at_on_every_gpu(
    options: ReplayOptions, source: Source, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = replayed(source, replace(options, verify=True))
    facts = outcome.facts
    show(outcome, None)
    said = capsys.readouterr().out.replace("\n", " ")
    assert ", 2 x Fake H200, driver" in said
    assert "the GPUs' times of steps were " in said
    assert facts["gpus"] == 2
    assert facts["pages_verified"] > 0
    assert facts["pages_verified"] % 2 == 0
    if options is PLAN:
        assert facts["outputs_verified"] == 2 * source.plan.steps
    else:
        assert outcome.decisions is not None


def test_a_step_takes_as_long_as_on_the_gpu_that_is_launched_last(
    source: Source, fake: Fake
) -> None:
    """The fake's clock goes on with each piece of work, whichever GPU does it."""

    def taken(fills: tuple[int, int]) -> tuple[float, float]:
        outcome = replayed(source, PLAN, SmallWork(fills=fills))
        rows = outcome.log.filter(pc.equal(outcome.log.column("kind"), "attend"))
        spans = pc.subtract(rows.column("end_ns"), rows.column("start_ns"))
        return pc.sum(spans).as_py(), outcome.facts["apart_s"]

    even_ns, even_apart_s = taken((1, 1))
    late_ns, late_apart_s = taken((1, 30))
    early_ns, early_apart_s = taken((30, 1))
    assert late_ns > even_ns
    assert early_ns - even_ns < (late_ns - even_ns) / 10
    assert min(late_apart_s, early_apart_s) > even_apart_s + 1e-9 * source.plan.steps * 10


def test_a_share_that_was_not_copied_is_found(
    source: Source, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_alone(self: GpuShare, operation: Operation) -> Graph:
        if self.context.device.ordinal:
            operation = replace(operation, targets=operation.sources)
        return copies(operation, self.room, self.way(operation))

    monkeypatch.setattr(GpuShare, "copies", first_alone)
    with pytest.raises(WrongPageError, match="should hold page"):
        replayed(source, replace(PLAN, verify=True))


def test_mapped_pages_come_under_the_addresses_of_every_gpu(tmp_path: Path, fake: Fake) -> None:
    path = tmp_path / "mapped.yaml"
    # A token of this model takes 32 KiB: 128 tokens are two chunks, one a GPU.
    path.write_text(TWO + "engine: {movement: mapped, page_tokens: 128}\n")
    source = read_source(str(path), PLAN)
    assert source.plan.page_bytes == 4 * MIB
    outcome = replayed(source, replace(PLAN, verify=True))
    assert outcome.facts["pages_mapped"] > 0
    assert outcome.facts["pages_verified"] > 0
    steps = outcome.log.filter(pc.equal(outcome.log.column("kind"), "compute"))
    assert steps.num_rows == source.plan.steps


def test_pages_whose_shares_are_no_whole_chunks_can_t_be_mapped(source: Source, fake: Fake) -> None:
    assert "pages of 262,144 bytes on a GPU are no whole chunks of 2,097,152" in said(
        replace(source, movement="mapped")
    )


def test_no_gpu_takes_more_than_was_said(source: Source, fake: Fake) -> None:
    most = [0, 0]

    def look(_: int) -> None:
        for number in range(2):
            most[number] = max(most[number], fake.used(f"device:{number}"))

    outcome = replayed(source, PLAN, SmallWork(look))
    hbm = outcome.needs[0]
    assert most[0] == most[1]
    assert sum(most) == hbm.kv_bytes + 2 * (2 * MIB)


def test_too_little_memory_of_any_gpu_is_refused_before_any_is_taken(
    source: Source, fake: Fake
) -> None:
    fake.limit("device:1", 16 * MIB)
    assert said(source) == (
        "GPU: device:1: takes 26 MiB, and 16 MiB are free; write a smaller capacity"
    )
    assert fake.calls_by_name()["cuMemCreate"] == 0


def test_memory_of_all_the_host_s_nodes_is_held_against_what_the_host_has(
    source: Source, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "host_free_bytes", lambda: 10 * MIB)
    # 27 pages of 512 KiB: on each node 27 shares of 256 KiB, in 4 chunks.
    assert source.plan.slots[1] == 27
    assert said(source) == (
        "GPU: host:0 and host:1: takes 16 MiB, and 10 MiB are free; write a smaller capacity"
    )
    assert fake.calls_by_name()["cuMemCreate"] == 0


def test_a_copy_s_time_begins_when_it_is_submitted(source: Source, fake: Fake) -> None:
    """Behind another one of its way, which its time then holds."""
    pages = np.arange(3)
    operations = [
        Operation("copy", n, 0, 0, 1, pages, pages + source.plan.slots[0], 3 * MIB)
        for n in range(2)
    ]
    with tensor_carriers(source, PLAN, SmallWork()) as carriers:
        backend = carriers.for_plan(source)
        try:
            for operation in operations:
                backend.submit(operation)
            first, second = (backend.wait() for _ in operations)
        finally:
            backend.close()
    assert first is not None
    assert second is not None
    assert second.at_ns - second.began_ns > 1.5 * (first.at_ns - first.began_ns)


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        (lambda s: replace(s, gpus=3), PLAN, "spread over 3 GPUs, and there are 2; write parallel"),
        (
            lambda s: replace(s, plan=replace(s.plan, tiers=("hbm", "peer"))), PLAN,
            "tier peer: is memory of a GPU left free, and all 2 compute",
        ),
        (lambda s: s, replace(PLAN, disk="."), "--disk: the model is spread over 2 GPUs"),
        (
            lambda s: replace(s, selected=Selected(1, 1, 1, 1)), PLAN,
            "and recorded attention on one; write parallel: {tensor: 1}",
        ),
        (lambda s: replace(s, server=None), PLAN, "name the scenario that it was made of"),
        (lambda s: replace(s, precision=("bf16", "int8")), PLAN, "precision.kv: int8 has no"),
    ],
)  # fmt: skip
def test_what_several_gpus_can_t_do_is_refused_by_name(
    change: Callable[[Source], Source], options: ReplayOptions, why: str, source: Source, fake: Fake
) -> None:
    assert why in said(change(source), options)
    assert fake.live() == {}


def on_second_gpu(fake: Fake, source: Source, call: str, code: int, skip: int) -> str:
    """Let a call fail, `skip` of its kind later than a step of the middle; what is said then."""

    def fail(step: int) -> None:
        if step == 20:
            fake.fail(call, nth=1 + skip, code=code)

    work = SmallWork(fail)
    line = said(source, PLAN, work)
    assert fake.failures_left() == 0
    assert work.aborts == 1
    return line


@pytest.mark.parametrize(
    ("call", "code", "name"),
    [
        ("cuStreamBeginCapture", 999, "CUDA_ERROR_UNKNOWN"),
        ("cuStreamEndCapture", 999, "CUDA_ERROR_UNKNOWN"),
        ("cuGraphInstantiateWithFlags", OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuGraphLaunch", LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuEventRecord", ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("cuCtxSetCurrent", ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_what_fails_on_the_second_gpu_ends_in_one_line_and_lets_the_first_go(
    call: str, code: int, name: str, source: Source, fake: Fake
) -> None:
    line = on_second_gpu(fake, source, call, code, skip=1)
    assert line.startswith(f"GPU: {call.removesuffix('WithFlags')}")
    assert name in line


@pytest.mark.parametrize("options", [PLAN, LIVE], ids=["plan", "live"])
@pytest.mark.parametrize(
    ("call", "nth"), [("cuMemCreate", 25), ("cuMemSetAccess", 3), ("cuMemcpyAsync", 2)]
)
def test_memory_and_copies_that_fail_leave_nothing(
    call: str, nth: int, options: ReplayOptions, source: Source, fake: Fake
) -> None:
    fake.fail(call, nth=nth, code=ILLEGAL_ADDRESS)
    line = said(source, options)
    assert line.startswith(f"GPU: {call}")
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in line


@pytest.mark.parametrize("nth", [40, 1_500, 4_000])
def test_a_gpu_that_is_lost_ends_in_one_line(nth: int, source: Source, fake: Fake) -> None:
    fake.lose_device_at(nth)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS (700)" in said(source)
    fake.reset()  # only a new process can go on, so that nothing can be given back


class Waiting:
    """A GPU that waits for another one for ever."""

    def __init__(self) -> None:
        self.context = self

    def make_current(self) -> None: ...

    def done(self) -> bool:
        return False


class Failed(Waiting):
    """A GPU that has failed."""

    def done(self) -> bool:
        raise CudaError("cuStreamQuery", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")


def test_a_gpu_that_failed_is_found_though_another_waits_for_it_for_ever() -> None:
    gpus: Any = (Waiting(), Failed())
    with pytest.raises(CudaError, match="cuStreamQuery"):
        wait_for(gpus)


def test_an_interrupt_gives_everything_back(source: Source, fake: Fake) -> None:
    def stop(step: int) -> None:
        if step == 40:
            raise KeyboardInterrupt

    for options in (PLAN, LIVE):
        work = SmallWork(stop)
        with pytest.raises(KeyboardInterrupt):
            replayed(source, options, work)
        assert work.aborts == 1
