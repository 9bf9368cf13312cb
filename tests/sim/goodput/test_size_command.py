"""`vsim size`: what it prints and writes, that it goes on where it was killed, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command_line import run
from tests.sim.goodput.queues import arriving

from vsim.traces.arrow_io import read_table
from vsim.traces.requests import write_requests

SCENARIO = """\
name: small
seed: 1
workload:
  synth:
    requests: 300
    arrivals: {rate_per_s: 4}
    prompt_tokens: "0.5:2000,0.99:8000"
    output_tokens: "0.5:60,0.99:200"
    sessions: {turns_mean: 4, think_s_mean: 5, most_tokens: 30000}
    tenants: [{name: gold, share: 1}, {name: silver, share: 3}]
  pacing: think_times
machine: h100
model: llama-3.1-8b
engine: {scheduler: fair, page_tokens: 64, max_running_requests: 64}
tiers:
  - {tier: hbm, capacity: 6GiB}
  - {tier: host, capacity: 8GiB}
"""
ENVIRONMENT = dict(os.environ)  # of compiled code, whose cache is as long as nothing moves it
SLO = "ttft_p95=1s,tpot_p95=40ms"
OVER = "tiers.1.capacity=0|8GiB"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Size = Callable[..., Done]


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    return tmp_path / "small.yaml"


@pytest.fixture
def size(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Size:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: object) -> Done:
        code = run(monkeypatch, "size", *map(str, arguments))
        return Done(code, *capfd.readouterr())

    return call


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_killed_search_goes_on_and_ends_with_the_bytes_of_one_in_turn(
    scenario: Path, size: Size, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    asked = [str(scenario), "--slo", SLO, "--over", OVER, "--store"]
    command = [sys.executable, "-m", "vsim_app", "size", *asked, str(store), "--processes", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, start_new_session=True, env=ENVIRONMENT
    ) as process:
        until = time.monotonic() + 60
        while len(list(store.glob("*.json"))) < 3 and time.monotonic() < until:
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = len(list(store.glob("*.json")))
    assert before >= 3
    group = process.pid  # its workers are of the same session; without it their pipes end
    until = time.monotonic() + 60
    while alive(group) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(group), "a worker outlived the search"
    (spoilt, cut) = sorted(store.glob("*.json"))[:2]
    spoilt.write_text(spoilt.read_text().replace('"requests"', '"questions"', 1))
    cut.write_bytes(cut.read_bytes()[:100])

    outputs = ["--json", tmp_path / "a.json", "--out", tmp_path / "a.arrow"]
    resumed = size(*asked, store, "--processes", 2, *outputs)
    assert resumed.code == 0, resumed.err
    assert f"{before - 2} read from the store" in resumed.out, "all but the spoilt two"
    outputs = ["--json", tmp_path / "b.json", "--out", tmp_path / "b.arrow"]
    fresh = size(*asked, tmp_path / "other", "--processes", 1, *outputs)
    assert "0 read from the store" in fresh.out
    for name in ("json", "arrow"):
        assert (tmp_path / f"a.{name}").read_bytes() == (tmp_path / f"b.{name}").read_bytes()

    looks_right(written(tmp_path / "b.json"))
    table = read_table(tmp_path / "b.arrow", "size_runs").to_pylist()
    for number in (0, 1):
        mine = [row for row in table if row["configuration"] == number]
        loads = [row["rate_scale"] for row in mine]
        assert loads == sorted(set(loads))
        (best,) = (row for row in mine if row["best"])
        following = mine[loads.index(best["rate_scale"]) + 1]
        assert (best["met"], following["met"]) == (True, False)
        assert following["rate_scale"] / best["rate_scale"] == pytest.approx(2 ** (1 / 32), 1e-4)
        assert best["ttft_p95_ns"] <= 10**9
        assert best["tpot_p95_ns"] <= 40 * 10**6
        assert following["ttft_p95_ns"] > 10**9 or following["tpot_p95_ns"] > 40 * 10**6


def alive(group: int) -> bool:
    """Whether a process of a group is there that is not waiting to be buried."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def looks_right(found: dict[str, Any]) -> None:
    """Hold the document against itself: sums, prices and what is best."""
    assert found["vsim"] == {"kind": "size"}
    none, host = found["configurations"]
    assert (none["name"], host["name"]) == ("no host", "host 8GiB")
    assert none["tiers"] == []
    (tier,) = host["tiers"]
    # 8 GiB at 0.288 dollars a GB and month of 730 hours
    assert tier["usd_per_hour"] == pytest.approx(8 * 1.073741824 * 0.288 / 730)
    assert host["cost"]["usd_per_hour"] == pytest.approx(3.348 + tier["usd_per_hour"])
    assert 0 < tier["never_loaded"] < tier["stored"]
    for each in (none, host):
        best = each["best"]
        assert all(promise["met"] for promise in best["promises"])
        assert not all(promise["met"] for promise in each["above"]["promises"])
        classes = best["classes"]
        assert [each["name"] for each in classes] == ["gold", "silver"]
        assert sum(each["requests"] for each in classes) == 300
        assert sum(each["good_per_s"] for each in classes) == pytest.approx(best["good_per_s"])
        hours = best["measured"]["simulated_ns"] / 3.6e12
        tokens = best["measured"]["output_tokens"]
        cost = each["cost"]["usd_per_hour"] * hours / tokens * 1e6
        assert best["usd_per_million_output_tokens"] == pytest.approx(cost)
    costs = [each["best"]["usd_per_million_output_tokens"] for each in (none, host)]
    assert found["chosen"] == (none, host)[costs.index(min(costs))]["name"]
    first, second = found["recommendation"]
    assert f"With {found['chosen']} it serves" in first
    assert f"${min(costs):.2f} a million output tokens" in first
    assert "is the first to break, bound by" in second


def test_without_an_slo_each_configuration_runs_at_its_own_load(
    scenario: Path, size: Size, tmp_path: Path
) -> None:
    done = size(
        scenario, "--over", "workload.rate_scale=1|2", "--processes", 1, "--json", tmp_path / "o"
    )
    assert done.code == 0, done.err
    assert "each at its own load" in done.out
    assert "2 runs made" in done.out
    found = written(tmp_path / "o")
    assert [each["runs"] for each in found["configurations"]] == [1, 1]
    assert [each["best"]["rate_scale"] for each in found["configurations"]] == [1.0, 2.0]
    assert found["slo"] is None
    again = size(scenario, "--over", "workload.rate_scale=1|2", "--processes", 1)
    assert "0 runs made, 2 read from the store" in again.out
    assert (tmp_path / "cache" / "vsim" / "size").is_dir(), "the user's cache, as nobody named one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slo", "ttft=1s"], "--slo: ttft is a limit of each request, and nothing says how many"),
        (["--over", "tiers.1.capacity=1..2"], "--over: tiers.1.capacity: '1' is not a size"),
        (["--over", "tiers.1.eviction=lru|lrv"],
         "--over tiers.1.eviction: there is no policy 'lrv' (did you mean 'lru'?); write one, or"
         " package.module:Class (with eviction lrv)"),
        (["--warm-up", "0.1"], "--warm-up: does nothing without --slo"),
        (["--slo", SLO, "--warm-up", "1"], "--warm-up: 1 is no share"),
        (["--slo", "itl_p99=1s", "--warm-up", "0.1"], "--warm-up: can't be told of gaps"),
        (["--processes", "0"], "--processes: 0 is none; write 1 to 1024"),
        (["--processes", "2", "--cluster", "x"], "--processes: does nothing with --cluster"),
        (["--plot", "p.pdf"], "--plot: 'p.pdf' is no picture's name; write one that ends in .png"),
        (["--prices", "none.yaml"], "none.yaml: there is no such file"),
        (["--json", "a", "--out", "a"], "--out: a: is a of --json; name two places apart"),
        (["--store", "small.yaml"], "--store: small.yaml: cannot be written"),
        (["--set", "workload={trace: burst.arrow}", "--set", "engine={}", "--slo", SLO],
         "workload: all requests arrive at 0, so that there is no rate to search over"),
        (["--slo", "tpot_p99=1s", "--set", "workload={trace: burst.arrow}", "--set", "engine={}"],
         "workload: all requests arrive at 0"),
        (["--slo", SLO, "--over", "workload.rate_scale=1|2"],
         "--over: workload.rate_scale is what --slo searches over"),
        (["--trace", "burst.arrow", "--over", "workload.synth.requests=1|2"],
         "--over: workload.synth.requests does nothing with --trace"),
        (["--set", "machine=h101"], "machine: 'h101' is not in the catalogue"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_before_anything_runs(
    scenario: Path,
    size: Size,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_requests(arriving(np.zeros(3, np.int64)), tmp_path / "burst.arrow")
    done = size("small.yaml", *arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == [
        "burst.arrow", "small.yaml",
    ]  # fmt: skip


def test_without_matplotlib_a_plot_is_refused_and_says_what_to_install(
    scenario: Path, size: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = size(scenario, "--plot", tmp_path / "p.png", "--processes", 1)
    assert done.code == 2
    assert "--plot: needs matplotlib; write pip install 'vsim[plots]'" in done.err
    assert not os.path.exists(tmp_path / "p.png")


def test_a_plot_is_a_picture_that_the_next_one_may_replace(
    scenario: Path, size: Size, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the extra vsim[plots] is not installed")
    for _ in range(2):
        done = size(
            scenario, "--slo", SLO, "--over", OVER, "--processes", 1, "--plot", tmp_path / "p.png"
        )
        assert done.code == 0, done.err
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
