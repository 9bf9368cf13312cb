"""Cases are judged by class: a bad prediction fails its class, and nothing is lost on the way."""

import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console
from tests.sim.fidelity.gpu.synthetic import ABOUT, MACHINE, recorded

from vsim.sim.commands.check import run_check
from vsim.sim.fidelity.check import Checked, check
from vsim.sim.fidelity.classes import load_classes
from vsim.sim.fidelity.finding import find
from vsim.sim.fidelity.gpu.cases import CLASS_NAMES, GpuCase
from vsim.sim.fidelity.gpu.classes import CaseClasses, load_case_classes
from vsim.sim.fidelity.gpu.predicting import Predictor
from vsim.sim.fidelity.gpu.recording import read_cases
from vsim.sim.fidelity.gpu.scoring import nearest_rank, score_cases
from vsim.sim.fidelity.gpu.tighten import tightened_cases
from vsim.sim.fidelity.junit import junit_text
from vsim.sim.fidelity.view import show_check
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import InputError
from vsim.traces.schema import schema_of

AIMED = {"median": 3.0, "p95": 8.0}
NOISE = 0.0201


def classes(cases: int = 0, **tolerance: float) -> CaseClasses:
    each = {"cases": cases, "tolerance": {**AIMED, **tolerance}}
    return CaseClasses.model_validate({"classes": [{"name": n, **each} for n in CLASS_NAMES]})


def alternating(at: int, case: GpuCase) -> float:
    """Off by a little more than 2 %, above and below in turns."""
    return NOISE if at % 2 else -NOISE


@pytest.fixture(scope="module", autouse=True)
def each_case_predicted_once() -> Iterator[None]:
    """Here predictions are judged, again and again the same ones."""
    plain, known = Predictor.ns, dict[tuple[str, GpuCase], float]()

    def ns(by: Predictor, case: GpuCase) -> float:
        key = by.machine.name, case
        if key not in known:
            known[key] = plain(by, case)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "ns", ns)
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("gpu") / "good.arrow", alternating)


def checked_of(path: Path, by: CaseClasses, *, complete: bool = False) -> Checked:
    return check(find(path), load_classes(), by, complete=complete)


def shown(checked: Checked) -> str:
    file = io.StringIO()
    show_check(checked, Console(width=100, highlight=False, file=file))
    return " ".join(file.getvalue().split())  # long lines are folded


def test_known_noise_comes_out_as_the_error_of_every_class(good: Path) -> None:
    checked = checked_of(good, classes())
    assert not checked.failed
    assert [each.of.name for each in checked.cases.classes] == list(CLASS_NAMES)
    for each in checked.cases.classes:
        assert each.figures["median"] == pytest.approx(100 * NOISE, abs=0.1)
        assert each.figures["p95"] == pytest.approx(100 * NOISE, abs=0.1)
    text = shown(checked)
    assert "7 classes are within their tolerance, 0 are not" in text
    assert "2.0/3" in text
    assert "2.0/8" in text


@pytest.mark.parametrize("wrong", CLASS_NAMES)
def test_a_bad_prediction_fails_its_class_and_no_other(wrong: str, tmp_path: Path) -> None:
    def off(at: int, case: GpuCase) -> float:
        return 0.05 if case.of_class == wrong else 0.0

    checked = checked_of(recorded(tmp_path / "bad.arrow", off), classes())
    assert checked.failed
    assert [each.of.name for each in checked.cases.classes if each.failed] == [wrong]
    failed = next(each for each in checked.cases.classes if each.failed)
    assert [excess.figure for excess in failed.excesses] == ["median"]
    assert f"FAILED: {wrong}, 2 x NVIDIA H200: median is 5 % off, 3 are tolerated" in shown(checked)


def test_one_case_in_ten_that_is_far_off_leaves_the_median_and_fails_p95(tmp_path: Path) -> None:
    def off(at: int, case: GpuCase) -> float:
        return 0.2 if at % 10 == 0 else 0.0

    checked = checked_of(recorded(tmp_path / "bad.arrow", off), classes())
    figures = {e.of.name: [x.figure for x in e.excesses] for e in checked.cases.classes}
    assert figures["attention"] == ["p95"]
    worst = checked.cases.classes[0].worst
    assert worst is not None
    assert worst.signed == pytest.approx(0.2, abs=0.001)
    assert worst.name in shown(checked)


def test_a_user_s_own_recording_is_checked_by_its_path(
    good: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    junit = tmp_path / "check.xml"
    assert run_check(str(good), junit=str(junit))
    out = capsys.readouterr().out
    assert "decode loops, 2 x NVIDIA H200" in out
    assert ET.parse(junit).getroot().attrib["failures"] == "0"


def test_only_the_repository_s_recordings_must_reach_less_than_the_aim(good: Path) -> None:
    tight = classes(median=0.5, p95=0.5)
    assert not checked_of(good, tight).failed
    own = replace(read_cases(good), own=True)
    assert all(each.failed for each in score_cases([own], tight).classes)
    loose = CaseClasses.model_validate(
        {"classes": [{"name": "copies", "tolerance": {"median": 9, "p95": 9}, "above": "why"}]}
    )
    found = {each.of.name: each for each in score_cases([read_cases(good)], loose).classes}
    assert found["copies"].granted == {"median": 9, "p95": 9}
    assert found["mapping"].granted == {}


def test_junit_fails_what_the_table_fails(tmp_path: Path) -> None:
    checked = checked_of(recorded(tmp_path / "bad.arrow", lambda at, case: 0.3), classes())
    root = ET.fromstring(junit_text(checked))
    assert int(root.attrib["failures"]) == 2 * len(CLASS_NAMES)
    assert junit_text(checked) == junit_text(checked)


def test_a_class_with_fewer_cases_than_it_was_judged_by_fails_a_complete_check(good: Path) -> None:
    assert not checked_of(good, classes(cases=500)).failed
    checked = checked_of(good, classes(cases=500), complete=True)
    assert checked.failed
    assert "cases are missing that it was judged by" in shown(checked)
    assert "cases are missing" in junit_text(checked)


def test_what_failed_when_it_was_measured_fails_the_check(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.arrow", lambda at, case: 0.0, failed='{"loop": "cuMemCreate"}')
    checked = checked_of(path, classes())
    assert checked.failed
    assert "loop failed when it was measured: cuMemCreate" in shown(checked)
    assert "failed there: cuMemCreate" in junit_text(checked)


def test_what_is_not_predicted_fails_by_name(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.arrow", lambda at, case: 0.0, machine="h200-measured")
    checked = checked_of(path, classes())
    assert checked.failed
    assert "is not predicted: h200-measured lacks a tier of kind peer" in shown(checked)


def test_an_unknown_machine_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.arrow", lambda at, case: 0.0, machine="2xh200-mesured")
    with pytest.raises(InputError, match="did you mean '2xh200-measured'"):
        score_cases(find(path).recordings, classes())


def test_tolerances_are_lowered_to_what_is_reached_and_never_raised(good: Path) -> None:
    checked = checked_of(good, classes()).cases
    first = tightened_cases(checked, classes())
    assert "  - name: mapping\n    cases: 19\n    tolerance: {median: 2.1, p95: 2.1}\n" in first
    tight = classes(cases=1, median=1.0, p95=1.0)
    assert first.count("median: 2.1") == len(CLASS_NAMES)
    assert tightened_cases(checked, tight).count("{median: 1, p95: 1}") == len(CLASS_NAMES)


def test_a_tolerance_above_the_aim_must_say_why() -> None:
    one = {"name": "mapping", "tolerance": {"median": 12, "p95": 30}}
    with pytest.raises(ValueError, match="above median 3, p95 8; say why"):
        CaseClasses.model_validate({"classes": [one]})
    CaseClasses.model_validate({"classes": [{**one, "above": "calls vary by machine"}]})
    fine = {"name": "mapping", "tolerance": AIMED, "above": "why"}
    with pytest.raises(ValueError, match="not above; remove it"):
        CaseClasses.model_validate({"classes": [fine]})


def test_the_file_of_tolerances_has_every_class_for_each_gpu_and_for_any() -> None:
    found = load_case_classes()
    for gpu in ("H200", "H100", ""):
        assert [each.name for each in found.classes if each.gpu == gpu] == list(CLASS_NAMES)
    assert found.of("copies", "NVIDIA H100 80GB HBM3").gpu == "H100"
    assert found.of("copies", "NVIDIA A100").gpu == ""
    any_gpu = found.of("copies", "NVIDIA A100").tolerance
    assert any_gpu is not None
    assert any_gpu.model_dump() == AIMED


@pytest.mark.parametrize(
    ("values", "rank"), [([1.0], 1.0), ([3.0, 1.0], 3.0), (list(range(1, 101)), 95)]
)
def test_a_percentile_is_a_value_that_occurred(values: list[float], rank: float) -> None:
    assert nearest_rank(values, 0.95) == rank


def spoiled(path: Path, row: dict[str, object], **about: str) -> Path:
    table = pa.Table.from_pylist([row], schema=schema_of("gpu_cases"))
    extra = {k: v for k, v in (ABOUT | about).items() if k != "machine" and v}
    write_table(table, path, "gpu_cases", Provenance("a test", machine=MACHINE, extra=extra))
    return path


GOOD = {
    "name": "m",
    "class": "mapping",
    "case": '{"kind":"mapping","name":"m","mapped":"burst","tier":"hbm","chunk_bytes":2097152,'
    '"count":1,"at_once":1}',
    "repeats_ns": [5],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case": "{"}, "row 0, column case: is no JSON"),
        ({"case": GOOD["case"].replace("burst", "bust")}, "row 0, column case: mapped is 'bust'"),
        ({"name": "other"}, "row 0, column name: is 'other', and the case's is 'm'; write that"),
        ({"class": "copies"}, "row 0, column class: is 'copies', and the case's is 'mapping'"),
        ({"class": "maping"}, "row 0, column class: 'maping' is unknown (did you mean 'mapping'?)"),
        ({"repeats_ns": []}, "row 0, column repeats_ns: is empty; write one repeat or more"),
        ({"repeats_ns": [0]}, "row 0, column repeats_ns: holds 0; write 1 or more"),
    ],
)  # fmt: skip
def test_a_spoiled_recording_is_refused_by_row_and_column(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        read_cases(spoiled(tmp_path / "r.arrow", GOOD | changes))
    (fault,) = refused.value.faults
    assert f"r.arrow:{message}" in str(fault).replace(": row", ":row").replace("arrow: ", "arrow:")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"driver": ""}, "vsim.driver: is missing; record the cases again"),
        ({"gpus": "two"}, "vsim.gpus: is 'two'; write a whole number from 1"),
        ({"failed": "[]"}, "vsim.failed: is no JSON object of texts"),
    ],
)
def test_metadata_that_is_missing_or_wrong_is_named(
    about: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_cases(spoiled(tmp_path / "r.arrow", GOOD, **about))


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([GOOD, GOOD], schema=schema_of("gpu_cases"))
    path = tmp_path / "r.arrow"
    write_table(table, path, "gpu_cases", Provenance("a test", machine=MACHINE, extra=ABOUT))
    with pytest.raises(InputError, match="row 1, column name: is 'm', as in row 0"):
        read_cases(path)


def test_the_outcome_as_json_holds_every_case(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "outcome.json"
    run_check(str(good), junit=None, json=str(out))
    found = json.loads(out.read_text())
    assert found["vsim"] == {"kind": "check_outcome"}
    cases = [case for of in found["gpu"]["classes"] for case in of["cases"]]
    assert len(cases) == len(read_cases(good).measured)
    assert all(abs(case["error_percent"]) < 2.2 for case in cases)
    before = out.read_bytes()
    run_check(str(good), junit=None, json=str(out))
    assert out.read_bytes() == before


def test_outcomes_of_two_kinds_go_to_two_places(good: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "outcome")
    with pytest.raises(InputError, match="name two places apart"):
        run_check(str(good), junit=out, json=out)
