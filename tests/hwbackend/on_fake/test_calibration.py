import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.hwbackend.fake.control import Fake
from tests.hwbackend.on_fake.nccl import Nccl

from vsim.hwbackend.calibration import disk_copies, paging
from vsim.hwbackend.calibration.bench import HBM, HOST, PEER, SPARE, Bench
from vsim.hwbackend.calibration.measure import FAILED, measure
from vsim.hwbackend.calibration.plan import DISK_ROUTES, VMM_CALLS, WHOLE, Plan
from vsim.hwbackend.calibration.shown import shown
from vsim.hwbackend.cuda.buffers import fill
from vsim.hwbackend.measuring.at_once import AtOnce
from vsim.hwbackend.measuring.samples import Work
from vsim.hwbackend.memory.files import PageFile
from vsim.traces.gpu_samples import GpuSamples, point

OUT_OF_MEMORY = 2
MIB = 1 << 20
SMALL = {HBM: 16 * MIB, SPARE: 8 * MIB, PEER: 8 * MIB, HOST: 8 * MIB}
HEADS = {"heads": 8, "kv_heads": 2, "head_dim": 64}
POINTS = (
    point("launch", "kernel", kernels=4),
    point("launch", "graph kernel", kernels=4),
    point("launch", "graph", kernels=1),
    point("launch", "event"),
    point("launch", "round trip"),
    *(
        point("vmm", f"{place} {call}", chunk=2 * MIB, chunks=chunks)
        for place in ("hbm", "peer", "host") for chunks in (1, 3) for call in VMM_CALLS
    ),
    *(point("clearing", f"hbm {what}", chunk=2 * MIB, chunks=3) for what in ("end", "turn")),
    *(
        each
        for place in ("hbm", "peer", "host")
        for each in (point("read", place, bytes=MIB, sixteenths=16),
                     point("latency", place, bytes=MIB))
    ),
    point("write", "hbm", bytes=MIB, sixteenths=16),
    *(
        point("copy", f"{route} {way}", bytes=65536, count=3)
        for route in ("hbm-hbm", "host-hbm", "hbm-peer") for way in ("engine", "kernel")
    ),
    point("copy", "host-hbm both ways", bytes=MIB, count=1),
    point("decode_attention", "hbm", batch=2, context=64, **HEADS),
    *(
        point("ragged_attention", order, shorts=4, short=16, longs=2, long=64, **HEADS)
        for order in ("together", "spread")
    ),
    *(
        point("mixed_attention", place, batch=2, context=64, share=share, **HEADS)
        for place in ("peer", "host") for share in (0, WHOLE // 4, WHOLE)
    ),
    point("prefill_attention", "hbm", prompts=2, tokens=32, prefix=32, **HEADS),
)  # fmt: skip


def plan(*points: object) -> Plan:
    return Plan(points, 2, 0.0)  # type: ignore[arg-type]  # points they are


def test_every_point_is_measured_and_everything_given_back(fake: Fake, tmp_path: Path) -> None:
    samples = measure(plan(*POINTS), most_bytes=SMALL)
    assert samples.left_out == ()
    assert {row.point for row in samples.rows} == set(POINTS)
    assert all(len(row.samples) >= 2 for row in samples.rows)
    samples.write(tmp_path / "s.arrow", "a test")
    assert GpuSamples.read(tmp_path / "s.arrow").rows == samples.rows
    assert sum(" " in line for line in shown(samples)) > 20


def test_pages_are_copied_as_graphs_alone_and_beside_a_step_s_products(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fills(bench: Bench, tokens: int) -> Iterator[Work]:
        address = bench.memory(HBM, MIB)
        yield lambda stream: fill(address, 1, MIB, stream)

    beside_us = (3.0, 2.0, 4.0)
    monkeypatch.setattr(paging, "layer_load", fills)  # the fake has no library of products
    monkeypatch.setattr(paging, "at_once", lambda *given: AtOnce((1.0,), beside_us))
    asked = [
        point("paging", f"{route} {what}", bytes=65536, count=3)
        for route in ("host-hbm", "hbm-peer") for what in ("alone", "beside")
    ]  # fmt: skip
    samples = measure(plan(*asked), most_bytes=SMALL)
    assert samples.left_out == ()
    assert [row.bytes for row in samples.rows] == [3 * 65536] * 4
    assert [row.samples == beside_us for row in samples.rows] == [False, True] * 2
    assert fake.calls_by_name()["cuGraphLaunch"] >= 6


@pytest.mark.parametrize("route", DISK_ROUTES)
def test_a_disk_is_measured_through_pinned_buffers_and_keeps_nothing(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.setattr(disk_copies, "PageFile", partial(PageFile, direct=False))
    asked = [point("copy", f"{route} engine", bytes=65536, count=count) for count in (1, 5)]
    samples = measure(plan(*asked), most_bytes=SMALL, disk=tmp_path)
    assert samples.left_out == ()
    assert [row.bytes for row in samples.rows] == [65536, 5 * 65536]
    assert all(len(row.samples) == 2 and min(row.samples) > 0 for row in samples.rows)
    # Each of 6 pieces once to fill the file and twice to be timed; numbers were drawn before.
    assert fake.calls_by_name()["cuMemcpyAsync"] >= 3 * 6
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_nobody_named_is_left_out_by_name(fake: Fake) -> None:
    asked = plan(point("copy", "nvme-hbm engine", bytes=65536, count=1), point("launch", "event"))
    samples = measure(asked, most_bytes=SMALL)
    assert samples.left_out == ("copy nvme-hbm: no disk was named; write --disk FOLDER",)
    assert len(samples.rows) == 1


def test_sums_are_of_both_gpus_and_leave_the_first_one_current(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    nccl = Nccl()
    monkeypatch.setitem(sys.modules, "nccl.bindings.nccl", nccl)
    asked = [point("all_reduce", "nccl", bytes=size, gpus=2) for size in (1024, MIB)]
    samples = measure(plan(*asked, point("launch", "kernel", kernels=4)), most_bytes=SMALL)
    assert samples.left_out == ()
    assert [row.point for row in samples.rows][:2] == asked
    assert all(
        len(row.samples) == 2 and row.bytes == row.point["bytes"] for row in samples.rows[:2]
    )
    assert {count for count, _, _ in nccl.sums} == {512, MIB // 2}
    streams = {communicator: stream for _, communicator, stream in nccl.sums}
    assert len(streams) == len(set(streams.values())) == 2


def test_without_nccl_sums_are_left_out_by_name_and_the_rest_is_measured(fake: Fake) -> None:
    asked = plan(point("all_reduce", "nccl", bytes=1024, gpus=2), point("launch", "event"))
    samples = measure(asked, most_bytes=SMALL)
    assert len(samples.rows) == 1
    assert "nccl4py can't be imported" in samples.left_out[0]


def test_a_board_that_nvml_does_not_know_is_left_out_by_name(fake: Fake) -> None:
    asked = plan(point("power", "idle"), point("launch", "event"))
    samples = measure(asked, most_bytes=SMALL)
    assert samples.left_out == ("power idle: NVML does not know this GPU",)
    assert [row.point.probe for row in samples.rows] == ["launch"]


def test_what_does_not_fit_is_left_out_and_the_rest_is_measured(fake: Fake) -> None:
    large = point("read", "host", bytes=64 * MIB, sixteenths=16)
    samples = measure(plan(large, point("launch", "event")), most_bytes=SMALL)
    (why,) = samples.left_out
    assert why == "read host: 134,217,728 bytes of host, where there are 8,388,608"
    assert len(samples.rows) == 1


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("call", ["cuMemCreate", "cuMemMap", "cuMemSetAccess"])
def test_a_call_that_fails_loses_its_points_and_nothing_else(
    fake: Fake, capsys: pytest.CaptureFixture[str], call: str, nth: int
) -> None:
    asked = [each for each in POINTS if each.probe in ("vmm", "mixed_attention")]
    fake.fail(call, nth=nth, code=OUT_OF_MEMORY)
    samples = measure(plan(*asked, point("launch", "event")), most_bytes=SMALL)
    assert samples.rows[-1].point.probe == "launch"
    assert len(samples.left_out) <= 1
    assert all(FAILED in why and call in why for why in samples.left_out)
    assert ("OutOfMemory" in capsys.readouterr().err) == bool(samples.left_out)


def test_what_is_not_begun_in_time_is_left_out_by_name(fake: Fake) -> None:
    asked = plan(point("launch", "event"), *(each for each in POINTS if each.probe == "copy"))
    samples = measure(asked, most_bytes=SMALL, most_s=-1.0)
    assert samples.rows == ()
    assert "launch event: not begun, -1 s were over" in samples.left_out
    assert len(samples.left_out) == len(set(samples.left_out)) == 4


def test_a_lost_gpu_ends_the_measurement_and_what_was_measured_stays(fake: Fake) -> None:
    begin = fake.call_count()
    measure(plan(point("launch", "event")), most_bytes=SMALL)
    calls = fake.call_count() - begin
    fake.reset()
    fake.lose_device_at(nth=calls + 40)
    asked = plan(point("launch", "event"), *POINTS[5:])
    samples = measure(asked, most_bytes=SMALL)
    fake.reset()  # what a lost GPU held nobody can give back
    assert samples.rows[0].point.probe == "launch"
    assert samples.left_out[-1] == "all after it: the GPU is lost to this process"
