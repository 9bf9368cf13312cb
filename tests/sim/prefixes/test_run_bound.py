"""The bound beside a run's prefix hits: valid for all that an engine does, exact where easy."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vsim.sim import simulate
from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.prefixes import run_net_bound
from vsim.sim.prefixes.run_bound import RunPrefixBound, bound_in_any_order
from vsim.sim.results import prefix_bound
from vsim.sim.results.output import KeptRequests
from vsim.sim.scenario.scenario import Scenario
from vsim.traces.requests import Requests

ROOT = Path(__file__).parents[3]


def trace(rows: list[list[int]], gap_s: float, block_tokens: int = 16) -> Requests:
    """Requests of whole blocks, some seconds apart, with an answer of four tokens."""
    n = len(rows)
    none, zeros = np.full(n, -1, np.int64), np.zeros(n, np.int32)
    return Requests(
        id=np.arange(n), arrival_ns=(np.arange(n) * gap_s * 1e9).astype(np.int64),
        prompt_tokens=np.array([len(row) * block_tokens for row in rows]),
        output_tokens=np.full(n, 4), session=none, parent=none, think_ns=none, tenant=zeros,
        tenant_names=("",), priority=zeros,
        prefix_offsets=np.cumsum([0, *map(len, rows)]),
        prefix_ids=np.array([block for row in rows for block in row]),
        block_tokens=block_tokens, source="by hand",
    )  # fmt: skip


def scenario(pages: int, **engine: object) -> Scenario:
    """Llama-3.1-8B on one H100 with HBM for so many pages of 16 tokens."""
    return Scenario.model_validate(
        {
            "name": "bound", "machine": "h100", "model": "llama-3.1-8b",
            "workload": {"trace": "given"},
            "engine": {"prefix_caching": True, "block_tokens": 16, **engine},
            "tiers": [{"tier": "hbm", "capacity": f"{pages * 2}MiB"}],  # 16 x 131,072 B = 2 MiB
        }
    )  # fmt: skip


def test_requests_far_apart_are_bounded_as_a_trace_is() -> None:
    """a b c and d e f alternate; there is room for four pages beside the null block.

    A request needs three pages and one for its answer; whatever a cache of five pages does, it
    keeps no more over two slots of which each holds what two requests will want.
    """
    rows = [[1, 2, 3], [4, 5, 6]] * 3
    requests = trace(rows, 10.0)
    result = simulate(scenario(5), requests=requests)
    assert result.summary["requests"]["completed"] == 6
    bound = result.summary["prefix_bound"]
    assert result.summary["prefix_hit_tokens"] <= bound["hit_tokens"]
    assert bound["unbounded_hit_ratio"] == pytest.approx(12 * 16 / (18 * 16))
    tight = simulate(scenario(5), requests=requests, tight_bound=True).summary["prefix_bound"]
    assert tight["hit_tokens"] <= bound["hit_tokens"] < 12 * 16


def test_pages_that_a_running_request_holds_are_found_for_nothing() -> None:
    """All come at once: what the first computes the others find, whatever room there is."""
    rows = [[1, 2, 3, 4]] + [[1, 2, 3, 4, 5 + i] for i in range(6)]
    requests = replace(trace(rows, 0.001), output_tokens=np.full(7, 4000))
    summary = simulate(scenario(8000), requests=requests).summary
    assert summary["prefix_bound"]["hit_tokens"] == 6 * 4 * 16
    assert summary["prefix_hit_tokens"] == 6 * 4 * 16


@pytest.mark.parametrize("seed", range(12))
def test_no_run_is_above_its_bound(seed: int) -> None:
    """Conversations at random, in little room, with preemptions; `simulate` itself compares."""
    random = np.random.default_rng(seed)
    rows: list[list[int]] = []
    fresh = 0
    for _ in range(60):
        base = rows[random.integers(len(rows))] if rows and random.random() < 0.7 else []
        kept = base[: random.integers(len(base) + 1)]
        new = int(random.integers(1, 6))
        rows.append([*kept, *range(fresh, fresh + new)][:40])
        fresh += new
    requests = trace(rows, float(random.choice([0.001, 0.05, 1.0])))
    requests = replace(requests, output_tokens=random.integers(1, 200, len(rows)))
    preemption = ["recompute", "swap"][seed % 2]
    tiers = [{"tier": "hbm", "capacity": f"{int(random.integers(60, 200)) * 2}MiB"}]
    tiers += [{"tier": "host", "capacity": "64MiB"}] * (seed % 3 > 0 or preemption == "swap")
    described = scenario(100, preemption=preemption).model_dump(mode="json", exclude_unset=True)
    run = Scenario.model_validate({**described, "tiers": tiers})
    for tight in (False, True):
        bound = simulate(run, requests=requests, tight_bound=tight).summary["prefix_bound"]
        assert bound["tight"]  # few sweeps are enough for so few requests
        assert 0 < bound["hit_ratio"] <= bound["unbounded_hit_ratio"] + 1e-12


def test_a_false_bound_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = trace([[1, 2, 3], [1, 2, 3]], 10.0)
    found = simulate(scenario(8), requests=requests).summary["prefix_hit_tokens"]
    assert found > 0
    too_low = RunPrefixBound(tokens=found - 1, unbounded_tokens=320, tight=False)
    monkeypatch.setattr(prefix_bound, "bound_run", lambda *given, **tight: too_low)
    with pytest.raises(FalseCertificateError, match=f"and yet the run saves {found}"):
        simulate(scenario(8), requests=requests)


def test_a_run_without_a_tight_bound_imports_no_solver() -> None:
    """An import that takes longer than a short run; only `--bound tight` needs one."""
    code = (
        "import sys; from vsim.sim import load_scenario, simulate\n"
        "run = load_scenario('scenarios/quickstart.yaml', ['workload.synth.requests=4'])\n"
        "assert 'prefix_bound' in simulate(run, base='scenarios').summary\n"
        "solvers = {'highspy', 'scipy.optimize', 'scipy.sparse'} & set(sys.modules)\n"
        "sys.exit(f'imported {solvers}' if solvers else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_nothing_is_claimed_where_nothing_can_be_found() -> None:
    requests = trace([[1], [1]], 1.0)
    summary = simulate(scenario(8, prefix_caching=False), requests=requests).summary
    assert "prefix_bound" not in summary


@pytest.mark.parametrize("seed", range(4))
def test_no_run_saves_more_net_of_loads_than_its_tiers_allow(seed: int) -> None:
    """Conversations that come back after others; `simulate` itself compares, here once more."""
    random = np.random.default_rng(100 + seed)
    talks: list[list[int]] = [[] for _ in range(8)]
    rows, fresh = [], 0
    for at in random.integers(0, 8, 80).tolist():
        new = int(random.integers(1, 5))
        talks[at] = [*talks[at], *range(fresh, fresh + new)]
        fresh += new
        rows.append(talks[at])
    requests = trace(rows, float(random.choice([0.05, 1.0])))
    tiers = [{"tier": "hbm", "capacity": "128MiB"}, {"tier": "host", "capacity": "96MiB"}]
    tiers += [{"tier": "nvme", "capacity": "400MiB"}] * (seed % 2)
    described = scenario(100, loading="always").model_dump(mode="json", exclude_unset=True)
    run = Scenario.model_validate({**described, "tiers": tiers})
    for tight in (False, True):
        net = simulate(run, requests=requests, tight_bound=tight).summary["prefix_net_bound"]
        assert 0 < net["saved_s"] <= net["most_s"]


def test_a_run_too_long_for_prices_by_tier_has_a_looser_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talks = [list(range(100 * talk, 100 * talk + 30)) for talk in range(6)]
    requests = trace([talks[at % 6][: 6 + at // 2] for at in range(40)], 0.5)
    tiers = [{"tier": "hbm", "capacity": "128MiB"}, {"tier": "host", "capacity": "96MiB"}]
    described = scenario(100, loading="always").model_dump(mode="json", exclude_unset=True)
    run = Scenario.model_validate({**described, "tiers": tiers})
    priced = simulate(run, requests=requests, tight_bound=True).summary["prefix_net_bound"]
    monkeypatch.setattr(run_net_bound, "_MOST_REQUESTS", 10)
    loose = simulate(run, requests=requests).summary["prefix_net_bound"]
    assert loose["saved_s"] == priced["saved_s"] <= priced["most_s"]
    assert priced["most_s"] <= loose["most_s"] * (1 + 1e-9)


@pytest.mark.parametrize("model", ["gpt-oss-20b", "llama-3.1-8b"])
def test_where_kv_is_in_groups_hits_are_bounded_by_what_another_request_has(model: str) -> None:
    """Of a b c, a b c d and a b e the second finds a b c at most, the third a b: five pages."""
    requests = trace([[1, 2, 3], [1, 2, 3, 4], [1, 2, 5]], 10.0)
    described = scenario(4000).model_dump(mode="json", exclude_unset=True)
    summary = simulate(
        Scenario.model_validate({**described, "model": model}), requests=requests
    ).summary
    assert summary["prefix_bound"]["hit_tokens"] == 5 * 16
    assert summary["prefix_hit_tokens"] <= 5 * 16
    assert summary["prefix_bound"]["tight"] is (model == "llama-3.1-8b")


def test_any_order_allows_all_but_the_first_of_those_that_share() -> None:
    """Of a b c, a b d, e, a b c f and e g: a and b have three users, c and e two."""
    requests = trace([[1, 2, 3], [1, 2, 4], [5], [1, 2, 3, 6], [5, 7]], 1.0)
    kept = simulate(scenario(8), requests=requests).kept_requests
    assert isinstance(kept, KeptRequests)
    assert bound_in_any_order(requests, kept.engine, 16, 16).tokens == (2 + 2 + 1 + 1) * 16


def test_without_tiers_below_nothing_is_loaded() -> None:
    summary = simulate(scenario(8), requests=trace([[1], [1]], 1.0)).summary
    assert "prefix_bound" in summary
    assert "prefix_net_bound" not in summary
