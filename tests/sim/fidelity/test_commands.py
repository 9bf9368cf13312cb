"""`vsim check`, `compare` and `import vllm` as they stand on the command line."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.command_line import run
from tests.sim.fidelity.tiny import MS, ROWS, row, simulated, write_recording
from tests.sim.fidelity.vllm.texts import LOG_0_25, METRICS, benchmark

from vsim.sim.fidelity.measured import MeasuredRun

SCENARIO = """\
name: tiny
workload: {trace: other.arrow}
machine: h100
model: llama-3.1-8b
engine: {host_slowdown: 1.22}
tiers: [{tier: hbm, capacity: 4GiB}]
"""


def recorded(path: Path, measured: MeasuredRun) -> str:
    """Write a run as a recording."""
    (repeat,) = measured.repeats
    asked = repeat.requests
    rows = [
        row(repeat=0, id=int(asked.id[i]), arrival_ns=int(asked.arrival_ns[i]),
            scheduled_ns=int(repeat.scheduled_ns[i]), first_token_ns=int(repeat.first_token_ns[i]),
            last_token_ns=int(repeat.last_token_ns[i]), prompt_tokens=int(asked.prompt_tokens[i]),
            output_tokens=int(asked.output_tokens[i]), gpu_hit_tokens=0, host_hit_tokens=0,
            preemptions=0)
        for i in range(len(asked))
    ]  # fmt: skip
    return str(write_recording(path, rows, settings={}, statistics=None, itl=None))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recordings that is taken for the repository's own."""
    own = tmp_path / "recorded"
    own.mkdir()
    monkeypatch.setattr("vsim.sim.fidelity.finding.recorded_folder", lambda: own)
    monkeypatch.delenv("VSIM_REAL_RUNS", raising=False)
    return own


def test_check_of_a_recording_with_times_doubled_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = recorded(folder / "good.arrow", simulated())
    assert run(monkeypatch, "check", good) == 0
    assert "good" not in capsys.readouterr().err
    wrong = recorded(folder / "slow.arrow", simulated(times=8))
    junit = folder.parent / "j.xml"
    assert run(monkeypatch, "check", wrong, "--junit", str(junit)) == 1
    shown = capsys.readouterr()
    assert "FAILED: dense bf16, H100: worst E2E is 87.5 off" in shown.out
    assert shown.err == ""
    assert int(ET.parse(junit).getroot().attrib["failures"]) >= 1
    assert run(monkeypatch, "check", good, "--junit", str(junit)) == 0
    assert int(ET.parse(junit).getroot().attrib["failures"]) == 0


def test_check_of_all_recordings_fails_where_some_are_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(folder / "good.arrow", simulated())
    assert run(monkeypatch, "check") == 1
    assert "FAILED: dense bf16, H100: 7 runs are missing" in capsys.readouterr().out


def test_check_refuses_what_is_no_recording(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "words.csv").write_text("a,b\n1,2\n")
    assert run(monkeypatch, "check", str(folder / "none")) == 2
    assert run(monkeypatch, "check", str(folder)) == 2
    unknown = write_recording(folder.parent / "t4.arrow", hardware={"gpu": "NVIDIA T4", "gpus": 1})
    junit = folder.parent / "j.xml"
    assert run(monkeypatch, "check", str(unknown), "--junit", str(junit)) == 2
    assert not junit.exists()
    (folder.parent / "mine.xml").write_text("<testsuites/>")
    good = recorded(folder / "good.arrow", simulated())
    assert run(monkeypatch, "check", good, "--junit", str(folder.parent / "mine.xml")) == 2
    assert run(monkeypatch, "check", good, "--pacing", "slow") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[4] == "--pacing: 'slow' is unknown (known: arrivals, think_times)"
    assert "tiny can't be predicted: the catalogue has no machine with 1 of NVIDIA T4" in lines[2]
    assert "mine.xml" in lines[3]


def test_compare_runs_a_scenario_with_the_measured_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    real = recorded(tmp_path / "real.arrow", simulated(times=2))
    out = tmp_path / "c.json"
    arguments = ("compare", str(tmp_path / "s.yaml"), real, "--json", str(out))
    assert run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert "TTFT mean" in shown
    assert "-50%" in shown
    assert "part of E2E's error" in shown
    found = json.loads(out.read_text())
    assert found["vsim"] == {"kind": "comparison"}
    assert found["errors"]["latencies"]["e2e"]["median"] == pytest.approx(0.5)
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["E2E mean"]["error"] == pytest.approx(-0.5)
    assert figures["preemptions"]["measured"] == 0
    assert run(monkeypatch, *arguments, "--set", "precision.weights=fp8") == 0
    faster = json.loads(out.read_text())["errors"]["latencies"]["e2e"]["signed"]
    assert faster < -0.5


def test_compare_reads_a_result_folder_and_aligns_it_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    measured = simulated(times=2)
    table = "id,arrival_ns,prompt_tokens,output_tokens\n" + "".join(
        f"{i},{at},64,11\n" for i, at in enumerate(measured.repeats[0].requests.arrival_ns)
    )
    (tmp_path / "calls.csv").write_text(table)
    result = tmp_path / "out"
    assert run(monkeypatch, "run", str(tmp_path / "s.yaml"), "--trace",
               str(tmp_path / "calls.csv"), "--out", str(result)) == 0  # fmt: skip
    real = recorded(tmp_path / "real.arrow", measured)
    capsys.readouterr()
    assert run(monkeypatch, "compare", str(result), real) == 0
    lines = capsys.readouterr().out.splitlines()
    (e2e,) = (line for line in lines if line.startswith("E2E mean"))
    assert e2e.endswith("-50%")
    assert run(monkeypatch, "compare", str(result), real, "--set", "seed=1") == 2
    longer = write_recording(tmp_path / "l.arrow", [{**each, "prompt_tokens": 65} for each in ROWS])
    more = write_recording(tmp_path / "m.arrow", [{**each, "id": each["id"] + 2} for each in ROWS])
    for other in (longer, more, tmp_path / "calls.csv", tmp_path / "none.arrow"):
        assert run(monkeypatch, "compare", str(result), str(other)) == 2
    assert run(monkeypatch, "compare", str(tmp_path), real) == 2
    (result / "requests.arrow").write_bytes(b"ARROW1 and no more")
    assert run(monkeypatch, "compare", str(result), real) == 2
    faults = capsys.readouterr().err.splitlines()
    assert "--set: does nothing" in faults[0]
    assert "has 64 prompt_tokens in request 0, and" in faults[1]
    assert "has no request 3 and 1 more of" in faults[2]
    assert "is no measured run of requests" in faults[3] or "no measured run" in faults[3]
    assert "No such file" in faults[4]
    assert "has no summary.json" in faults[5]
    assert "requests.arrow: is cut off or damaged" in faults[6]
    assert len(faults) == 7


def test_what_a_server_logged_counted_and_answered_is_put_beside_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"v.log": LOG_0_25, "m.txt": METRICS, "b.json": benchmark()}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in texts]
    real, counted = str(tmp_path / "real.arrow"), str(tmp_path / "counted.arrow")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    imported = ("import", "vllm", *paths, "--out", real, "--gpu", "NVIDIA H100",
                "--model", "llama-3.1-8b")  # fmt: skip
    assert run(monkeypatch, *imported) == 0
    shown = capsys.readouterr()
    assert "real.arrow: 2 requests in 1 repeats from vLLM 0.25.1" in shown.out
    assert "note: no file says max_num_seqs" in shown.err
    assert run(monkeypatch, "check", real) == 0
    assert run(monkeypatch, "compare", str(tmp_path / "s.yaml"), real) == 0
    shown = capsys.readouterr()
    (hits,) = (line for line in shown.out.splitlines() if line.startswith("hits in HBM"))
    assert hits.split()[:3] == ["hits", "in", "HBM"]
    assert "40 %" in hits  # 120 of 300 tokens, as counted
    assert run(monkeypatch, "import", "vllm", *paths[:2], "--out", counted) == 0
    assert run(monkeypatch, "check", counted) == 2
    assert run(monkeypatch, "compare", str(tmp_path / "s.yaml"), counted) == 2
    faults = capsys.readouterr().err.splitlines()[-2:]
    assert "it holds no request by itself, only counters" in faults[0]
    assert "holds no single requests to run; name a result folder instead" in faults[1]


def test_what_was_only_counted_is_compared_with_a_result_s_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.txt").write_text(METRICS)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    table = "arrival_ns,prompt_tokens,output_tokens\n0,100,3\n1500000000,200,2\n"
    (tmp_path / "calls.csv").write_text(table)
    counted, result = str(tmp_path / "counted.arrow"), str(tmp_path / "out")
    assert run(monkeypatch, "import", "vllm", str(tmp_path / "m.txt"), "--out", counted) == 0
    assert run(monkeypatch, "run", str(tmp_path / "s.yaml"), "--trace",
               str(tmp_path / "calls.csv"), "--out", result) == 0  # fmt: skip
    capsys.readouterr()
    assert run(monkeypatch, "compare", result, counted) == 0
    shown = {" ".join(line.split()[:2]): line for line in capsys.readouterr().out.splitlines()}
    assert "150 ms" in shown["TTFT mean"]
    assert "260 ms" in shown["E2E mean"]
    assert "+0.0%" in shown["prompt tokens"]


def test_import_refuses_its_inputs_as_output_and_odd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "v.log"
    log.write_text(LOG_0_25)
    out = str(tmp_path / "r.arrow")
    assert run(monkeypatch, "import", "vllm", str(log), "--out", str(log)) == 2
    assert run(monkeypatch, "import", "vllm", str(log), "--out", out, "--gpu", "a\nb") == 2
    assert run(monkeypatch, "import", "vllm", str(log), "--out", out, "--config", str(log)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert log.read_text() == LOG_0_25
    assert not Path(out).exists()


def test_a_check_of_recordings_says_the_same_each_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = simulated(times=2)
    times = slow.repeats[0]
    later = replace(times, last_token_ns=times.last_token_ns + np.array([0, MS, 2 * MS]))
    path = recorded(folder / "r.arrow", replace(slow, repeats=(later,)))
    shown, documents = set(), set()
    for junit in ("a.xml", "b.xml"):
        run(monkeypatch, "check", path, "--junit", str(folder.parent / junit))
        shown.add(capsys.readouterr().out)
        documents.add((folder.parent / junit).read_bytes())
    assert len(shown) == len(documents) == 1
