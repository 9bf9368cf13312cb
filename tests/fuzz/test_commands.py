"""Whatever a command is given: a sound result, or exit code 2 with a line a fault. Nothing else.

600 cases in forks of one warm process. More, or others, with VSIM_FUZZ_CASES and
VSIM_FUZZ_SEED; a failure names its case, which `python -m tests.fuzz.test_commands CASE` repeats.
"""

import json
import math
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.forked import MOST_BYTES, MOST_S, Ended, Job, run_forked, warm_up
from tests.fuzz.inputs import command, spoil, write_inputs

CASES = int(os.environ.get("VSIM_FUZZ_CASES", "600"))
SEED = int(os.environ.get("VSIM_FUZZ_SEED", "1"))
PARTS = 12  # so that several processes share them
OF_A_FORK = 25


@pytest.fixture(scope="module")
def inputs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vsim-fuzz-") as name:
        folder = Path(name) / "inputs"
        folder.mkdir()
        write_inputs(folder)
        warm_up(folder)
        yield folder


def check_numbers(value: Any, path: str = "") -> None:
    """No number is infinite or not a number, and none but a change is below 0."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_numbers(inner, f"{path}.{index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        assert math.isfinite(value), path
        assert value >= 0 or path.endswith("gap"), f"{path} is {value}"
        if path.endswith(("_share", "_ratio")):
            assert value <= 1 + 1e-9, f"{path} is {value}"


def check_summary(folder: Path) -> None:
    """A run's figures agree with one another."""
    summary = json.loads((folder / "summary.json").read_text())
    check_numbers(summary)
    requests = summary["requests"]
    assert requests["completed"] + requests["rejected"] == requests["submitted"]
    for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        found = summary[name]
        if found["mean"] is not None:
            assert found["p50"] <= found["p90"] <= found["p99"], name
            assert found["mean"] <= 1000 * summary["simulated_s"] * (1 + 1e-9), name
    for tier in summary["tiers"]:
        assert tier["peak_bytes"] <= tier["capacity_bytes"]
    certified = summary.get("placement", {}).get("certified")
    assert certified is None or all(v >= -1e-9 for k, v in certified.items() if k.endswith("gap"))


def check_bound(path: Path) -> None:
    """No policy takes less than the bound."""
    found = json.loads(path.read_text())
    for case in found.get("cases", [found]):
        for name, policy in case["policies"].items():
            assert policy["time_s"] >= case["bound_s"] * (1 - 1e-12), name


def check(ended: Ended, job: Job) -> None:
    """Hold what a command ended with against the rule."""
    arguments, folder = job.arguments, job.folder
    assert "Traceback" not in ended.errors, ended.errors[-3000:]
    assert ended.code in (0, 2), f"exit code {ended.code}: {ended.errors[-2000:]}"
    assert ended.seconds < MOST_S
    assert ended.bytes < MOST_BYTES, f"{ended.bytes / 2**30:.2f} GiB"
    hidden = [p.name for p in folder.iterdir() if p.name.startswith(".") and ".vsim-" in p.name]
    assert hidden == []
    out = folder / "out"
    if ended.code == 2:
        assert ended.errors.strip(), "refused without a word"
        written = [name for name in ("out", "out.arrow", "bound.json") if (folder / name).exists()]
        assert written == []
    elif arguments[0] == "run":
        check_summary(out)
    elif arguments[0] == "bound":
        check_bound(folder / "bound.json")


def made_trace(ended: Ended, job: Job) -> bool:
    """Whether a command says that it wrote a trace."""
    return ended.code == 0 and job.arguments[1] in ("import", "synth")


def job_of(case: int, inputs: Path) -> Job:
    """Make one case's inputs and command."""
    draw = random.Random(f"{SEED} {case}")
    folder = inputs.parent / f"case{case}"
    folder.mkdir()
    for path in inputs.iterdir():
        if path.suffix == ".arrow":
            os.link(path, folder / path.name)
        elif not path.name.startswith("."):
            shutil.copy(path, folder)
    spoil(draw, folder)
    return Job(command(draw, folder), folder)


def run_cases(cases: Sequence[int], inputs: Path) -> list[Ended]:
    """Run cases and check them, and the traces that they made."""
    jobs = [job_of(case, inputs) for case in cases]
    found = run_forked(jobs)
    for case, job, ended in zip(cases, jobs, found, strict=True):
        try:
            check(ended, job)
        except AssertionError as error:
            raise AssertionError(
                f"case {case} of seed {SEED}: vsim {job.arguments}: {error}"
            ) from error
    made = [
        (case, Job(["trace", "check", "out.arrow"], job.folder))
        for case, job, ended in zip(cases, jobs, found, strict=True)
        if made_trace(ended, job)
    ]
    again = run_forked([job for _, job in made])
    for (case, _), ended in zip(made, again, strict=True):
        assert ended.code == 0, f"case {case} of seed {SEED}: {ended.errors}"
    for job in jobs:
        shutil.rmtree(job.folder)
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_any_input_gives_a_sound_result_or_is_refused(part: int, inputs: Path) -> None:
    cases = range(part, CASES, PARTS)
    each = [cases[at : at + OF_A_FORK] for at in range(0, len(cases), OF_A_FORK)]
    codes = [ended.code for some in each for ended in run_cases(some, inputs)]
    if len(codes) >= 40:
        assert 0.1 < codes.count(0) / len(codes) < 0.9, "cases of one kind only try little"


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(prefix="vsim-fuzz-"))
    (place / "inputs").mkdir()
    write_inputs(place / "inputs")
    warm_up(place / "inputs")
    for number in sys.argv[1:]:
        print(*run_cases([int(number)], place / "inputs"))
