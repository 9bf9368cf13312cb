from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.engine.gaps import GapCounter
from vsim.sim.engine.result import (
    EngineResult,
    LinkCounters,
    StepLog,
    StepTotals,
    TierCounters,
    gaps_of,
)
from vsim.sim.results.metrics import (
    RunFacts,
    concurrency,
    distribution_ms,
    gaps_ms,
    nearest_ranks,
    summarise,
)
from vsim.sim.results.result_tables import requests_table, steps_table
from vsim.traces.requests import Requests

FACTS = RunFacts(
    scenario="two-requests",
    description="",
    seed=1,
    source="by hand",
    machine="h100",
    gpus=1,
    model="llama-3.1-8b",
    weight_precision="bf16",
    kv_precision="bf16",
    kv_bytes_per_token=131072,
    weight_bytes=16_060_522_496,
    block_tokens=16,
    page_tokens=16,
    batching="continuous",
    placement="hbm_first",
    max_running_requests=4,
    prefix_caching=True,
    tier_bytes_per_s=((1e6, 5e5), (8_000.0, 4_000.0)),
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def three_requests() -> Requests:
    """Two that run, with 3 and 2 output tokens, and one that is rejected."""
    return Requests(
        id=ints(10, 11, 12),
        arrival_ns=ints(0, 1_000_000, 2_000_000),
        prompt_tokens=ints(100, 60, 9_999),
        output_tokens=ints(3, 2, 1),
        session=ints(-1, -1, -1),
        parent=ints(-1, -1, -1),
        think_ns=ints(-1, -1, -1),
        tenant=np.zeros(3, np.int32),
        tenant_names=("",),
        priority=np.zeros(3, np.int32),
        prefix_offsets=ints(0, 0, 0, 0),
        prefix_ids=ints(),
        block_tokens=16,
        source="by hand",
    )


def by_hand() -> EngineResult:
    """Steps end at 10, 20, 40 and 60 ms.

    Request 10 gets its tokens at 10, 20 and 40 ms, request 11 at 40 and 60 ms: gaps of 10, 20 and
    20 ms. The last step's gap is listed as an exception to cover both ways of counting.
    """
    ms = 1_000_000
    log = StepLog(
        start_ns=ints(0, 10 * ms, 21 * ms, 40 * ms),
        end_ns=ints(10 * ms, 20 * ms, 40 * ms, 60 * ms),
        prefill_tokens=ints(100, 0, 20, 0),
        decode_tokens=ints(0, 1, 1, 1),
        context_tokens=ints(100, 101, 162, 61),
        requests=ints(1, 1, 2, 1),
        common=ints(0, 1, 1, 0),
        bound=ints(0, 1, 1, 2),
        body_ns=ints(9 * ms, 9 * ms, 18 * ms, 19 * ms),
        exceptions_ns=ints(20 * ms),
    )
    return EngineResult(
        arrival_ns=ints(0, ms, 2 * ms),
        admitted_ns=ints(0, 21 * ms, -1),
        first_token_ns=ints(10 * ms, 40 * ms, -1),
        last_token_ns=ints(40 * ms, 60 * ms, -1),
        hit_tokens=ints(0, 40, 0),
        hit_tokens_by_tier=np.array([[0, 0], [8, 32], [0, 0]], np.int64),
        faults=ints(0, 2, 0),
        fault_wait_ns=ints(0, 3 * ms, 0),
        preemptions=ints(1, 0, 0),
        status=ints(0, 0, 1),
        steps=StepTotals.of(log),
        gaps=gaps_of(log),
        tiers=(
            TierCounters("hbm", 100, 2_097_152, 10, 300 * ms, 5_000, 700, 8, 12, 3, 1),
            TierCounters("host", 1_000, 2_097_152, 4, 60 * ms, 64, 32, 32, 4, 0, 0),
        ),
        links=(LinkCounters("host-hbm", 64, 32, 6 * ms, 3 * ms),),
        faults_by_cause={"promotion": 2},
        wait_ns_by_cause={"promotion": 3 * ms},
        time_ns={
            "launch": 4 * ms,
            "compute": 9 * ms,
            "hbm_weights": 26 * ms,
            "hbm_kv": 1 * ms,
            "lower_tier:host": 19 * ms,
            "idle_transfers": 1 * ms,
        },
        token_ns_reserved=200,
        token_ns_used=150,
        counters={"steps": 4, "arithmetic_ns": 9_000_000},
        simulated_ns=60 * ms,
        step_log=log,
        operations=None,
    )


def log_of(engine: EngineResult) -> StepLog:
    assert engine.step_log is not None
    return engine.step_log


def test_a_summary_by_hand_holds_exactly_these_figures() -> None:
    summary = summarise(FACTS, three_requests(), by_hand(), engine_wall_s=0.5)
    assert summary["requests"] == {"submitted": 3, "completed": 2, "rejected": 1}
    assert (summary["simulated_s"], summary["last_arrival_s"]) == (0.06, 0.002)
    assert summary["engine_wall_s"] == 0.5
    assert summary["throughput"] == {
        "requests_per_s": 2 / 0.06,
        "prompt_tokens_per_s": 160 / 0.06,
        "output_tokens_per_s": 5 / 0.06,
    }
    assert summary["ttft_ms"] == {"mean": 24.5, "p50": 10.0, "p90": 39.0, "p99": 39.0}
    assert summary["tpot_ms"] == {"mean": 17.5, "p50": 15.0, "p90": 20.0, "p99": 20.0}
    assert summary["itl_ms"] == {"mean": 50 / 3, "p50": 20.0, "p90": 20.0, "p99": 20.0}
    assert summary["e2e_ms"] == {"mean": 49.5, "p50": 40.0, "p90": 59.0, "p99": 59.0}
    assert summary["admission_wait_ms"]["mean"] == 10.0
    assert summary["prefix_hit_ratio"] == 40 / 160
    assert summary["faults_per_1000_tokens"] == 1000 * 2 / 165
    assert summary["preemptions"] == 1
    # request 10 from 0 to 40 ms, request 11 from 21 to 60 ms
    assert summary["concurrent_requests"] == {"mean": 79 / 60, "peak": 2}
    assert summary["fragmentation"] == 0.25
    assert summary["compute_busy_share"] == 9 / 60


def test_tiers_and_links_are_counted_in_bytes_and_shares() -> None:
    summary = summarise(FACTS, three_requests(), by_hand(), engine_wall_s=0.5)
    hbm, host = summary["tiers"]
    assert (hbm["capacity_bytes"], hbm["peak_bytes"]) == (209_715_200, 20_971_520)
    assert (hbm["mean_bytes"], host["mean_bytes"]) == (5 * 2_097_152, 1 * 2_097_152)
    assert (hbm["hit_share"], host["hit_share"]) == (0.2, 0.8)
    assert (host["read_bytes"], host["written_bytes"]) == (64, 32)
    # 64 bytes in 60 ms, of 480; 32 of 240
    assert host["read_busy_share"] == pytest.approx(64 / 480)
    assert host["write_busy_share"] == pytest.approx(32 / 240)
    assert summary["links"] == [
        {
            "name": "host-hbm",
            "forward_bytes": 64,
            "reverse_bytes": 32,
            "forward_busy_share": 0.1,
            "reverse_busy_share": 0.05,
        }
    ]


def test_parts_of_a_mean_step_leave_idle_time_out() -> None:
    step = summarise(FACTS, three_requests(), by_hand(), engine_wall_s=0.5)["step"]
    assert step["count"] == 4
    assert step["mean_ms"] == 59 / 4
    assert "idle_transfers" not in step["parts_ms"]
    assert step["bound_share"] == {"compute": 0.25, "hbm": 0.5, "lower_tier": 0.25}


def test_tables_hold_a_row_for_each_request_and_step_with_units_and_nulls() -> None:
    table = requests_table(three_requests(), by_hand())
    assert table["id"].to_pylist() == [10, 11, 12]
    assert table["status"].to_pylist() == ["completed", "completed", "rejected"]
    assert table["first_token_ns"].to_pylist() == [10_000_000, 40_000_000, None]
    assert table["hit_tokens_host"].to_pylist() == [0, 32, 0]
    steps = steps_table(log_of(by_hand()))
    assert steps["bound"].to_pylist() == ["compute", "hbm", "hbm", "lower_tier"]
    assert steps["step"].to_pylist() == [0, 1, 2, 3]
    for field in [*table.schema, *steps.schema]:
        assert field.metadata[b"unit"], field.name
    assert steps.schema.field("start_ns").type == pa.int64()


def test_without_completed_requests_latencies_are_absent_not_zero() -> None:
    assert distribution_ms(ints()) == {"mean": None, "p50": None, "p90": None, "p99": None}
    none = GapCounter()
    none.add(ints(5), ints(0))
    assert gaps_ms(none.gaps())["mean"] is None


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (25, 1), (26, 2), (50, 2), (75, 3), (76, 4), (100, 4)]
)
def test_a_quantile_is_the_nearest_rank(percent: int, expected: int) -> None:
    assert nearest_ranks(ints(4, 2, 3, 1), [percent]) == [expected]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1, max_size=30).filter(
        lambda pairs: any(weight for _, weight in pairs)
    ),
    st.integers(1, 100),
    st.sampled_from([0, 54]),
)
def test_a_weighted_quantile_equals_that_of_the_repeated_values(
    pairs: list[tuple[int, int]], percent: int, scale: int
) -> None:
    values, weights = ints(*(v for v, _ in pairs)), ints(*(w for _, w in pairs))
    values = values << scale
    repeated = np.repeat(values, weights)
    assert nearest_ranks(values, [percent], weights) == nearest_ranks(repeated, [percent])
    counter = GapCounter()
    counter.add(values, weights)
    assert gaps_ms(counter.gaps()) == distribution_ms(repeated)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted), min_size=1, max_size=12)
)
def test_concurrency_equals_a_count_at_every_instant(spans: list[list[int]]) -> None:
    start, end = ints(*(s for s, _ in spans)), ints(*(e for _, e in spans))
    open_at = [int(((start <= t) & (t < end)).sum()) for t in range(21)]
    found = concurrency(start, end, 21)
    assert found["mean"] == pytest.approx(sum(open_at) / 21)
    assert found["peak"] == max(open_at)


def test_every_mean_is_exact_where_sums_pass_64_bits() -> None:
    """800,000 requests that wait for hours: the sum of their waits is no int64."""
    n, long = 800_000, 2**44
    ones = np.ones(n, np.int64)
    trace = replace(
        three_requests(),
        id=np.arange(n),
        arrival_ns=0 * ones,
        prompt_tokens=100 * ones,
        output_tokens=2 * ones,
        prefix_offsets=np.zeros(n + 1, np.int64),
    )
    engine = replace(
        by_hand(),
        arrival_ns=trace.arrival_ns,
        admitted_ns=long * ones,
        first_token_ns=2 * long * ones,
        last_token_ns=4 * long * ones,
        hit_tokens=0 * ones,
        hit_tokens_by_tier=np.zeros((n, 2), np.int64),
        faults=0 * ones,
        fault_wait_ns=0 * ones,
        preemptions=0 * ones,
        status=0 * ones,
        gaps=gaps_of(replace(log_of(by_hand()), exceptions_ns=2 * long * ones)),
        simulated_ns=4 * long,
    )
    assert n * long > 2**63
    found = summarise(FACTS, trace, engine, engine_wall_s=0.5)
    ms = long / 1e6
    wanted = {"admission_wait_ms": ms, "ttft_ms": 2 * ms, "tpot_ms": 2 * ms, "e2e_ms": 4 * ms}
    for name, value in wanted.items():
        assert found[name] == {"mean": value, "p50": value, "p90": value, "p99": value}, name
    # beside 800,000 long gaps the two of 10 and 20 ms that the steps have in common
    assert found["itl_ms"]["mean"] == pytest.approx(2 * ms * n / (n + 2))
    assert found["concurrent_requests"] == {"mean": n * 3 / 4, "peak": n}
