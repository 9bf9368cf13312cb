"""A check fails where errors leave their tolerance, and says so in words and in JUnit XML."""

import io
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.sim.fidelity.tiny import prediction, repeat_of, requests, run_of, simulated

from vsim.sim.fidelity import finding
from vsim.sim.fidelity.check import Checked, check
from vsim.sim.fidelity.classes import (
    TOLERANCES,
    Classes,
    class_of,
    excesses,
    figures_of,
    load_classes,
    preemption_error,
)
from vsim.sim.fidelity.finding import Found, find, recorded_folder
from vsim.sim.fidelity.junit import junit_text
from vsim.sim.fidelity.measured import MeasuredRun, MeasuredThroughput
from vsim.sim.fidelity.scoring import errors_of
from vsim.sim.fidelity.settings import ServerSettings
from vsim.sim.fidelity.tighten import HEAD, rounded_up, tightened
from vsim.sim.fidelity.view import show_check

TIGHT = {"ttft": 1, "tpot": 1, "e2e": 1, "worst_e2e": 1, "makespan": 1, "preemptions": 0, "hits": 1}


def classes(runs: int = 1, **tolerance: float) -> Classes:
    one = {"name": "tiny", "where": {"origin": "recorded"}, "runs": runs, "tolerance": tolerance}
    return Classes.model_validate({"classes": [one]})


def shown(checked: Checked) -> str:
    file = io.StringIO()
    show_check(checked, Console(width=100, highlight=False, file=file))
    return file.getvalue()


def test_a_run_that_went_as_predicted_is_within_any_tolerance() -> None:
    checked = check(Found((simulated(),), (), ()), classes(**TIGHT))
    (score,) = checked.classes
    assert not checked.failed
    assert score.figures == dict.fromkeys(TIGHT, 0)
    assert "1 classes are within their tolerance, 0 are not" in shown(checked)


def test_a_run_that_took_twice_as_long_fails_its_class() -> None:
    checked = check(Found((simulated(times=2),), (), ()), classes(**TIGHT))
    (score,) = checked.classes
    assert checked.failed
    assert {each.figure for each in score.excesses} == {"ttft", "tpot", "e2e", "worst_e2e"}
    for name in ("ttft", "tpot", "e2e"):
        assert score.figures[name] == pytest.approx(50)
    assert "FAILED: tiny: E2E is 50 off, 1 are tolerated" in shown(checked)


def test_with_fewer_runs_than_it_was_taken_of_only_the_worst_run_is_judged() -> None:
    found = Found((simulated(times=2),), (), ())
    few = check(found, classes(runs=2, ttft=1, e2e=1))
    assert not few.failed
    assert "1 have none, or one that takes more runs" in shown(few)
    worst = check(found, classes(runs=2, ttft=1, worst_e2e=1))
    assert [each.figure for each in worst.classes[0].excesses] == ["worst_e2e"]


def test_a_recording_that_is_gone_fails_a_complete_check() -> None:
    found = Found((simulated(),), (), ())
    assert check(found, classes(runs=2), complete=True).failed
    assert not check(found, classes(runs=2)).failed
    assert "1 runs are missing that it was judged by" in shown(
        check(found, classes(runs=2), complete=True)
    )


def test_a_run_that_can_t_be_predicted_is_told_with_its_reason() -> None:
    run = replace(simulated(), gpu="NVIDIA T4", name="old")
    checked = check(Found((run,), (), (("x.bin", "no table"),)), classes())
    text = shown(checked)
    assert "not scored: old: the catalogue has no machine with 1 of NVIDIA T4" in text
    assert "not scored: x.bin: no table" in text


def test_requests_that_the_prediction_rejects_fail_the_class() -> None:
    settings = ServerSettings(num_gpu_blocks=4)  # 64 tokens, and a request has 75
    asked = requests(2)
    asked = replace(asked, output_tokens=np.array([11, 1]), prompt_tokens=np.array([64, 8]))
    run = run_of(repeat_of(asked, [1, 2], [10**8] * 2, [2 * 10**8] * 2), settings=settings)
    checked = check(Found((run,), (), ()), classes())
    assert checked.classes[0].unserved == ("tiny",)
    assert checked.failed
    assert "tiny: requests that were served are rejected" in shown(checked)


def test_what_fits_no_class_is_shown_and_not_judged() -> None:
    run = replace(simulated(times=2), origin="public")
    checked = check(Found((run,), (), ()), classes(**TIGHT))
    assert not checked.failed
    assert checked.classes[0].name == "in no class: not judged"


def test_a_throughput_is_predicted_with_all_requests_queued(monkeypatch: Any) -> None:
    measured = MeasuredThroughput(
        "t", "t.csv", "TensorRT-LLM", "h100", 1, "llama-3.1-8b", 64, 8, 1e4,
        ServerSettings(weights="fp8", kv="fp8", token_budget=8192, max_requests=512),
    )  # fmt: skip
    one = {"name": "most", "where": {"kind": "throughput"}, "runs": 1,
           "tolerance": {"throughput": 1, "worst_throughput": 1}}  # fmt: skip
    checked = check(Found((), (measured,), ()), Classes.model_validate({"classes": [one]}))
    (score,) = checked.classes
    predicted = score.throughputs[0].predicted
    assert predicted is not None
    assert score.throughputs[0].signed == pytest.approx(predicted / 1e4 - 1)
    assert checked.failed
    assert f"{predicted:,.0f}" in shown(checked)


def test_preemptions_within_what_repeats_differ_by_are_no_error() -> None:
    asked = requests(20)
    times = [asked.arrival_ns + n for n in (1, 2, 3)]
    counts = np.zeros((3, 20), np.int64)
    counts[0, :8], counts[1, :2] = 1, 1  # 8 and 2 preemptions: 5 on average, 6 apart

    def error(predicted: int, *measured: int) -> float:
        ours = counts[2].copy()
        ours[0] = predicted
        repeats = [repeat_of(asked, *times, preemptions=counts[row]) for row in measured]
        predictions = [prediction(asked, *times, preemptions=ours) for _ in repeats]
        return preemption_error(errors_of(run_of(*repeats), predictions))

    assert error(11, 0, 1) == 0
    assert error(12, 0, 1) == pytest.approx(7 / 5)
    assert error(4, 0) == pytest.approx(0.5)  # a single repeat grants nothing
    assert error(1, 2) == pytest.approx(1 / 2)  # none measured: a tenth of 20 requests


def test_figures_are_medians_over_runs_and_those_of_the_worst_run() -> None:
    asked = requests(1)
    errors = []
    for share in (0.9, 0.8, 0.5):
        e2e = round(share * 10**9)
        real = repeat_of(asked, [0], [10**8], [10**9])
        errors.append(errors_of(run_of(real), [prediction(asked, [0], [10**8], [e2e])]))
    figures = figures_of(errors)
    assert figures["e2e"] == pytest.approx(20)
    assert figures["worst_e2e"] == pytest.approx(50)
    assert figures["makespan"] == pytest.approx(50)
    assert figures["ttft"] == 0


@pytest.fixture(scope="module")
def recorded() -> tuple[MeasuredRun, ...]:
    """All recordings of servers that the repository has."""
    folder = recorded_folder()
    assert folder is not None
    return find(folder).runs


def test_every_recording_of_the_repository_is_in_a_class_of_as_many_runs(
    recorded: tuple[MeasuredRun, ...],
) -> None:
    known = load_classes()
    counted: dict[str, int] = {}
    for run in recorded:
        assert run.origin == "recorded"
        of = class_of(run, known)
        assert of is not None, run.name
        counted[of.name] = counted.get(of.name, 0) + 1
    for of in known.classes:
        if of.where.origin == "recorded" and of.runs:
            assert counted[of.name] == of.runs
            assert of.tolerance.e2e is not None


def test_public_runs_are_in_classes_of_their_own(recorded: tuple[MeasuredRun, ...]) -> None:
    folder = recorded_folder()
    assert folder is not None
    (one,) = find(folder / f"{recorded[0].name}.arrow", "public").runs
    assert one.origin == "public"
    known = load_classes()
    for run in recorded:
        of = class_of(replace(run, origin="public"), known)
        assert of is None or of.where.origin != "recorded"


def test_the_tolerances_file_is_as_it_would_be_printed() -> None:
    text = TOLERANCES.read_text()
    assert text.startswith(HEAD)
    assert tightened(Checked((), ()), load_classes()) == text


def test_a_tolerance_is_lowered_to_what_is_reached_and_never_raised() -> None:
    found = Found((simulated(times=2),), (), ())
    before = classes(ttft=80, e2e=10)
    text = tightened(check(found, before), before)
    assert "{ttft: 50, e2e: 10, tpot: 50, worst_e2e: 50, " in text
    assert [rounded_up("e2e", x) for x in (0.0, 2.41, 9.99, 24.01)] == [0.0, 2.5, 10.0, 25.0]
    assert [rounded_up("hits", x) for x in (0.0, 0.4, 2.2)] == [1.0, 1.0, 3.0]


def test_junit_tells_what_failed_what_was_left_out_and_the_rest() -> None:
    runs = (simulated(times=2), replace(simulated(), gpu="NVIDIA T4", name="old"))
    checked = check(Found(runs, (), (("x.bin", "no table"),)), classes(ttft=1, hits=1))
    text = junit_text(checked)
    assert text == junit_text(checked)
    root = ET.fromstring(text)
    assert root.attrib == {"name": "vsim check", "tests": "10", "failures": "1", "skipped": "7"}
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    failure = cases["ttft"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "50 off, 1 are tolerated"
    assert cases["hits"].find("system-out") is not None
    skipped = cases["old"].find("skipped")
    assert skipped is not None
    assert "NVIDIA T4" in skipped.attrib["message"]
    assert cases["x.bin"].find("skipped") is not None


def test_an_installed_vsim_says_where_recordings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "recorded_folder", lambda: None)
    with pytest.raises(finding.InputError, match="recordings are not part of an installed vsim"):
        finding.find_all()


def test_public_runs_are_found_where_the_variable_names_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(
        "model,gpu,gpus,prompt_tokens,output_tokens,output_tokens_per_s\nllama-3.1-8b,h100,1,8,8,9\n"
    )
    folder = recorded_folder()
    assert folder is not None
    one = tmp_path / "recorded"
    one.mkdir()
    shutil.copy(next(folder.glob("8b_*_alone.arrow")), one)
    monkeypatch.setattr(finding, "recorded_folder", lambda: one)
    public = tmp_path / "public"
    public.mkdir()
    (tmp_path / "t.csv").rename(public / "t.csv")
    monkeypatch.setenv("VSIM_REAL_RUNS", str(public))
    found = finding.find_all()
    assert len(found.throughputs) == 1
    assert [run.origin for run in found.runs] == ["recorded"]
    assert found.recordings
    monkeypatch.setenv("VSIM_REAL_RUNS", str(tmp_path / "no"))
    with pytest.raises(finding.InputError, match=r"VSIM_REAL_RUNS: .*no is no folder; name one"):
        finding.find_all()


def test_excesses_are_only_of_what_was_reached() -> None:
    judged = classes(e2e=1, throughput=1).classes[0]
    assert [each.figure for each in excesses({"e2e": 2.0}, judged, 1)] == ["e2e"]
