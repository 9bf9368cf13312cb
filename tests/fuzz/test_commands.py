"""Whatever a command is given: a sound result, or exit code 2 with a line a fault. Nothing else.

600 cases, each a fork of one warm process. More, or others, with VSIM_FUZZ_CASES and
VSIM_FUZZ_SEED; a failure names its case, which `python -m tests.fuzz.test_commands CASE` repeats.
"""

import json
import math
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz.forked import MOST_BYTES, MOST_S, Ended, run_forked, warm_up
from tests.fuzz.inputs import command, spoil, write_inputs

CASES = int(os.environ.get("VSIM_FUZZ_CASES", "600"))
SEED = int(os.environ.get("VSIM_FUZZ_SEED", "1"))
PARTS = 12  # so that several processes share them


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


def check(ended: Ended, arguments: list[str], folder: Path) -> None:
    """Hold what a command ended with against the rule."""
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
    elif arguments[1] in ("import", "synth"):
        again = run_forked(["trace", "check", "out.arrow"], folder)
        assert again.code == 0, again.errors


def run_case(case: int, inputs: Path) -> Ended:
    """Make one case's inputs and command, run it and check it."""
    draw = random.Random(f"{SEED} {case}")
    folder = inputs.parent / f"case{case}"
    folder.mkdir()
    for path in inputs.iterdir():
        if path.suffix == ".arrow":
            os.link(path, folder / path.name)
        elif not path.name.startswith("."):
            shutil.copy(path, folder)
    spoil(draw, folder)
    arguments = command(draw, folder)
    ended = run_forked(arguments, folder)
    try:
        check(ended, arguments, folder)
    except AssertionError as error:
        raise AssertionError(f"case {case} of seed {SEED}: vsim {arguments}: {error}") from error
    shutil.rmtree(folder)
    return ended


@pytest.mark.parametrize("part", range(PARTS))
def test_any_input_gives_a_sound_result_or_is_refused(part: int, inputs: Path) -> None:
    codes = [run_case(case, inputs).code for case in range(part, CASES, PARTS)]
    if len(codes) >= 40:
        assert 0.1 < codes.count(0) / len(codes) < 0.9, "cases of one kind only try little"


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(prefix="vsim-fuzz-"))
    (place / "inputs").mkdir()
    write_inputs(place / "inputs")
    warm_up(place / "inputs")
    for number in sys.argv[1:]:
        print(run_case(int(number), place / "inputs"))
