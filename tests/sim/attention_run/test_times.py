"""A run of recorded attention takes the times and moves the bytes that were worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.sim.attention_run.prefill import chunks
from vsim.sim.results.output import Result
from vsim.sim.timing.step_time import chunk, step_time_ns

from .small import COLUMNS, PAGE_BYTES, ROUND, run, trace

BUDGET_20 = {"engine": {"token_budget": 20}}


def steps(result: Result) -> list[int]:
    rows = result.steps.to_pylist()
    return [row["end_ns"] - row["start_ns"] for row in rows]


def tier(result: Result, index: int) -> dict[str, Any]:
    found: dict[str, Any] = result.summary["tiers"][index]
    return found


def test_write_back_takes_the_times_worked_out_by_hand(tmp_path: Path) -> None:
    """35 tokens of prompt are 4 pages, of which HBM holds the first two in all four columns.

    Prefill of 20 tokens: 20 of arithmetic + 20.48 written + 20.48 read = 60.96 ns. Of the next 15:
    15 + 15.36, then 35.84 read in HBM while their 15,360 B take 61.44 on the link down: 91.8. A
    decode step: 10 weights + 1.024, then 8 · 2.56 = 20.48 in HBM beside 8 · 10.24 = 81.92 below:
    92.944.
    """
    result = run(tmp_path, trace(35, 6), **BUDGET_20)
    assert steps(result) == [1_061, 1_092, *[1_093] * 6]
    (row,) = result.requests.to_pylist()
    assert row["arrival_ns"] == row["admitted_ns"] == 0
    assert row["first_token_ns"] == 2_153
    assert row["last_token_ns"] == 2_153 + 6 * 1_093
    assert row["output_tokens"] == 7
    assert result.summary["simulated_s"] == pytest.approx(8_711e-9)
    assert [row["bound"] for row in result.steps.to_pylist()] == ["hbm", *["lower_tier"] * 7]


def test_the_time_of_a_run_is_booked_on_its_kernels(tmp_path: Path) -> None:
    """Parts of a step end at the nearest nanosecond; what is rounded up at its end is attention's.

    Prefill of 20: 20 of arithmetic, 20.48 of writing to 40, then HBM until 61. Of 15: 15, 15.36 to
    30, then the link until 92. A decode step: 10 of weights, 1.024 to 11, the link until 93.
    """
    result = run(tmp_path, trace(35, 6), **BUDGET_20)
    share, total_ns = result.summary["time_share"], 8_711
    ns = {name: round(part * total_ns, 6) for name, part in share.items()}
    assert ns == {
        **dict.fromkeys(ns, 0),
        "launch": 8 * 1_000,
        "compute": 20 + 15,
        "hbm_weights": 6 * 10,
        "small_kernels": 20 + 15 + 6,
        "hbm_kv": 21,
        "lower_tier:lpddr": 62 + 6 * 82,
    }
    assert sum(ns.values()) == total_ns


def test_write_through_copies_every_token_of_the_prompt_and_each_new_page(tmp_path: Path) -> None:
    """Of 20 tokens 20,480 B go down in 81.92 ns, behind 20 of arithmetic and 20.48 of writing.

    The page born in step 5 is written under reads.
    """
    result = run(tmp_path, trace(35, 6), write="through", **BUDGET_20)
    assert steps(result) == [1_123, 1_092, *[1_093] * 6]
    assert tier(result, 1)["written_bytes"] == 35 * 1_024 + COLUMNS * PAGE_BYTES


def test_bytes_are_counted_on_their_tiers_and_links(tmp_path: Path) -> None:
    result = run(tmp_path, trace(35, 6), **BUDGET_20)
    pages = 6 * 8  # read in place: 8 in each of 6 steps
    assert tier(result, 1)["read_bytes"] == pages * PAGE_BYTES
    assert tier(result, 1)["written_bytes"] == 15 * 1_024
    # 8 steps of weights, the prompts' contexts, 8 hits a step, 4 more where a page is born, and
    # what is copied down
    hbm = 8 * 10_000 + 55 * 1_024 + (6 * 8 + 4) * PAGE_BYTES + 15 * 1_024
    assert tier(result, 0)["read_bytes"] == hbm
    assert tier(result, 0)["written_bytes"] == 41 * 1_024
    (link,) = result.summary["links"]
    assert link["name"] == "lpddr-hbm"
    assert (link["forward_bytes"], link["reverse_bytes"]) == (pages * PAGE_BYTES, 15 * 1_024)
    assert result.summary["placement"]["hit_ratio"] == (6 * 8 + 4) / (5 * 16 + 20)
    assert tier(result, 0)["peak_bytes"] == 8 * PAGE_BYTES
    assert tier(result, 1)["peak_bytes"] == 8 * PAGE_BYTES


def test_prefill_reads_in_place_what_it_wrote_down_before(tmp_path: Path) -> None:
    """The last chunk, tokens 30 to 34, attends to page 2 below: 10,240 B in 40.96 ns."""
    result = run(tmp_path, trace(35, 1), engine={"token_budget": 10})
    assert tier(result, 1)["read_bytes"] == 10_240 + 8 * PAGE_BYTES
    # 10 weights and 5.12 of writing; then 40.96 below, beside (35 - 10) · 1.024 = 25.6 in HBM
    assert steps(result)[3] == 1_057


def test_where_all_pages_fit_prefill_takes_the_dense_time(tmp_path: Path) -> None:
    cost = replace(ROUND, flops_per_pair=3e4, flops_per_sampled_token=5e6, experts=8,
                   experts_per_token=2, expert_bytes=700.0, comm_fixed_ns=70.0,
                   comm_ns_per_token=2.0)  # fmt: skip
    result = run(tmp_path, trace(95, 2), cost=cost, hbm_pages=1_000, engine={"token_budget": 40})
    for took, (first, end) in zip(steps(result), ((0, 40), (40, 80), (80, 95)), strict=False):
        expected = step_time_ns(cost, chunk(end - first, first, sampled=int(end == 95)))
        assert took == int(np.ceil(expected - 1e-6))


def test_arithmetic_follows_from_the_pages_that_are_read(tmp_path: Path) -> None:
    """A page of one column is 10 tokens of 4e7 / 4 FLOPs, 100 ns; 16 are read, in 81.92 ns.

    Before them come 10 of weights and 1.024 of writing.
    """
    cost = replace(ROUND, flops_per_pair=4e7)
    result = run(tmp_path, trace(35, 1), cost=cost)
    assert steps(result)[-1] == 1_000 + 16 * 100 + 12
    assert result.steps.to_pylist()[-1]["bound"] == "compute"


def test_tiers_add_up_by_the_machines_exponent(tmp_path: Path) -> None:
    result = run(tmp_path, trace(35, 1), cost=replace(ROUND, attend_exponent=2.0))
    attention_ns = np.hypot(8 * 2.56, 8 * 10.24)  # and nothing else is added that way
    assert steps(result)[-1] == 1_000 + int(np.ceil(10 + 1.024 + attention_ns))


def test_a_batch_prefills_in_order_and_then_decodes_in_lockstep(tmp_path: Path) -> None:
    """Both prompts share the second step: 10 of 30 tokens, then all 15 of the other."""
    result = run(tmp_path, trace(30, 4), trace(15, 6, seed=1), hbm_pages=100, **BUDGET_20)
    rows = result.steps.to_pylist()
    assert [row["prefill_tokens"] for row in rows] == [20, 20, 5, *[0] * 4]
    assert [row["decode_tokens"] for row in rows] == [0, 0, 0, *[2] * 4]
    assert [row["requests"] for row in rows] == [1, 2, 2, *[2] * 4]
    first, second = result.requests.to_pylist()
    assert first["first_token_ns"] == rows[1]["end_ns"]
    assert second["admitted_ns"] == rows[1]["start_ns"]
    assert second["first_token_ns"] == rows[2]["end_ns"]
    assert first["last_token_ns"] == second["last_token_ns"] == rows[-1]["end_ns"]
    # the first request's second token waited for the second one's prompt
    waited = (rows[3]["end_ns"] - rows[1]["end_ns"]) / 1e6
    assert result.summary["itl_ms"]["p99"] == waited
    assert result.summary["requests"]["completed"] == 2


@pytest.mark.parametrize("seed", range(30))
def test_chunks_cover_every_prompt_once_within_the_budget(seed: int) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    prompts = draw.integers(1, 60, draw.integers(1, 6))
    budget = int(draw.integers(1, 80))
    for chunked in (True, False):
        parts = chunks(prompts, budget, chunked)
        tokens = [
            (r, t)
            for r, a, b in zip(parts.request, parts.first, parts.end, strict=True)
            for t in range(a, b)
        ]
        assert tokens == [(r, t) for r, count in enumerate(prompts) for t in range(count)]
        used = parts.per_step(parts.tokens)
        assert (used[:-1] >= min(budget, used[:-1].min(initial=budget))).all()
        if chunked:
            assert (used[:-1] == budget).all()
            assert used[-1] <= budget
        else:
            assert (parts.first == 0).all()


@pytest.mark.parametrize("write", ["back", "through"])
@pytest.mark.parametrize("placement", ["static", "lru", "ewma-reads-balanced", "belady"])
def test_the_log_of_operations_agrees_with_tiers_and_links(
    tmp_path: Path, write: str, placement: str
) -> None:
    settings: dict[str, Any] = {
        "placement": placement,
        "write": write,
        "hbm_pages": 14,
        "workload": {"selection": {"sparsity": 0.5}},
        "engine": {"token_budget": 1_000},
    }
    traces = trace(43, 40), trace(61, 30, seed=2)
    result = run(tmp_path, *traces, output={"operations": "all"}, **settings)
    assert result.operations is not None
    log = result.operations.to_pylist()

    def total(kind: str, source: str, what: str) -> int:
        rows = [r for r in log if r["kind"] == kind and r["source_tier"] == source]
        return sum(r["bytes"] if what == "bytes" else len(r["pages"]) for r in rows)

    (link,) = result.summary["links"]
    up = total("copy", "lpddr", "bytes") + total("attend", "lpddr", "bytes")
    assert link["forward_bytes"] == up  # one chunk of prefill reads nothing below
    assert link["reverse_bytes"] == total("copy", "hbm", "bytes")
    hits, misses = total("attend", "hbm", "pages"), total("attend", "lpddr", "pages")
    assert result.summary["placement"]["hit_ratio"] == hits / (hits + misses)
    ends = {row["step"]: row["end_ns"] for row in result.steps.to_pylist()}
    assert all(row["end_ns"] == ends[row["step"]] for row in log)
    transfers = run(tmp_path, *traces, output={"operations": "transfers"}, **settings).operations
    assert transfers is not None
    assert {row["kind"] for row in transfers.to_pylist()} == {"copy"}
    assert sum(row["bytes"] for row in transfers.to_pylist()) == sum(
        row["bytes"] for row in log if row["kind"] == "copy"
    )
