"""Curves by tenant and tier, sampled curves, working sets."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.command_line import run
from tests.seeds import examples
from tests.traces.test_prefix_reuse import chains, lru_hits, packed

from vsim.traces.prefix_curves import prefix_curves, tier_hits
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.prefix_sampling import sampled_curve
from vsim.traces.requests import Requests
from vsim.traces.working_set import working_sets


def made(rows: list[list[int]], arrival_s: list[float], tenants: list[int]) -> Requests:
    n = len(rows)
    none, zeros = np.full(n, -1, np.int64), np.zeros(n, np.int32)
    offsets, ids = packed(rows)
    return Requests(
        id=np.arange(n), arrival_ns=(np.array(arrival_s) * 1e9).astype(np.int64),
        prompt_tokens=np.maximum(np.diff(offsets), 1), output_tokens=np.full(n, 4), session=none,
        parent=none, think_ns=none, tenant=np.array(tenants, np.int32),
        tenant_names=("a", "b"), priority=zeros, prefix_offsets=offsets, prefix_ids=ids,
        block_tokens=1, source="by hand",
    )  # fmt: skip


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), seed=st.integers(0, 1000))
def test_a_tenant_s_curve_is_its_share_of_a_replay(rows: list[list[int]], seed: int) -> None:
    tenants = np.random.default_rng(seed).integers(0, 2, len(rows)).tolist()
    requests = made(rows, [float(at) for at in range(len(rows))], tenants)
    curves = prefix_curves(requests, by_tenant=True).tenants
    for size in (1, 4, 13, 50):
        replayed = lru_hits(rows, size)
        for at, curve in enumerate(curves):
            sizes, hits = zip(*curve.points, strict=True)
            theirs = sum(h for h, t in zip(replayed, tenants, strict=True) if t == at)
            assert np.interp(size, sizes, hits) == pytest.approx(theirs)
            assert curve.references == sum(
                len(row) for row, t in zip(rows, tenants, strict=True) if t == at
            )


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_a_tier_s_hits_are_those_of_a_stack_that_demotes(
    rows: list[list[int]], sizes: list[int]
) -> None:
    """Each tier a list from its last used down; what is used comes up, what falls out goes down."""
    tiers: list[list[int]] = [[] for _ in sizes]
    found = [0] * len(sizes)
    for row in rows:
        for block in row:
            where = [j for j, tier in enumerate(tiers) if block in tier]
            if not where:
                break
            found[where[0]] += 1
        for block in reversed(row):
            for tier in tiers:
                if block in tier:
                    tier.remove(block)
            moved = [block]
            for tier, size in zip(tiers, sizes, strict=True):
                tier[:0] = moved
                moved = [tier.pop()] if len(tier) > size else []
    reuse = PrefixReuse.of(*packed(rows))
    total = max(sum(map(len, rows)), 1)
    expected = [count / total for count in found]
    assert [tier.hit_ratio for tier in tier_hits(reuse, sizes)] == pytest.approx(expected)


@settings(deadline=None, max_examples=examples(60))
@given(rows=chains(), seed=st.integers(0, 1000), window=st.sampled_from([0.5, 1.5, 4.0, 100.0]))
def test_a_working_set_is_what_was_used_in_its_window(
    rows: list[list[int]], seed: int, window: float
) -> None:
    """Against the definition, at every quarter of a second and every request."""
    gaps = np.random.default_rng(seed).integers(0, 4, len(rows))
    arrival = np.cumsum(gaps) * 0.25
    lengths = np.array([len(row) for row in rows])
    reuse = PrefixReuse.of(*packed(rows))
    found = working_sets(reuse, (arrival * 1e9).astype(np.int64), lengths, [window])[0]
    hits, last = 0, dict[int, float]()
    for row, now in zip(rows, arrival.tolist(), strict=True):
        hits += sum(block in last and now - last[block] < window for block in row)
        last.update(dict.fromkeys(row, now))
    assert found.hit_ratio == pytest.approx(hits / max(reuse.blocks, 1))
    ticks = np.arange(arrival[0], arrival[-1], 0.25)
    sizes = [
        len({b for row, then in zip(rows, arrival, strict=True)
             for b in row if then <= t and t - then < window})
        for t in ticks.tolist()
    ]  # fmt: skip
    if len(ticks):
        assert found.mean_blocks == pytest.approx(float(np.mean(sizes)))


def conversations(count: int, turns: int) -> list[list[int]]:
    """Conversations in turn that all begin with one block, each turn two blocks longer."""
    random = np.random.default_rng(3)
    talks: list[list[int]] = [[0] for _ in range(count)]
    rows, fresh = [], 1
    for at in random.integers(0, count, count * turns).tolist():
        talks[at] = [*talks[at], fresh, fresh + 1]
        fresh += 2
        rows.append(talks[at])
    return rows


def test_a_sample_of_conversations_estimates_the_curve() -> None:
    """Of 2,000 alike a fifth: hits at eight sizes are within two points."""
    offsets, ids = packed(conversations(2000, 5))
    sizes = np.array([100, 1000, 3000, 5000, 8000, 10_000, 15_000, 30_000])
    exact = PrefixReuse.of(offsets, ids).lru_hits(sizes) / len(ids)
    sampled = sampled_curve(offsets, ids, 0.2)
    assert 300 * 5 < sampled.requests < 500 * 5
    assert sampled.hot_blocks == 1
    assert np.abs(sampled.hit_ratios(sizes) - exact).max() < 0.02
    other = sampled_curve(offsets, ids, 0.2, seed=1)
    assert other.requests != sampled.requests


def test_conversations_are_sampled_whole_and_more_of_them_at_a_higher_rate() -> None:
    """Without limits a turn finds all that came before it in its conversation: 2 blocks a turn."""
    rows = conversations(300, 4)
    offsets, ids = packed(rows)
    few, more = sampled_curve(offsets, ids, 0.1), sampled_curve(offsets, ids, 0.4)
    assert few.requests < more.requests
    for sampled in (few, more):
        roots = {root for root in {row[1] for row in rows} if is_sampled(root, sampled.rate)}
        theirs = [row for row in rows if row[1] in roots]
        assert sampled.requests == len(theirs)
        assert sampled.reuse.count.sum() == sum(len(row) - 3 for row in theirs)


def is_sampled(root: int, rate: float) -> bool:
    return sampled_curve(*packed([[root]]), rate).requests == 1


@settings(deadline=None, max_examples=examples(40))
@given(rows=chains())
def test_a_sample_of_everything_is_exact(rows: list[list[int]]) -> None:
    offsets, ids = packed(rows)
    if not len(ids):
        return
    sizes = np.arange(1, 40)
    exact = PrefixReuse.of(offsets, ids).lru_hits(sizes) / len(ids)
    assert sampled_curve(offsets, ids, 1.0).hit_ratios(sizes) == pytest.approx(exact)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    rows = [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2, 5]]
    path.write_text(
        "".join(
            json.dumps({"timestamp": 1000 * at, "input_length": 512 * len(ids),
                        "output_length": 4, "hash_ids": ids}) + "\n"
            for at, ids in enumerate(rows)
        )
    )  # fmt: skip
    return path


def test_curves_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], trace: Path
) -> None:
    options = ["--mrc", "--by", "tier", "--cache-blocks", "2,2", "--sample", "0.5"]
    windows = ["--working-set", "1.5,2.5"]
    assert run(monkeypatch, "trace", "info", str(trace), *options, *windows, "--json") == 0
    found = json.loads(capfd.readouterr()[0])["prefix_curves"]
    assert [tier["hit_ratio"] for tier in found["tiers"]] == [0.0, pytest.approx(6 / 11)]
    assert [each["hit_ratio"] for each in found["working_sets"]] == [0.0, pytest.approx(6 / 11)]
    # over 4 s: a b and c d for 2.5 s from 0 and 1 s on and renewed after 2 s, so that they stay
    assert found["working_sets"][1]["mean_blocks"] == pytest.approx((2 * 4 + 2 * 3) / 4)
    assert run(monkeypatch, "trace", "info", str(trace), *options, *windows) == 0
    assert all(len(line) <= 100 for line in capfd.readouterr()[0].splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "tier"], "--by: does nothing without --mrc"),
        (["--mrc", "--by", "tier"], "--by: tier needs the tiers' sizes"),
        (["--mrc", "--by", "user"], "--by: 'user' is unknown"),
        (["--mrc", "--by", "tenant"], "--by: can't be tenant here"),
        (["--mrc", "--sample", "1.5"], "--sample: 1.5 is no share"),
        (["--sample", "0.5"], "--sample: does nothing without --mrc"),
        (["--working-set", "5,x"], "--working-set: 'x' is no window"),
    ],
)
def test_what_cannot_act_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], trace: Path,
    options: list[str], message: str,
) -> None:  # fmt: skip
    assert run(monkeypatch, "trace", "info", str(trace), *options) == 2
    assert message in capfd.readouterr()[1]
