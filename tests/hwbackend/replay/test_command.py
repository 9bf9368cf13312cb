"""`vsim replay` without a GPU: what is predicted is carried out, so that nothing differs."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest
from tests.command_line import run

from vsim.sim.scenario.scenario import load_scenario
from vsim.sim.scenario.workload import load_requests
from vsim.traces.arrow_io import metadata_of, read_table

RECORDED = Path(__file__).parents[3] / "traces" / "recorded" / "standard.arrow"

NEEDS = "takes on a GPU: hbm 1022 MiB of KV and 14.96 GiB of weights; host 1.314 GiB of KV\n"
PLAN = f"""\
{NEEDS}\
small · llama-3.1-8b on h100 · plan, paged · on the simulated backend
note: h100 has no times of these kernels: by the tables of vllm
note: a step is launched when the last one has ended: host times of the profile vllm are left out \
of both sides
2.059 s in which nothing was under way were skipped
649 steps, 679 operations compared: 4.47194 s predicted, 4.47194 s measured

operations                             count  predicted   measured  spread  error p50    p95  worst
step of decodes, up to 1 request         331   6.337 ms   6.337 ms       –      +0.0%  +0.0%  +0.0%
step of decodes, up to 2 requests        211   6.605 ms   6.605 ms       –      +0.0%  +0.0%  +0.0%
step of decodes, up to 4 requests         84   6.712 ms   6.712 ms       –      +0.0%  +0.0%  +0.0%
step with a chunk, up to 1,024 tokens     10  16.659 ms  16.659 ms       –      +0.0%  +0.0%  +0.0%
step with a chunk, up to 2,048 tokens      4  36.882 ms  36.882 ms       –      +0.0%  +0.0%  +0.0%
step with a chunk, up to 512 tokens        5   9.213 ms   9.213 ms       –      +0.0%  +0.0%  +0.0%
step with a chunk, up to 256 tokens        4   8.781 ms   8.781 ms       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 64 MiB             17   768.2 us   768.2 us       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 256 MiB             2   3.571 ms   3.571 ms       –      +0.0%  +0.0%  +0.0%
copy host → hbm, up to 128 MiB             2   1.760 ms   1.760 ms       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 128 MiB             2   1.569 ms   1.569 ms       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 32 MiB              4   501.3 us   501.3 us       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 8 MiB               1   158.1 us   158.1 us       –      +0.0%  +0.0%  +0.0%
copy hbm → host, up to 2 MiB               2    43.7 us    43.7 us       –      +0.0%  +0.0%  +0.0%
all                                      679   6.394 ms   6.394 ms       –      +0.0%  +0.0%  +0.0%
Nothing was measured: this checks that a replay carries out what was predicted.
"""

DECISIONS = """\
decisions       simulated      measured   differing
steps                 649           649
admissions    25 requests   25 requests     0 steps
promotions       92 pages      92 pages     0 steps
write-backs     673 pages     673 pages     0 steps
evictions       673 pages     673 pages     0 tiers
prefix hits  8,512 tokens  8,512 tokens  0 requests
preemptions       0 times       0 times  0 requests
All decisions are as simulated.
"""

ATTENTION = """\
takes on a GPU: hbm 92 MiB of KV and 256.6 MiB of weights; host 92 MiB of KV
replay · smollm2-135m on h200 · plan, paged · on the simulated backend
note: a trace alone is served by smollm2-135m on h200, tiers hbm, host; --set or a scenario say \
otherwise
note: h200 has no times of these kernels: by the tables of vllm
note: a step is compared from its first kernel on: the machine's launch.step_overhead is left out \
of both sides
note: the log lets copies end with their step, so that the steps alone are compared
note: copy hbm → host, up to 128 MiB: 1, 4.803 ms (median)
note: copy hbm → host, up to 512 KiB: 1, 1.629 ms (median)
0.002 s in which nothing was under way were skipped
4 steps, 4 operations compared: 0.00577144 s predicted, 0.00577144 s measured

operations        count  predicted  measured  spread  error p50    p95  worst
step, reads host      4   1.385 ms  1.385 ms       –      +0.0%  +0.0%  +0.0%
all                   4   1.385 ms  1.385 ms       –      +0.0%  +0.0%  +0.0%
Nothing was measured: this checks that a replay carries out what was predicted.
"""


def stripped(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return stripped(capsys.readouterr().out)


def test_a_scenario_of_requests_is_carried_out_as_a_plan_in_the_predicted_times(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", str(small)) == 0
    out, err = capsys.readouterr()
    assert stripped(out) == PLAN
    assert err == ""


def test_live_on_simulated_time_decides_as_simulated(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", str(small), "--mode", "live") == 0
    found = printed(capsys)
    assert DECISIONS in found
    table = PLAN[PLAN.index("operations  ") : PLAN.index("Nothing was")]
    assert table in found


def test_a_trace_of_attention_alone_is_carried_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--set", "workload.steps=4", "--hbm", "40MiB")
    assert run(monkeypatch, "replay", str(RECORDED), *arguments) == 0
    assert printed(capsys) == ATTENTION


def test_a_log_of_a_run_is_carried_out_like_its_scenario(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine vsim has no host times, so that the run is the one that a replay simulates."""
    settings = ("--set", "engine.profile=vsim")
    folder = tmp_path / "run"
    log = ("--set", "output.operations=all", "--out", str(folder))
    assert run(monkeypatch, "run", str(small), *settings, *log) == 0
    printed(capsys)
    assert run(monkeypatch, "replay", str(small), *settings) == 0
    of_scenario = printed(capsys).splitlines()
    for name in (folder, folder / "operations.arrow"):
        assert run(monkeypatch, "replay", str(name)) == 0
        without_note = [line for line in of_scenario if not line.startswith("note:")]
        assert printed(capsys).splitlines() == without_note


def test_a_measured_log_is_a_valid_one_that_can_be_read_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in ("plan", "live"):
        out = tmp_path / mode
        assert run(monkeypatch, "replay", str(small), "--mode", mode, "--out", str(out)) == 0
        table = read_table(str(out / "operations.arrow"), "operations")
        assert not pc.any(table.column("predicted")).as_py()
        facts = metadata_of(table)
        assert (facts["mode"], facts["movement"], facts["stand_ins"]) == (mode, "paged", "none")
        summary = json.loads((out / "summary.json").read_text())
        assert summary["vsim"]["kind"] == "replay"
        assert summary["all"]["worst"] == 0
        assert summary["compared"] == 679
        assert summary["idle_skipped_s"] == pytest.approx(2.059, abs=1e-3)
        assert (summary["only_predicted"], summary["only_measured"]) == (0, 0)


def test_a_replay_writes_the_same_bytes_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        assert run(monkeypatch, "replay", str(small), "--out", str(tmp_path / name)) == 0
    for file in ("operations.arrow", "summary.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_window_keeps_what_begins_in_it_and_says_so(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrival = load_requests(load_scenario(small)).arrival_ns
    kept = int((arrival - arrival[0] < 2 * 10**9).sum())
    assert 0 < kept < 24
    for window, requests in (("2s", kept), ("2000ms", kept)):
        assert run(monkeypatch, "replay", str(small), "--window", window) == 0
        assert f"note: the first 2 s: {requests} of 24 requests\n" in printed(capsys)
    assert run(monkeypatch, "replay", str(small), "--window", "1000s") == 0
    assert printed(capsys) == PLAN


def test_a_stand_in_is_named_in_every_line_of_it(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = small.read_text().replace("tier: host", "tier: lpddr").replace("h100", "gh200")
    small.write_text(text)
    on = ("--machine", "2xh200-nvlink")
    assert run(monkeypatch, "replay", str(small), *on) == 2
    assert "--stand-in lpddr=peer" in capsys.readouterr().err
    assert run(monkeypatch, "replay", str(small), *on, "--stand-in", "lpddr=peer") == 0
    out = capsys.readouterr().out
    assert "peer for lpddr 1.3" in out
    assert "note: peer stands in for lpddr\n" in out
    copies = [line for line in out.splitlines() if line.startswith("copy ")]
    assert copies
    assert all("peer for lpddr" in line for line in copies)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "both"], "--mode: 'both' is no mode; write plan or live"),
        (["--window", "0s"], "--window: '0s' holds nothing; write it like 60s"),
        (["--window", "x"], "--window: 'x' is not a duration; write it like 12us"),
        (["--hbm", "1TB/s"], "--hbm: '1TB/s' is not a size; write it like 80GiB"),
        (["--stand-in", "host"], "--stand-in: 'host' names no two tiers; write lpddr=peer"),
        (
            ["--stand-in", "lpddr=peer"],
            "--stand-in: lpddr=peer does nothing: the tiers are hbm, host; remove it",
        ),
        (["--stand-in", "hbm=host"], "--stand-in: hbm=host: nothing stands in for HBM; remove it"),
        (["--verify"], "--verify: looks at pages on a GPU; write --gpu, or remove it"),
        (
            ["--repeats", "3", "--mode", "live"],
            "--repeats: 3 repeats of a live run decide differently; write --mode plan",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str],
    said: str,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "replay", str(small), *arguments) == 2
    assert capsys.readouterr().err.splitlines() == [said]


def test_what_decides_nothing_by_time_has_no_live_replay(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    log = ("--set", "output.operations=all", "--out", str(folder))
    assert run(monkeypatch, "run", str(small), *log) == 0
    capsys.readouterr()
    for source, why in ((folder, "a log holds what was decided"), (RECORDED, "the reads alone")):
        assert run(monkeypatch, "replay", str(source), "--mode", "live") == 2
        assert why in capsys.readouterr().err
    assert run(monkeypatch, "replay", str(folder), "--hbm", "2GiB") == 2
    assert "was decided already" in capsys.readouterr().err


def test_other_files_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", str(tmp_path)) == 2
    assert "has no summary.json; name a folder that `vsim run --out` wrote" in (
        capsys.readouterr().err
    )
    assert run(monkeypatch, "replay", str(tmp_path / "nowhere.arrow")) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_without_a_driver_a_gpu_is_refused_before_anything_is_simulated(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vsim.hwbackend.cuda.errors import NoDriver

    def no_driver() -> None:
        raise NoDriver("there is no NVIDIA driver here")

    monkeypatch.setattr("vsim.hwbackend.replay.gpu.devices", no_driver)
    assert run(monkeypatch, "replay", str(small), "--gpu") == 2
    assert capsys.readouterr().err.splitlines() == [
        "GPU: there is no NVIDIA driver here; run it where there is one, or without --gpu"
    ]


@pytest.mark.parametrize("name", ["host", "peer", "mapped", "tensor"])
def test_the_scenarios_for_a_gpu_move_pages_and_are_small(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = Path(__file__).parents[3] / "scenarios" / "replay" / f"{name}.yaml"
    assert run(monkeypatch, "replay", str(scenario)) == 0
    found = printed(capsys)
    tier = "peer" if name == "peer" else "host"
    assert f"copy hbm → {tier}" in found
    assert f"copy {tier} → hbm" in found or f"reads {tier}" in found
    assert ("mapped · on" in found) == (name == "mapped")
    steps = int(found.split(" steps, ")[0].split("\n")[-1].replace(",", ""))
    assert 100 < steps < 3000
