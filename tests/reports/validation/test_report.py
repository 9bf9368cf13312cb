"""The report says what the check found: every case, and the worst ones with reasons."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from vsim.reports.validation import __main__ as command
from vsim.reports.validation.outcome import GpuOutcome, read_outcome
from vsim.reports.validation.page import UNEXPLAINED, page, unexplained
from vsim.reports.validation.placement import placement_table, read_bounds
from vsim.traces.faults import InputError


def case(name: str, predicted: float | None, measured: float) -> dict[str, Any]:
    repeats = [round(0.99 * measured), round(measured), round(1.01 * measured)]
    return {
        "name": name,
        "predicted_ns": predicted,
        "measured_ns": measured,
        "repeats_ns": repeats,
        "error_percent": None,
        "reason": "" if predicted else "no peer",
    }


def document(**classes: list[dict[str, Any]]) -> dict[str, Any]:
    recording = {"file": "a/two.arrow", "machine": "2xh200-measured", "device": "NVIDIA H200",
                 "gpus": 2, "driver": "580", "date": "2026-11-27", "calibration_hash": "abc",
                 "command": "", "skipped": {}}  # fmt: skip
    return {
        "vsim": {"kind": "check_outcome"},
        "gpu": {
            "aimed": {"median": 3, "p95": 8},
            "recordings": [recording],
            "classes": [
                {"class": name, "recording": "a/two.arrow", "figures": {"median": 1.0, "p95": 2.0},
                 "tolerance": {"median": 3, "p95": 8}, "above": "", "failed": False, "cases": cases}
                for name, cases in classes.items()
            ],
        },
    }  # fmt: skip


GOOD = document(
    attention=[case("small", 1.02e6, 1e6), case("large", 5e9, 5e9)],
    mapping=[case("burst", 1.3e6, 1e6), case("peer", None, 1e6)],
)


def outcome_of(found: dict[str, Any], folder: Path) -> GpuOutcome:
    path = folder / "outcome.json"
    path.write_text(json.dumps(found))
    return read_outcome(path)


def test_every_case_stands_on_the_page_with_its_error(tmp_path: Path) -> None:
    text = page(outcome_of(GOOD, tmp_path), "## Method\n", {}, ["f.png: A title"])
    assert "| small | 1.000 ms | 1.020 ms | +2.0 % | 2.0 % |" in text
    assert "| large | 5.000 s | 5.000 s | +0.0 % | 2.0 % |" in text
    assert "| peer | 1.000 ms | not predicted: no peer | – | – |" in text
    assert "| attention | `two.arrow` | 2 | 1.0 / 3 | 2.0 / 8 | +2.0: small |" in text
    assert "| `two.arrow` | 2 × NVIDIA H200 | 580 | 2026-11-27 | `2xh200-measured` | abc |" in text
    assert "| mapping | 1 | 30.0 | 30.0 | 30.0 |" in text  # all recordings together
    assert "| all | 3 | 2.0 | 30.0 | 30.0 |" in text
    assert "![A title](f.png)" in text


def test_a_worst_case_beyond_the_aim_wants_a_reason(tmp_path: Path) -> None:
    outcome = outcome_of(GOOD, tmp_path)
    assert unexplained(outcome, {}) == ["two.arrow: burst"]
    assert f"*burst* (+30.0 %): {UNEXPLAINED}" in page(outcome, "", {}, [])
    notes = {"burst": "the host was busy", "class: attention": "as good as its table"}
    assert unexplained(outcome, notes) == []
    assert unexplained(outcome, {"two.arrow: burst": "why"}) == []
    assert unexplained(outcome, {"one.arrow: burst": "why"}) == ["two.arrow: burst"]
    text = page(outcome, "", notes, [])
    assert "*burst* (+30.0 %): the host was busy" in text
    assert "- **attention**: as good as its table" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"vsim": {"kind": "bound"}}'])
def test_what_is_no_outcome_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no outcome of a check; write it with"):
        read_outcome(path)


def test_an_outcome_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no case of a GPU"):
        outcome_of(document(), tmp_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report's folder; figures are not drawn."""
    monkeypatch.setattr(command, "draw", lambda outcome, folder: ["f.png: A title"])
    (tmp_path / "outcome.json").write_text(json.dumps(GOOD))
    made = tmp_path / "report"
    made.mkdir()
    (made / "method.md").write_text("## Method\n\nAs such.\n")
    return made


def test_the_command_writes_the_page_and_says_what_lacks_a_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(folder.parent / "outcome.json"), str(folder)]
    assert command.main(given) == 1
    assert "not explained: two.arrow: burst" in capsys.readouterr().out
    (folder / "notes.json").write_text('{"burst": "the host was busy"}')
    assert command.main(given) == 0
    text = (folder / "README.md").read_text()
    assert "As such." in text
    assert "the host was busy" in text


@pytest.mark.parametrize("notes", ["{", "[]", '{"burst": 3}', '{"brst": "no such case"}'])
def test_notes_that_explain_nothing_are_refused(
    folder: Path, notes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.json").write_text(notes)
    assert command.main([str(folder.parent / "outcome.json"), str(folder)]) == 2
    assert "notes.json" in capsys.readouterr().err


def test_figures_without_matplotlib_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("matplotlib") is not None:
        pytest.skip("matplotlib is installed here")
    (tmp_path / "outcome.json").write_text(json.dumps(GOOD))
    assert command.main([str(tmp_path / "outcome.json"), str(tmp_path)]) == 2
    assert "need matplotlib; install it with pip install 'vsim[plots]'" in capsys.readouterr().err


SPARSE = document(**{"sparse decode": [case("a: static", 9e6, 10e6), case("a: lru", 3e6, 2.5e6)]})
BOUNDS = {
    "bounds": [
        {
            "machine": "2xh200-measured",
            "recording": "a",
            "slow": "host",
            "bound_ns": 1.25e6,
            "cases": {"a: static": "static", "a: lru": "lru"},
        }
    ]
}


def test_policies_stand_beside_their_bound_and_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(json.dumps(BOUNDS))
    text = "\n".join(placement_table(outcome_of(SPARSE, tmp_path), read_bounds(path)))
    assert "a, host (`two.arrow`): no policy can take less than 1.25 ms." in text
    assert "| static | 10.00 | 9.00 | 1.00 | 1.00 | 8.00 |" in text
    assert "| lru | 2.50 | 3.00 | 4.00 | 3.00 | 2.00 |" in text
    assert "The order of the policies is as predicted." in text


def test_a_bound_of_another_machine_stands_beside_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(json.dumps(BOUNDS).replace("2xh200-measured", "h100"))
    assert not list(placement_table(outcome_of(SPARSE, tmp_path), read_bounds(path)))


def test_an_order_that_was_not_predicted_is_said(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(json.dumps(BOUNDS))
    turned = document(**{"sparse decode": [case("a: static", 2e6, 10e6), case("a: lru", 3e6, 9e6)]})
    text = "\n".join(placement_table(outcome_of(turned, tmp_path), read_bounds(path)))
    assert "The order of the policies is **not** as predicted." in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bounds": [{}]}'])
def test_damaged_bounds_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no bounds; make it again"):
        read_bounds(path)
