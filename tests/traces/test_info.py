"""What is said of a trace."""

import numpy as np
import pyarrow as pa
import pytest

from vsim.traces.arrow_io import conform
from vsim.traces.info import describe_requests, describe_table
from vsim.traces.requests import Requests, requests_table
from vsim.traces.schema import schema_of
from vsim.traces.synth import SynthSpec, synthesise

# From the plain replay, `lru_hits_plainly`, at 1,000, 10,000 and 100,000 blocks.
GOLDEN_COUNTS = (283_689, 177_257)
GOLDEN_HITS = [106_432, 35_999, 106_291, 106_432]


def test_figures_are_those_of_the_requests(requests: Requests) -> None:
    info = describe_requests(requests, (1, 2, 100))
    assert info.requests == 4
    assert info.span_s == 9e-6
    assert info.arrival_rate_per_s == pytest.approx(3 / 9e-6)
    assert info.arrival_cv == pytest.approx(np.std([5, 0, 8995]) / 3000)
    lengths = info.prompt_tokens
    assert (lengths.mean, lengths.p50, lengths.max) == (27.25, 24.0, 60)
    assert lengths.p99 == pytest.approx(40 + 0.97 * 20)
    assert info.sessions == 1
    assert info.follow_ups == 1
    assert info.tenants == {"ada": 2, "bob": 1}
    assert info.priorities == {-1: 1, 0: 2, 5: 1}
    assert info.think_s is not None
    assert info.think_s.max == 2e-9
    prefix = info.prefix
    assert prefix is not None
    assert (prefix.references, prefix.unique, prefix.block_tokens) == (7, 5, 16)
    assert prefix.hit_ratio == 2 / 7
    assert prefix.lru_hit_ratio == {1: 1 / 7, 2: 2 / 7, 100: 2 / 7}


def test_one_request_has_no_rate(requests: Requests) -> None:
    info = describe_requests(requests.head(1))
    assert info.arrival_rate_per_s is None
    assert info.arrival_cv is None
    assert info.think_s is None


def test_the_golden_of_a_generated_trace_stands() -> None:
    """A workload shaped like a public chat trace: bursts, long tails, prefixes shared in part."""
    spec = SynthSpec.model_validate(
        {
            "requests": 12_000,
            "seed": 2025,
            "arrivals": {"process": "gamma", "rate_per_s": 3.4, "cv": 3.0},
            "prompt_tokens": "0.5:4000,0.99:60000",
            "output_tokens": "0.5:350,0.99:1119",
            "sessions": {
                "turns_mean": 1.5, "think_s_mean": 30, "system_prompts": 20,
                "system_prompt_tokens": 1024, "zipf": 1.2, "most_tokens": 126_000,
            },
            "block_tokens": 512,
        }
    )  # fmt: skip
    info = describe_requests(synthesise(spec), (1000, 10_000, 100_000))
    assert info.prefix is not None
    assert (info.prefix.references, info.prefix.unique) == GOLDEN_COUNTS
    hits = [info.prefix.hit_ratio, *info.prefix.lru_hit_ratio.values()]
    assert [round(ratio * info.prefix.references) for ratio in hits] == GOLDEN_HITS


def test_other_kinds_show_units_nulls_and_ranges() -> None:
    row = {"time_ns": 5, "thread": 1, "stream": 0, "op": "free", "handle": 3, "bytes": 8}
    table = conform(pa.Table.from_pylist([row], schema=schema_of("allocations")), "allocations")
    facts = describe_table(table, "allocations")
    assert facts["rows"] == 1
    time = {"type": "int64", "unit": "ns", "nulls": 0, "min": 5, "max": 5}
    assert facts["columns"]["time_ns"] == time
    assert facts["columns"]["other_handle"]["nulls"] == 1
    assert facts["columns"]["op"]["max"] == "free"


def test_lists_are_summed_up_by_their_elements(requests: Requests) -> None:
    facts = describe_table(requests_table(requests), "requests")
    assert facts["columns"]["prefix_blocks"]["min"] == 100
    assert facts["columns"]["prefix_blocks"]["max"] == 104
