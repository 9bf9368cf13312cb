"""The page of servers, from an outcome written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from vsim.reports.validation.server_outcome import over_runs, read_servers
from vsim.reports.validation.server_page import server_page
from vsim.traces.faults import InputError

SERVERS = Path(__file__).parents[3] / "reports" / "validation" / "servers"


def a_run(name: str, gpu: str, off: float) -> dict[str, Any]:
    each = {
        "measured_ms": 10.0,
        "predicted_ms": 10.0 + off / 10,
        "median_percent": abs(off),
        "signed_median_percent": off,
        "signed_mean_percent": off,
        "spread_percent": 2.0,
    }
    return {
        "run": name,
        "origin": "recorded",
        "gpu": gpu,
        "requests": 3,
        "latencies": dict.fromkeys(("ttft", "tpot", "e2e"), each),
        "phases": {},
        "makespan_percent": off,
        "preemptions": {"measured": 4.0, "predicted": 3.0},
    }


def an_outcome(path: Path, runs: list[dict[str, Any]]) -> Path:
    found = {
        "vsim": {"kind": "check_outcome"},
        "servers": [
            {
                "class": "dense",
                "runs": len(runs),
                "figures": {"ttft": 3.0, "e2e": 3.0},
                "tolerance": {"ttft": 3.1, "e2e": 3.2},
                "failed": False,
                "scores": runs,
                "throughputs": [
                    {"name": "8b at most", "measured_per_s": 200.0, "predicted_per_s": 190.0}
                ],
            }
        ],
    }
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_the_page_gives_medians_over_runs_and_every_run_with_its_sign(tmp_path: Path) -> None:
    runs = [a_run("a", "H200", -1.0), a_run("b", "H200", 3.0), a_run("c", "H100", -8.0)]
    outcome = read_servers(an_outcome(tmp_path / "o.json", runs))
    assert over_runs(outcome.runs, "ttft") == 3.0
    text = server_page(outcome, "how", "why", [])
    assert "| 3 recorded | 3.0 | 3.0 | 3.0 | 8: `c` |" in text
    assert "| 2 recorded on H200 | 2.0 | 2.0 | 2.0 | 3: `b` |" in text
    assert "8.0 (-8.0) ± 2.0" in text
    assert "3 / 4 |" in text
    assert "| 8b at most | 200 | 190 | -5.0 |" in text


def test_an_outcome_without_servers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run of a server"):
        read_servers(an_outcome(tmp_path / "o.json", []))


def test_the_committed_page_names_every_recording_and_holds_both_parts() -> None:
    page = (SERVERS / "README.md").read_text(encoding="utf-8")
    recorded = SERVERS.parents[2] / "traces" / "recorded" / "servers"
    runs = [p.stem for p in recorded.glob("*.arrow") if not p.stem.endswith(".steps")]
    assert len(runs) == 63
    assert [name for name in runs if f"| `{name}` |" not in page] == []
    for part in ("method.md", "reasons.md"):
        assert (SERVERS / part).read_text(encoding="utf-8").strip() in page
