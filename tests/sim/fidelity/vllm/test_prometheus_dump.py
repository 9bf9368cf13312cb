"""What `/metrics` of a vLLM server says: sums over labels, and differences of two dumps."""

import pytest
from tests.sim.fidelity.vllm.texts import METRICS

from vsim.sim.fidelity.vllm.prometheus_dump import between, is_metrics, read_metrics
from vsim.traces.faults import InputError


def test_a_dump_says_settings_and_sums() -> None:
    facts = read_metrics(METRICS.splitlines(), "m.txt")
    assert facts.settings == {
        "block_size": 16, "num_gpu_blocks": 3000, "gpu_memory_utilization": 0.92,
        "kv_cache_dtype": "auto", "enable_prefix_caching": True, "model": "org/Model-8B",
    }  # fmt: skip
    assert facts.counters == {
        "preemptions": 3, "prompt_tokens": 300, "generation_tokens": 5, "requests": 2,
        "gpu_prefix_queries_tokens": 300, "gpu_prefix_hits_tokens": 120,
        "external_prefix_queries_tokens": 180, "external_prefix_hits_tokens": 30, "steps": 6,
        "ttft_count": 2, "ttft_sum_s": 0.3, "itl_count": 3, "itl_sum_s": 0.22,
        "e2e_count": 2, "e2e_sum_s": 0.52,
    }  # fmt: skip


def test_names_of_older_versions_are_known() -> None:
    older = METRICS.replace("vllm:prefix_cache", "vllm:gpu_prefix_cache").replace(
        "vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"
    )
    facts = read_metrics(older.splitlines(), "m.txt")
    assert facts.counters["gpu_prefix_hits_tokens"] == 120
    assert facts.counters["itl_count"] == 3
    both = read_metrics((METRICS + older).splitlines(), "m.txt")
    assert both.counters["gpu_prefix_hits_tokens"] == 120  # not once more


def test_engines_are_added_up() -> None:
    second = METRICS.replace('engine="0"', 'engine="1"')
    facts = read_metrics((METRICS + second).splitlines(), "m.txt")
    assert facts.counters["preemptions"] == 6


def test_of_two_dumps_the_difference_counts() -> None:
    first = read_metrics(METRICS.splitlines(), "before.txt")
    later = METRICS.replace("} 300.0", "} 1300.0")
    second = read_metrics(later.splitlines(), "after.txt")
    changed = between(first, second)
    assert changed.counters["prompt_tokens"] == 1000
    assert changed.counters["preemptions"] == 0
    with pytest.raises(InputError) as raised:
        between(second, first)
    assert "before.txt: has less prompt_tokens than after.txt" in str(raised.value)


def test_wrong_samples_are_named_by_line() -> None:
    with pytest.raises(InputError) as raised:
        read_metrics(["vllm:prompt_tokens_total x", "other junk", "vllm:a{"], "m.txt")
    assert [str(fault)[:8] for fault in raised.value.faults] == ["m.txt:1:", "m.txt:3:"]
    with pytest.raises(InputError, match="holds no metric of vLLM"):
        read_metrics(["vllm:something_else 1.0"], "m.txt")


def test_metrics_are_known_by_how_they_start() -> None:
    assert is_metrics(METRICS)
    assert is_metrics("# HELP python_gc x\npython_gc 1\n# TYPE vllm:a gauge\n")
    assert not is_metrics("INFO vllm: it runs")
