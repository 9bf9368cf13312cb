"""repeat.sh goes on where it was cut off, and asks one GPU for nothing that takes two."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "hwbackend" / "repeat.sh"
STUB = """#!/bin/sh
case "$*" in *"import devices"*) echo "$GPUS"; exit 0 ;; esac
echo "$(basename "$0") $*" >> "$SAID"
case "$*" in *"${FAILS:-no such}"*) exit 3 ;; esac
"""


class Machine:
    """A folder of commands that only say what they were called with."""

    def __init__(self, folder: Path, gpus: int) -> None:
        self.folder, self.gpus = folder, gpus
        for name in ("python3", "vsim", "compute-sanitizer"):
            (folder / name).write_text(STUB)
            (folder / name).chmod(0o755)

    def repeat(self, *parts: str, fails: str = "no such") -> tuple[int, list[str]]:
        """Its exit code, and what it called."""
        said = self.folder / "said"
        said.write_text("")
        path = f"{self.folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(SCRIPT), str(self.folder / "out"), "mine", *parts],
            env={**os.environ, "PATH": path, "SAID": str(said), "GPUS": str(self.gpus),
                 "FAILS": fails, "RECORDED": str(self.folder / "recorded")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, said.read_text().splitlines()


@pytest.fixture
def two(tmp_path: Path) -> Machine:
    return Machine(tmp_path, 2)


def test_what_was_done_before_is_not_done_again(two: Machine) -> None:
    code, first = two.repeat(fails="memory.trial")
    assert code == 3
    assert "memory.trial" in first[-1]
    code, second = two.repeat()
    assert code == 0
    assert "memory.trial" in second[0]
    assert not {*first[:-1]} & {*second}
    assert two.repeat() == (0, [])


def test_calls_of_the_driver_have_a_calibration_and_cases_of_their_own(two: Machine) -> None:
    code, said = two.repeat("mapping")
    assert code == 0
    measured, made, cases, checked = said
    assert "calibration --only vmm --only clearing" in measured
    assert "mine-mapping.yaml" in made
    assert "--only mapping --machine mine-mapping.yaml" in cases
    assert "mine-mapping.arrow" in checked


def test_a_calibration_comes_before_its_cases_and_a_check_that_fails_ends_nothing(
    two: Machine,
) -> None:
    code, said = two.repeat("recorded", "runs", fails="vsim check")
    assert code == 0
    names = [" ".join(line.split()[:4]) for line in said[:3]]
    assert names[0].startswith("vsim calibrate --gpu")
    assert names[1] == "python3 -m vsim.hwbackend.cases --out"
    assert names[2].startswith("vsim check")
    assert sum("vsim replay" in line for line in said) == 7


def test_with_one_gpu_nothing_asks_for_a_second(tmp_path: Path) -> None:
    code, said = Machine(tmp_path, 1).repeat()
    assert code == 0
    assert not [line for line in said if "peer" in line or "device:1" in line or "parallel" in line]
    assert sum("compute-sanitizer" in line for line in said) == 4


def test_an_unknown_part_is_refused(two: Machine) -> None:
    assert two.repeat("everything") == (2, [])
