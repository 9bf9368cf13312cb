"""A replay on GPUs ends in one clear line when something fails, and holds nothing afterwards."""

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from tests.hwbackend.fake.control import ILLEGAL_ADDRESS, LAUNCH_FAILED, OUT_OF_MEMORY, Fake
from tests.hwbackend.replay.conftest import SMALL
from tests.seeds import some

from vsim.hwbackend.cuda.buffers import DeviceBuffer, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, devices
from vsim.hwbackend.cuda.places import place_of
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.memory.slots import TierSlots
from vsim.hwbackend.replay import cuda_carrier, gpu
from vsim.hwbackend.replay.contents import Contents, WrongPageError
from vsim.hwbackend.replay.gpu import gpu_carriers
from vsim.hwbackend.replay.options import Mode, ReplayOptions
from vsim.hwbackend.replay.outcome import Outcome
from vsim.hwbackend.replay.places import disk_tier, placed_tiers
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import replay
from vsim.hwbackend.replay.rooms import PagedRoom, PageRoom
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.hwbackend.replay.view import show
from vsim.sim.engine.backend import Operation, StepBatch
from vsim.traces.faults import InputError

# As many pages as that and fewer bytes in each, and steps as its copies need: all bytes are moved.
TINY = SMALL
for old, new in (
    ("llama-3.1-8b", "llama-3.2-1b"), ("capacity: 1GiB", "capacity: 64MiB"),
    ("0.5:900,0.99:4000", "0.5:225,0.99:1000"), ("0.5:200,0.99:900", "0.5:50,0.99:225"),
    ("0.5:40,0.99:120", "0.5:12,0.99:40"),
):  # fmt: skip
    TINY = TINY.replace(old, new)
PLAN, LIVE = ReplayOptions(gpu=True), ReplayOptions(gpu=True, mode="live")


class SmallWork:
    """Steps that write a buffer; `at_step` is called at one of them."""

    def __init__(self, at_step: Callable[[int], None] | None = None) -> None:
        self.at_step = at_step
        self.steps = 0

    def bytes(self, limits: Limits) -> int:
        return 2 << 20

    def make(self, context: Context, room: PageRoom, limits: Limits) -> "SmallWork":
        self.buffer = DeviceBuffer(2 << 20)
        return self

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        self.steps += 1
        if self.at_step is not None:
            self.at_step(self.steps)

    def launch(self, stream: Stream) -> None:
        fill(self.buffer.address, 1, 4096, stream)

    def verify(self, stream: Stream) -> int:
        return 1

    def close(self) -> None:
        self.buffer.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("replayed") / "small.yaml"
    path.write_text(TINY)
    return read_source(str(path), PLAN)


def replayed(source: Source, options: ReplayOptions, work: SmallWork | None = None) -> Outcome:
    with gpu_carriers(source, options, work or SmallWork()) as carriers:
        return replay(source, options, carriers)


def said(source: Source, options: ReplayOptions = PLAN, work: SmallWork | None = None) -> str:
    """The one line that a replay ends in."""
    with pytest.raises(InputError) as ended:
        replayed(source, options, work)
    (fault,) = ended.value.faults
    return str(fault)


def test_a_plan_is_carried_out_and_timed_by_events(source: Source, fake: Fake) -> None:
    outcome = replayed(source, replace(PLAN, repeats=2))
    assert outcome.backend == "Fake H200"
    assert outcome.compared == len(source.plan.operations) == 361
    assert not pc.any(outcome.log.column("predicted")).as_py()
    assert outcome.total.spread is not None
    calls = fake.calls_by_name()
    copies = sum(each.kind == "copy" for each in source.plan.operations)
    launched = 2 * source.plan.steps + copies  # a step's first launch does not count
    assert calls["cuGraphLaunch"] == 2 * launched
    assert calls["cuMemcpyAsync"] >= 2 * copies


def test_a_live_replay_serves_every_request_on_the_clock(source: Source, fake: Fake) -> None:
    outcome = replayed(source, LIVE)
    assert outcome.decisions is not None
    assert outcome.facts["skipped_s"] > 0
    assert outcome.log.num_rows > 0


def test_a_gpu_rests_after_the_first_launch_of_a_long_step_alone(
    source: Source, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    replayed(source, PLAN)
    assert len(rests) < source.plan.steps / 10  # where this host was held up
    rests.clear()
    monkeypatch.setattr(cuda_carrier, "LONG_NS", 0)
    replayed(source, PLAN)
    assert len(rests) == source.plan.steps
    assert min(rests) > 0


def test_neither_slow_preparation_nor_a_slow_look_moves_the_next_step(
    source: Source, fake: Fake
) -> None:
    class Looking(SmallWork):
        def verify(self, stream: Stream) -> int:
            if self.steps == 5:
                time.sleep(0.3)
            return 1

    work = Looking(lambda step: time.sleep(0.3) if step == 5 else None)
    outcome = replayed(source, replace(LIVE, verify=True), work)
    steps = outcome.log.filter(pc.equal(outcome.log.column("kind"), "compute"))
    begins = steps.column("submit_ns").to_numpy()[3:7]
    assert np.diff(begins).max() < 200e6
    assert outcome.facts["host_prepared_s"] > 0.3
    assert outcome.facts["host_finished_s"] > 0.3


def test_what_measured_is_said(
    source: Source, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    show(replayed(source, replace(PLAN, verify=True)), None)
    found = capsys.readouterr().out
    assert "on Fake H200\n" in found
    assert "Fake H200, driver unknown, CUDA 13.0; the host prepared steps for" in found
    assert "times a page was looked at, and none was wrong" in found
    assert "339 outputs of attention were held against a dense reference" in found
    assert "Nothing was measured" not in found


def test_no_more_memory_is_taken_than_was_said(source: Source, fake: Fake) -> None:
    most = 0

    def look(_: int) -> None:
        nonlocal most
        most = max(most, fake.used("device:0"))

    outcome = replayed(source, PLAN, SmallWork(look))
    hbm = outcome.needs[0]
    assert hbm.weight_bytes + hbm.buffer_bytes >= 2 << 20
    assert most == hbm.kv_bytes + (2 << 20)


def test_too_little_memory_is_refused_before_any_is_taken(source: Source, fake: Fake) -> None:
    fake.limit("device:0", 32 << 20)
    assert said(source) == (
        "GPU: device:0: takes 66 MiB, and 32 MiB are free; write a smaller capacity"
    )
    assert fake.calls_by_name()["cuMemCreate"] == 0


def test_memory_that_runs_out_all_the_same_is_one_line(source: Source, fake: Fake) -> None:
    for _ in range(2):  # the first time what nobody uses is given back
        fake.fail("cuMemCreate", nth=20, code=OUT_OF_MEMORY)
    fake.fail("cuMemCreate", nth=21, code=OUT_OF_MEMORY)
    line = said(source)
    assert line.startswith("GPU: cuMemCreate of 2,097,152 bytes")
    assert "CUDA_ERROR_OUT_OF_MEMORY" in line


@pytest.mark.parametrize(
    ("call", "code", "name"),
    [
        ("cuMemcpyAsync", ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("cuGraphLaunch", LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuEventQuery", ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("cuStreamBeginCapture", 999, "CUDA_ERROR_UNKNOWN"),
        ("cuEventCreate", OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuMemSetAccess", 999, "CUDA_ERROR_UNKNOWN"),
    ],
)
@pytest.mark.parametrize("options", [PLAN, LIVE], ids=["plan", "live"])
def test_a_call_that_fails_is_named_and_nothing_is_left(
    call: str, code: int, name: str, options: ReplayOptions, source: Source, fake: Fake
) -> None:
    fake.fail(call, nth=2 if call == "cuMemSetAccess" else 20, code=code)
    line = said(source, options)
    assert line.startswith(f"GPU: {call}")
    assert name in line


@pytest.mark.parametrize("nth", some([1, 3, 50, 500, 1_500, 2_500, 4_500], 3))
def test_a_device_that_is_lost_ends_in_one_line(nth: int, source: Source, fake: Fake) -> None:
    fake.lose_device_at(nth)
    line = said(source)
    assert line.startswith("GPU: cu")
    assert "CUDA_ERROR_ILLEGAL_ADDRESS (700)" in line
    fake.reset()  # only a new process can go on, so that nothing can be given back


def test_what_stops_the_process_gives_everything_back(source: Source, fake: Fake) -> None:
    def stop(step: int) -> None:
        if step == 40:
            raise KeyboardInterrupt

    for options in (PLAN, LIVE):
        with pytest.raises(KeyboardInterrupt):
            replayed(source, options, SmallWork(stop))


def test_a_peer_needs_a_second_gpu_and_other_tiers_a_stand_in(source: Source, fake: Fake) -> None:
    peer = replace(source, server=None, plan=replace(source.plan, tiers=("hbm", "peer")))
    both = placed_tiers(peer, (1, 2), devices())
    assert [str(tier.place) for tier in both] == ["device:0", "device:1"]
    with pytest.raises(InputError, match="is a second GPU's memory, and there is one GPU"):
        placed_tiers(peer, (1, 2), [Device(0)])
    flash = replace(source, server=None, plan=replace(source.plan, tiers=("hbm", "nvme")))
    with pytest.raises(InputError, match=r"kind nvme.* with --disk, or write --stand-in nvme=host"):
        placed_tiers(flash, (1, 2), devices())


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("replayed") / "flash.yaml"
    few = TINY.replace("requests: 24", "requests: 16")
    path.write_text(few.replace("tier: host", "tier: nvme"))
    return read_source(str(path), PLAN)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file system will do: what is claimed is not how fast a disk is."""
    monkeypatch.setattr(
        gpu, "disk_tier", lambda *given: replace(disk_tier(*given), direct=False)
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["plan", "live"])
@pytest.mark.usefixtures("cached")
def test_pages_of_an_nvme_tier_lie_on_a_disk_and_are_looked_at_there(
    mode: Mode, flash: Source, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = replayed(flash, ReplayOptions(mode, gpu=True, verify=True, disk=str(tmp_path)))
    written = [row for row in outcome.log.to_pylist() if row["target_tier"] == "nvme"]
    read = [row for row in outcome.log.to_pylist() if row["source_tier"] == "nvme"]
    assert written
    assert read
    assert min(row["end_ns"] - row["submit_ns"] for row in [*written, *read]) > 0
    assert outcome.facts["pages_verified"] > 0
    assert list(tmp_path.iterdir()) == []
    show(outcome, None)
    assert f"pages on {tmp_path} (" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.usefixtures("cached")
def test_a_disk_that_fails_ends_in_one_line_and_nothing_is_left(
    flash: Source, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwritev", full)
    line = said(flash, replace(PLAN, disk=str(tmp_path)))
    assert line.startswith("--disk: pwritev of ")
    assert "Input/output error (5)" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "folder", "why"),
    [
        ({}, ".", "--disk: the lowest tier, host, is of kind host and lies on no disk; remove it"),
        ({"tiers": ("hbm", "nvme")}, "nowhere/at/all", "'nowhere/at/all' is no folder"),
    ],
)
def test_a_disk_is_for_the_lowest_tier_alone_and_a_folder(
    change: dict[str, object], folder: str, why: str, source: Source
) -> None:
    plan = replace(source.plan, **change)  # type: ignore[arg-type]  # fields of any type
    with pytest.raises(InputError, match=re.escape(why)):
        disk_tier(replace(source, server=None, plan=plan), (1, 2), folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"precision": ("fp8", "bf16")}, "precision.weights: fp8 has no kernels here"),
        ({"precision": ("bf16", "int8")}, "precision.kv: int8 has no kernels here"),
    ],
)
def test_what_these_kernels_can_t_do_is_refused_by_name(
    change: dict[str, object], why: str, source: Source, fake: Fake
) -> None:
    assert why in said(replace(source, **change))  # type: ignore[arg-type]  # fields of any type
    assert fake.live() == {}


def test_a_page_that_was_overwritten_is_found(context: Context, stream: Stream) -> None:
    slots = [TierSlots("hbm", place_of("device:0"), 4), TierSlots("host", place_of("host:0"), 4)]
    room = PagedRoom(4096, slots, 2 << 20, devices()[:1])
    try:
        contents = Contents(None, 16)
        one = np.array([0, 1])
        batch = StepBatch(
            rows=np.array([7]), new_tokens=np.array([20]), context_tokens=np.array([20]),
            samples=np.array([True]), indptr=np.array([0, 2], np.int32),
            indices=one.astype(np.int32), last_page_len=np.array([4], np.int32),
        )  # fmt: skip
        contents.stepped(Operation("step", 0, batch=batch), room, stream)
        contents.look_at_all(room, stream)
        copy = Operation("copy", 1, 0, 0, 1, one, one + 4, 8192)
        with pytest.raises(WrongPageError, match=r"slot 4 should hold page .* the first at byte 0"):
            contents.copied(copy, room, stream)  # nothing was copied
        fill(int(room.addresses(one)[1]) + 4092, 0, 4, stream)
        with pytest.raises(
            WrongPageError, match=r"1 of its 1,024 words .* the first at byte 4,092"
        ):
            contents.look_at_all(room, stream)
    finally:
        room.close()


class NamesByPage:
    """Names of a trace in which every page of a request is its own."""

    def of(self, row: int, page: int) -> int:
        return 100 * row + page


def one_request(tokens: int, new: int, slots: list[int]) -> Operation:
    """A step of request 7, whose pages of 16 tokens are listed as a log lists them."""
    batch = StepBatch(
        rows=np.array([7]), new_tokens=np.array([new]), context_tokens=np.array([tokens]),
        samples=np.array([True]), indptr=np.array([0, len(slots)], np.int32),
        indices=np.array(slots, np.int32),
        last_page_len=np.array([(tokens - 1) % 16 + 1], np.int32),
    )  # fmt: skip
    return Operation("step", 0, batch=batch)


def test_pages_that_a_batch_lists_in_another_order_are_found(
    context: Context, stream: Stream
) -> None:
    slots = [TierSlots("hbm", place_of("device:0"), 4), TierSlots("host", place_of("host:0"), 4)]
    room = PagedRoom(4096, slots, 2 << 20, devices()[:1])
    try:
        names: Any = NamesByPage()
        contents = Contents(names, 16)
        contents.stepped(one_request(40, 40, [0, 5, 1]), room, stream)
        contents.stepped(one_request(50, 10, [0, 5, 1, 2]), room, stream)
        contents.look_at_all(room, stream)
        with pytest.raises(WrongPageError, match="as its page 0"):
            contents.stepped(one_request(51, 1, [5, 0, 1, 2]), room, stream)
    finally:
        room.close()


class WritingWork(SmallWork):
    """Steps that write their tokens where kernels write keys: by the batch's order of pages."""

    def make(self, context: Context, room: PageRoom, limits: Limits) -> "WritingWork":
        super().make(context, room, limits)
        self.room = room
        return self

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        super().prepare(stream, batch)
        self.batch = batch

    def launch(self, stream: Stream) -> None:
        batch, size = self.batch, self.room.slot_bytes // 16
        for i, (end, new) in enumerate(zip(batch.context_tokens, batch.new_tokens, strict=True)):
            for token in range(int(end - new), int(end)):
                unit = int(batch.indices[batch.indptr[i] + token // 16])
                page = self.room.base + unit * self.room.slot_bytes
                fill(page + token % 16 * size, 7, size, stream)


def test_tokens_of_pages_over_two_gpus_are_written_into_their_own_pages(
    tmp_path: Path, fake: Fake
) -> None:
    path = tmp_path / "peer.yaml"
    text = SMALL.replace("h100", "2xh200-measured").replace("tier: host", "tier: peer")
    for old, new in (
        ("requests: 24", "requests: 3"),
        ('"0.5:40,0.99:120"', '"0.5:300,0.99:400"'),  # so that pages are born while others decode
        ("capacity: 4GiB", "access: in_place"),
    ):
        text = text.replace(old, new)
    path.write_text(text + "engine: {placement: balanced}\n")
    options = replace(PLAN, verify=True)
    source = read_source(str(path), options)
    assert any(len(each.reads) > 1 for each in source.plan.operations)
    outcome = replayed(source, options, WritingWork())
    assert outcome.facts["pages_verified"] > 100
