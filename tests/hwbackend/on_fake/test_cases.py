"""Validation cases run to their end on the fake driver: the smallest of each kind."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.cases import bench, looping
from vsim.hwbackend.cases.__main__ import main
from vsim.hwbackend.cases.measure import measure
from vsim.sim.fidelity.gpu.cases import AttentionCase, CopyCase, GpuCase, MappingCase, MixedCase
from vsim.sim.fidelity.gpu.heads import Heads
from vsim.sim.fidelity.gpu.loop_cases import LoopCase, LoopCopy, Stay
from vsim.sim.fidelity.gpu.recording import read_cases

HEADS = Heads(4, 1, 128)
BATCH = AttentionCase("a batch", HEADS, 2, (100, 17))
MIB = 1 << 20
SMALL: tuple[GpuCase, ...] = (
    BATCH,
    MixedCase("mixed", HEADS, 2, (160, 32), peer_share=0.25, host_share=0.25),
    CopyCase("copies", "host", "hbm", 4096, 3),
    CopyCase("by kernel", "hbm", "peer", 4096, 3, way="kernel"),
    MappingCase("burst", "burst", "hbm", 2 * MIB, 3, 3),
    MappingCase("growth", "growth", "peer", 2 * MIB, 4, 2),
    MappingCase("remap", "remap", "host", 2 * MIB, 2, 2),
    MappingCase("behind", "remap", "hbm", 2 * MIB, 2, 2, released=2, released_chunk_bytes=2 * MIB),
    LoopCase("loop", HEADS, 2, (Stay(0, 3, 15), Stay(1, 2, 40)),
             (LoopCopy(0, "hbm", "host", 3), LoopCopy(1, "host", "hbm", 2))),
)  # fmt: skip


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache has to be filled here, so that what covers a launch's start may be small, and the
    windows that a loop copies from and to."""
    monkeypatch.setattr(bench, "_COVER_BYTES", 1 << 20)
    monkeypatch.setattr(looping, "_WINDOW_BYTES", 1 << 20)


def test_every_kind_is_measured_and_gives_back_what_it_took(fake: Fake, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = measure(SMALL, tmp_path, said.append)
    assert outcome.failed == ()
    plain = []
    for each in outcome.measured:
        case: GpuCase = each.case
        if isinstance(case, MappingCase):
            # how fast the host was is known but for host memory, which the kernel clears
            assert (case.round_ns > 0) == (case.tier != "host")
            case = replace(case, round_ns=0)
        plain.append(case)
    assert plain == list(SMALL)


def test_copies_that_never_ran_beside_attention_give_no_figure(fake: Fake, tmp_path: Path) -> None:
    # The fake driver does one stream's work after the other's.
    case = CopyCase("beside", "host", "hbm", 4096, 3, beside=BATCH)
    outcome = measure([case], tmp_path, lambda line: None)
    assert outcome.measured == ()
    assert [name for name, _ in outcome.failed] == ["beside"]
    assert "lay beside each other" in outcome.failed[0][1]


def test_a_case_that_fails_is_said_and_the_others_go_on(fake: Fake, tmp_path: Path) -> None:
    fake.fail("cuMemMap", nth=1, code=2)
    outcome = measure(SMALL[:2], tmp_path, lambda line: None)
    assert [name for name, _ in outcome.failed] == ["a batch"]
    assert [each.case.name for each in outcome.measured] == ["mixed"]


def test_the_command_writes_a_recording_that_can_be_read(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--only", "mapping", "--match", "remap of 1 x"]) == 0
    recording = read_cases(out)
    assert [each.case.name for each in recording.measured] == ["remap of 1 x 4 MiB, HBM"]
    assert "1 measured, 0 skipped, 0 failed" in capsys.readouterr().out
