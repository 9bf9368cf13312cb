"""Rounds in turn: processes of every mode do the same, and what is said of their times is so."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.hwbackend.preload import building

from vsim.hwbackend.measuring import full_speed
from vsim.hwbackend.preload.trial import turns
from vsim.hwbackend.preload.trial.bench import Bench
from vsim.hwbackend.preload.trial.turns import (
    Played,
    Ratio,
    Round,
    StoppedError,
    play,
    ratio_of,
    ratio_of_plays,
)

REPORT = Path(__file__).parents[3] / "reports/preload"
_HELD = (("recording", "passing"), ("record", "plain"), ("manage", "plain"))
PROGRAM = """
import ctypes, json, os
from vsim.hwbackend.preload.trial.rounds import run_rounds

cuda = ctypes.CDLL("libcuda.so.1")
context, block, done = ctypes.c_void_p(), ctypes.c_uint64(), []
assert cuda.cuInit(0) == cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0

def work(number):
    assert cuda.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(1000)) == 0
    assert cuda.cuMemFree_v2(block) == 0
    done.append(number)

times = run_rounds(work, lambda: None, alone=4, first=2)
mode = os.environ.get("VSIM_PRELOAD_MODE", "plain")
print(json.dumps({"digest": done, "mode": mode, "times": len(times)}))
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


@pytest.fixture
def here(bench: building.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bench.driver))
    still = partial(full_speed.FullSpeed, lambda: 1.0, 0.0)
    monkeypatch.setattr(turns, "FullSpeed", lambda warm, most_s, limit: still(limit))
    return Bench(tmp_path, bench.library, 1)


def played(bench: Bench, program: list[str], cycles: int = 3) -> Played:
    return play(bench, program, {}, cycles, seed=1, most_s=60.0)


def test_every_process_does_the_same_rounds_in_its_own_mode(
    here: Bench, program: list[str]
) -> None:
    """Two rounds that warm up and three cycles, whose rounds `switched` does twice."""
    found = played(here, program)
    once, twice = [0, 1, 2, 3, 4], [0, 1, 2, 2, 3, 3, 4, 4]
    assert [(name, ran.said["mode"], ran.said["digest"]) for name, ran in found.rans.items()] == [
        ("plain", "plain", once), ("record", "record", once), ("switched", "record", twice),
        ("manage", "manage", once),
    ]  # fmt: skip
    assert all(ran.code == 0 for ran in found.rans.values())
    assert sum(map(len, found.cycles)) + found.left_out == 15


def test_calls_of_a_round_that_only_passes_are_not_recorded(
    here: Bench, program: list[str]
) -> None:
    """So that its time is that of the program alone."""
    rans = played(here, program).rans
    assert rans["record"].did == {"malloc": 5, "free": 5}
    assert rans["switched"].did == {"malloc": 2 + 3, "free": 2 + 3}


def test_alone_a_program_does_its_rounds_without_being_told(
    here: Bench, program: list[str]
) -> None:
    ran = here.run(program, None)
    assert (ran.said["digest"], ran.said["times"]) == ([0, 1, 2, 3], 2)


def test_a_program_that_ends_early_is_named_with_what_it_said(here: Bench) -> None:
    with pytest.raises(StoppedError, match="no such thing"):
        played(here, [sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_rounds_beside_a_slow_loop_are_left_out(
    here: Bench, program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six loops a cycle; the slow one is between the second and the third round of the second."""
    took = [100.0] * 6 + [100.0, 100.0, 200.0, 100.0, 100.0, 100.0] + [100.0] * 6
    monkeypatch.setattr(turns, "loop_us", iter(took).__next__)
    found = played(here, program)
    assert found.left_out == 2
    assert [len(cycle) for cycle in found.cycles] == [5, 3, 5]


def test_ratios_are_medians_over_the_other_way_s_rounds_of_the_same_cycle() -> None:
    """A cycle in which one of the two was left out does not count."""
    cycles = [
        {"passing": Round(base, base, 1.0), "recording": Round(base * more, 0.0, 1.0)}
        for base, more in ((1.0, 1.03), (2.0, 1.05), (4.0, 1.04))
    ]
    found = ratio_of([*cycles, {"recording": Round(99.0, 99.0, 1.0)}], "recording", "passing")
    assert found is not None
    assert found.middle == pytest.approx(1.04)
    assert found.low == pytest.approx(1.03)
    assert found.high == pytest.approx(1.05)
    assert found.count == 3
    assert ratio_of(cycles, "manage", "plain") is None


def test_processes_are_drawn_again_by_play_and_one_process_s_rounds_by_round() -> None:
    """Seven plays whose processes differ by up to 5 %, and rounds within each by nothing: more
    rounds would tell nothing. By hand: the median play is 1.01, and half of the plays drawn again
    have their median between 0.97 and 1.05.
    """
    shares = (0.96, 0.97, 1.0, 1.01, 1.02, 1.05, 1.06)
    plays = [
        [{"plain": Round(1.0, 1.0, 1.0), "manage": Round(share, share, 1.0),
          "passing": Round(2.0, 2.0, 1.0), "recording": Round(2.0 * share, 2.0, 1.0)}] * 50
        for share in shares
    ]  # fmt: skip
    found = ratio_of_plays(plays, "manage", "plain")
    assert found is not None
    assert (found.middle, found.count) == (pytest.approx(1.01), 350)
    assert (found.low, found.high) == (pytest.approx(0.97), pytest.approx(1.05))
    rounds = ratio_of_plays(plays, "recording", "passing")
    assert rounds is not None
    assert rounds.middle == pytest.approx(1.01)
    assert rounds.high - rounds.low < found.high - found.low
    few = ratio_of_plays(plays[:4], "manage", "plain")
    assert few == ratio_of([cycle for cycles in plays[:4] for cycle in cycles], "manage", "plain")
    assert ratio_of_plays([], "manage", "plain") is None


PROGRAMS = ("nvcc, static cudart", "PyTorch training", "the same, uncached", "transformers", "CuPy")


def reported(file: str, program: str) -> dict[str, Ratio]:
    """The ratios of a report's rounds, by the way, after a look that it says the same."""
    report = json.loads((REPORT / file).read_text())["turns"]
    ours = [row for row in report if row["name"] == program]
    plays = [
        [
            {way: Round(took, 0.0, 1.0) for way, took in cycle.items() if took is not None}
            for cycle in (dict(zip(row["us"], each, strict=True))
                          for each in zip(*row["us"].values(), strict=True))
        ]
        for row in ours if "us" in row
    ]  # fmt: skip
    ratios = {}
    for way, base in _HELD:
        found = ratio_of_plays(plays, way, base)
        (said,) = (row["wall"] for row in ours if (row.get("way"), row.get("over")) == (way, base))
        assert found is not None
        assert found.middle == pytest.approx(said["middle"], rel=1e-4)
        assert (found.low, found.high) == pytest.approx((said["low"], said["high"]), rel=1e-3)
        assert found.count == said["count"]
        ratios[way] = found
    return ratios


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_the_report_says_of_time_is_what_its_rounds_say(program: str) -> None:
    """And so within 2 % recorded, and 3 % managed. By one play transformers' processes can't tell:
    they differ by more by themselves, and make no call of memory in their rounds.
    """
    found = reported("h200.json", program)
    assert min(each.count for each in found.values()) >= 40
    assert found["recording"].high < 1.02
    assert (found["record"].high < 1.02) == (program != "transformers")
    assert (found["manage"].high < 1.03) == (program != "transformers")


def test_seven_plays_tell_what_managing_transformers_costs() -> None:
    """On an H100, each of processes of its own."""
    found = reported("h100.json", "transformers")
    assert found["recording"].high < 1.02
    assert found["record"].high < 1.02
    assert found["manage"].high < 1.03


@pytest.mark.parametrize("program", [*PROGRAMS[:1], *PROGRAMS[2:]])
def test_the_other_card_says_the_same(program: str) -> None:
    """Four trainings side by side don't fit into its memory."""
    found = reported("h100.json", program)
    assert found["recording"].high < 1.02
    assert found["manage"].high < 1.03
