"""Every case runs to its end on a driver that checks each address, and gives back what it took."""

import json
from pathlib import Path

import numpy as np
import pytest
from vsim.hwbackend.cases.__main__ import main
from vsim.hwbackend.cases.looping import pages_of_steps
from vsim.hwbackend.cases.sparse import frames_of, pages_read, sparse_batch
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import CLASS_NAMES, GpuCase, LoopCase, SparseCase
from vsim.sim.fidelity.gpu.recording import read_cases
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    EVICT,
    WRITE_THROUGH,
    plan_path,
    plans_folder,
    read_plan,
)

from .driver_stub import StubDriver, stand_in

CASES = case_list()
SMALLEST = {of: next(c for c in CASES if c.of_class == of and c.gpus == 1) for of in CLASS_NAMES}


@pytest.mark.parametrize("of", CLASS_NAMES)
def test_a_case_of_each_class_is_measured_and_leaves_nothing_behind(
    of: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = stand_in(monkeypatch, StubDriver(gpus=1))
    out = tmp_path / "cases.arrow"
    assert main(["--out", str(out), "--match", SMALLEST[of].name, "--only", of]) == 0
    recording = read_cases(out)
    assert SMALLEST[of] in [each.case for each in recording.measured]
    assert recording.device == "NVIDIA H200"
    assert recording.machine == "h200-measured"
    assert driver.held == 0
    assert driver.launches > 0 or of in ("copies", "mapping")
