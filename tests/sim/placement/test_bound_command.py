"""`vsim bound`: what it prints and writes, and what it refuses."""

import json
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from vsim.sim.bounds.certificate import Certificate
from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.commands.bound import run_bound
from vsim.sim.commands.command_line import register
from vsim.sim.placement.stack.path_annealing import path_annealing
from vsim.traces import printed
from vsim.traces.arrow_io import read_table
from vsim.traces.attention import AttentionTrace, write_attention
from vsim.traces.faults import InputError

STEPS, LAYERS, HEADS, PAGES, PROMPT_TOKENS = 24, 2, 2, 12, 160


def run(*arguments: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    app.command()(lambda: None)  # a second command, so that the first keeps its name
    return CliRunner().invoke(app, ["bound", *arguments])


def faults_of(result: Result) -> list[str]:
    assert isinstance(result.exception, InputError)
    return [str(fault) for fault in result.exception.faults]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Two layers of two heads that attend to 10 pages, and 2 more that decode writes."""
    draw = np.random.Generator(np.random.PCG64(1))
    pages, mass, rows = [], [], []
    for t in range(STEPS):
        context = (PROMPT_TOKENS + t) // 16 + 1
        for layer in range(LAYERS):
            for head in range(HEADS):
                rows.append((t, layer, head))
                pages.append(np.arange(context))
                weights = draw.dirichlet(np.ones(context) / 3)
                mass.append(weights.astype(np.float16))
    step, layers, heads = (np.array(column) for column in zip(*rows, strict=True))
    path = tmp_path / "t.arrow"
    write_attention(
        AttentionTrace(
            step=step,
            request=np.zeros(len(rows), np.int64),
            layer=layers.astype(np.int32),
            kv_head=heads.astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum([len(p) for p in pages])]),
            pages=np.concatenate(pages).astype(np.int32),
            scores={"mass": np.concatenate(mass)},
            scales={},
            page_tokens=16,
            page_bytes=4096,
            prompt_tokens=PROMPT_TOKENS,
            source="drawn for a test",
        ),
        path,
    )
    return str(path)


def test_every_policy_has_a_row_and_json_says_the_same(trace: str, tmp_path: Path) -> None:
    file = tmp_path / "o.json"
    result = run("--attention", trace, "--hbm-share", "0.25", "--json", str(file))
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["bound_s"] > 0
    assert {"solver", "gap", "seconds"} <= found["certificate"].keys()
    assert abs(found["certificate"]["gap"]) < 1e-6
    for name, row in found["policies"].items():
        assert name in result.output
        if name != "unlimited-hbm":
            assert row["time_s"] >= found["bound_s"]
            assert row["gap"] == pytest.approx(row["time_s"] / found["bound_s"] - 1)
    assert {"static", "lru", "belady", "window-share", "lp-rounding"} <= found["policies"].keys()
    assert max(map(len, result.output.splitlines())) <= 100


def test_schedules_are_operations_that_hold_every_read(trace: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # a former result is replaced
        result = run(
            "--attention", trace, "--policy", "lru", "--sparsity", "0.8", "--out", str(out)
        )
        assert result.exit_code == 0, result.output
        assert sorted(p.name for p in out.iterdir()) == [
            "bound.json",
            "sparsity80-hbm25-lru.arrow",
        ]
    table = read_table(out / "sparsity80-hbm25-lru.arrow", "operations").to_pylist()
    summary = json.loads((out / "bound.json").read_text())
    attended = sum(len(row["pages"]) for row in table if row["kind"] == "attend")
    assert attended == summary["case"]["reads"]
    last_ns = max(row["end_ns"] for row in table)
    assert last_ns == pytest.approx(summary["policies"]["lru"]["time_s"] * 1e9, abs=1)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_scenario_compares_every_sparsity_with_every_share(trace: str, tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "attention: t.arrow\n"
        "selection: {sparsity: [0.6, 0.8]}\n"
        "memory: {hbm_share: [0.2, 0.4], hbm_bandwidth: 5TB/s, weights: 1MB}\n"
        "policies: [static, belady]\n"
    )
    file = tmp_path / "o.json"
    result = run(str(scenario), "--json", str(file))
    assert result.exit_code == 0, result.output
    cases = json.loads(file.read_text())["cases"]
    assert [(c["sparsity"], c["hbm_share"]) for c in cases] == [
        (0.6, 0.2), (0.6, 0.4), (0.8, 0.2), (0.8, 0.4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "setting",
    [
        "memory.start=free",
        "memory.start=empty",
        "memory.exclusive=true",
        "memory.norm=4",
        "memory.weights=1MB",
        "memory.hbm_bandwidth=1TB/s",
        "memory.slow_bandwidth=2TB/s",
        "memory.hbm_share=0.5",
        "selection.sparsity=0.5",
        "selection={kind: top-mass, mass_share: 0.9}",
        "selection={kind: window, sinks: 1, window: 2}",
        "selection={kind: dense}",
        "time_per=layer",
        "page_factor=2",
        "merge_heads=true",
        "steps=10",
    ],
)
def test_every_setting_changes_the_bound_or_a_time(
    trace: str, tmp_path: Path, setting: str
) -> None:
    def outcome(*more: str) -> tuple[float, float]:
        file = tmp_path / "o.json"
        result = run("--attention", trace, "--policy", "lru", "--json", str(file), *more)
        assert result.exit_code == 0, (result.output, result.exception)
        found = json.loads(file.read_text())
        return found["bound_s"], found["policies"]["lru"]["time_s"]

    assert outcome("--set", setting) != outcome()


def test_a_simplex_channel_changes_a_time_where_tiers_are_exclusive(
    trace: str, tmp_path: Path
) -> None:
    def time_of(duplex: str) -> float:
        file = tmp_path / "o.json"
        more = ("--set", "memory.exclusive=true", "--set", f"memory.duplex={duplex}")
        run("--attention", trace, "--policy", "lru", "--json", str(file), *more)
        return float(json.loads(file.read_text())["policies"]["lru"]["time_s"])

    assert time_of("false") > time_of("true")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--hbm-share", "1.25"], "--hbm-share: 1.25 is out of range"),
        (["--sparsity", "x"], "--sparsity: 'x' is not a number"),
        (["--policy", "lruu"], "'lruu' is no policy (did you mean 'lru'?)"),
        (["--slow-bandwidth", "5GB"], "--slow-bandwidth: '5GB' is not a bandwidth"),
        (["--start", "warm"], "--start: 'warm'"),
        (["--set", "selection.window=4"], "does nothing for kind top-share"),
        (["--set", "selection={kind: window, sinks: 1}"], "is missing, which kind window needs"),
        (["--set", "selection={kind: top-share, score: quest}"], "has no score 'quest'"),
        (["--set", "memory.speed=4"], "unknown key 'speed'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(trace: str, arguments: list[str], wanted: str) -> None:
    result = run("--attention", trace, *arguments)
    found = faults_of(result)
    assert len(found) == 1
    assert wanted in found[0]


def test_a_search_of_hours_is_announced_before_it_starts(
    trace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def searched(*_: object, **__: object) -> None:
        said.append(capsys.readouterr().err)
        raise KeyboardInterrupt

    monkeypatch.setattr("vsim.sim.placement.bounding.points", searched)
    for seconds, note in (("3600", "3600 s of search in each of 2 cases take 2.0 h"), ("299", "")):
        with pytest.raises(KeyboardInterrupt):
            run_bound(
                None, attention=[trace], policies=["lp-rounding"], json_file=None, out=None,
                overrides=[f"mip_seconds={seconds}", "memory.hbm_share=[0.2, 0.4]"],
            )  # fmt: skip
        assert note in said[-1]
        assert bool(said[-1]) == bool(note)


def test_the_name_of_a_tier_needs_a_file_to_stand_in(trace: str, tmp_path: Path) -> None:
    arguments = ["--attention", trace, "--policy", "static", "--set", "memory.slow_tier=peer"]
    (fault,) = faults_of(run(*arguments))
    assert "memory.slow_tier: does nothing where no file names the tier; write --out" in fault
    for option in ("--json", "--out"):
        assert run(*arguments, option, str(tmp_path / option)).exit_code == 0


def test_a_missing_trace_or_scenario_is_refused(tmp_path: Path) -> None:
    assert "there is no such file" in faults_of(run(str(tmp_path / "none.yaml")))[0]
    assert "cannot be read" in faults_of(run("--attention", str(tmp_path / "none.arrow")))[0]
    assert "names no attention trace" in faults_of(run())[0]


def test_a_fault_in_a_scenario_names_its_line(trace: str, tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text("attention: t.arrow\npolicies:\n  - lru\n  - fifo\n")
    assert faults_of(run(str(scenario)))[0].startswith(f"{scenario}:4:5: policies.1: 'fifo'")


def test_a_folder_of_something_else_is_left_alone(trace: str, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    result = run("--attention", trace, "--policy", "lru", "--out", str(other))
    assert "did not write" in faults_of(result)[0]
    assert (other / "notes.txt").read_text() == "mine"


THREE = (
    "memory.tiers=[{tier: hbm, bandwidth: 5TB/s, share: 0.2},"
    " {tier: peer, bandwidth: 400GB/s, share: 0.3}, {tier: host, bandwidth: 50GB/s}]"
)


@pytest.mark.parametrize(
    "memory", [(THREE,), (THREE, "memory.exclusive=true"), ("memory.exclusive=true",)]
)
def test_any_number_of_tiers_has_the_table_the_json_and_the_schedules(
    trace: str, tmp_path: Path, memory: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(path_annealing, proposals=50_000)  # how far it gets is seen elsewhere
    monkeypatch.setattr("vsim.sim.placement.stack.policies.path_annealing", quick)
    file, out = tmp_path / "o.json", tmp_path / "out"
    more = [word for setting in memory for word in ("--set", setting)]
    result = run("--attention", trace, *more, "--json", str(file), "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)
    assert max(map(len, result.output.splitlines())) <= 100
    found = json.loads(file.read_text())
    assert found == json.loads((out / "bound.json").read_text())
    assert {"solver", "lp_s", "evaluations", "seconds"} == found["certificate"].keys()
    names = [tier["tier"] for tier in found["case"]["tiers"]]
    assert names == (["hbm", "peer", "host"] if THREE in memory else ["hbm", "host"])
    assert found["case"]["tiers"][-1]["pages"] is None
    assert {
        "static", "lru", "lru-balanced", "ewma-reads", "ewma-mass", "learned", "belady",
        "price-guided", "path-annealing",
    } == found["policies"].keys()  # fmt: skip
    for name, row in found["policies"].items():
        assert name in result.output
        assert row["time_s"] >= found["bound_s"] > 0
        assert row["gap"] == pytest.approx(row["time_s"] / found["bound_s"] - 1)
        assert row["hit_ratio"] == row["hit_ratios"]["hbm"]
        assert sum(row["hit_ratios"].values()) == pytest.approx(1)
        share = 20 if THREE in memory else 25
        table = read_table(out / f"sparsity80-hbm{share}-{name}.arrow", "operations").to_pylist()
        attended = sum(len(op["pages"]) for op in table if op["kind"] == "attend")
        assert attended == found["case"]["reads"]
        assert sum(op["bytes"] for op in table if op["kind"] == "copy") == row["moved_bytes"]


@pytest.mark.parametrize(
    "setting",
    [
        "memory.exclusive=true",
        "memory.norm=4",
        "memory.weights=1MB",
        "memory.start=empty",
        "memory.start=free",
        "memory.tiers.0.bandwidth=1TB/s",
        "memory.tiers.1.bandwidth=4TB/s",
        "memory.tiers.2.bandwidth=200GB/s",
        "memory.tiers.0.share=0.4",
        "memory.tiers.1.share=0.1",
        "time_per=layer",
    ],
)
def test_every_setting_of_a_stack_changes_the_bound_or_a_time(
    trace: str, tmp_path: Path, setting: str
) -> None:
    def outcome(*more: str) -> tuple[float, float]:
        file = tmp_path / "o.json"
        given = ("--set", THREE, *more, "--policy", "lru", "--json", str(file))
        result = run("--attention", trace, *given)
        assert result.exit_code == 0, (result.output, result.exception)
        found = json.loads(file.read_text())
        return found["bound_s"], found["policies"]["lru"]["time_s"]

    assert outcome("--set", setting) != outcome()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ([THREE, "memory.hbm_share=0.2"], ["--hbm-share: stands beside memory.tiers"]),
        (
            [THREE, "memory.hbm_bandwidth=5TB/s", "memory.slow_tier=host"],
            ["--hbm-bandwidth: stands beside", "slow_tier: stands beside"],
        ),
        ([THREE, "memory.tiers.2.share=0.5"], ["the last tier holds any number of pages"]),
        ([THREE, "memory.tiers.1.share=0.9"], ["add up to 1.1; write at most 1"]),
        ([THREE, "memory.tiers.1.share=null"], ["has no share; write which share"]),
        ([THREE, "memory.tiers.1.tier=hbm"], ["'hbm' is the name of another tier"]),
        ([THREE, "memory.tiers.1.bandwidth=4GB"], ["'4GB' is not a bandwidth"]),
        (["memory.tiers=[{tier: hbm, bandwidth: 5TB/s}]"], ["memory.tiers: "]),
        ([THREE, "policies=[lp-rounding]"], ["'lp-rounding' is for two inclusive tiers only"]),
        (["policies=[price-guided]"], ["'price-guided' is for memory.tiers or exclusive"]),
        ([THREE, "policies=[window-share]"], ["policies.0: window-share places two tiers only"]),
        ([THREE, "policies=[beladi]"], ["'beladi' is no policy (did you mean 'belady'?)"]),
        ([THREE, "mip_seconds=2"], ["--mip-seconds: is for the rounding of two inclusive tiers"]),
        (
            [THREE, "page_factor=2", "policies=[ewma-mass]"],
            ["policies.0: 'ewma-mass' follows attention mass; the trace has none"],
        ),
    ],
)
def test_a_wrong_stack_is_refused_field_by_field(
    trace: str, settings: list[str], wanted: list[str]
) -> None:
    more = [word for setting in settings for word in ("--set", setting)]
    found = faults_of(run("--attention", trace, *more))
    assert len(found) == len(wanted)
    for fault, text in zip(found, wanted, strict=True):
        assert text in fault


@given(st.floats(-11, 6).map(lambda e: 10**e))
@example(0.09999999999)
@example(1.0)
@example(9.9996)
def test_a_bound_is_never_shown_above_what_was_proven(bound_s: float) -> None:
    number, unit = printed.bound(bound_s).split()
    scale = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    shown = Decimal(number.replace(",", "")).scaleb(-scale)
    assert shown <= Decimal(bound_s)
    assert shown >= Decimal(bound_s) * Decimal("0.9989")


def test_a_false_certificate_is_neither_printed_nor_written(
    trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound a thousand times too high, as if a certificate had been computed wrongly."""

    def wrong(exact_s: Fraction) -> Certificate:
        return Certificate(exact_s * 1000, float(exact_s * 1000))

    monkeypatch.setattr(Certificate, "of", staticmethod(wrong))
    file, out = tmp_path / "o.json", tmp_path / "out"
    for more in ((), ("--set", "memory.exclusive=true"), ("--set", THREE)):
        given = ("--policy", "static", "--policy", "belady", "--json", str(file), "--out", str(out))
        result = run("--attention", trace, *given, *more)
        assert isinstance(result.exception, FalseCertificateError)
        assert "bug in vsim" in str(result.exception)
        assert "certified" not in result.output
        assert not file.exists()
        assert not out.exists()
