"""What vLLM's benchmark saves gives each request its times."""

import json
from typing import Any

import pytest
from tests.sim.fidelity.vllm.texts import BENCHMARK, benchmark

from vsim.sim.fidelity.vllm.benchmark_file import read_benchmark
from vsim.sim.fidelity.vllm.facts import BenchmarkRequest
from vsim.traces.faults import InputError


def test_requests_have_their_times_and_failed_ones_are_left_out() -> None:
    (facts,) = read_benchmark(benchmark(), "b.json")
    assert facts.benchmark is not None
    first, second = facts.benchmark.requests
    assert (first.start_s, first.first_s, first.last_s) == (10.0, 10.1, pytest.approx(10.22))
    assert (second.start_s, second.prompt_tokens, second.output_tokens) == (11.5, 200, 2)
    assert facts.benchmark.gaps_s == (0.05, 0.07, 0.1)
    assert facts.notes == ("1 requests that failed are left out",)
    assert facts.settings == {"model": "org/Model-8B"}


def test_a_latency_of_the_newest_versions_is_the_last_token_s() -> None:
    (facts,) = read_benchmark(benchmark(latencies=[0.25, 0.0, 0.31]), "b.json")
    assert facts.benchmark is not None
    assert facts.benchmark.requests[0].last_s == pytest.approx(10.25)


def test_without_start_times_all_must_have_been_sent_at_once() -> None:
    (facts,) = read_benchmark(benchmark(start_times=None, request_rate="inf"), "b.json")
    assert facts.benchmark is not None
    assert facts.benchmark.requests[0] == BenchmarkRequest(0.0, 0.1, pytest.approx(0.22), 100, 3)
    for changed in ({}, {"request_rate": "inf", "max_concurrency": 8}):
        with pytest.raises(InputError, match="has no start_times, and its requests were not all"):
            read_benchmark(benchmark(start_times=None, **changed), "b.json")


def test_a_file_that_was_appended_to_holds_a_run_a_line() -> None:
    found = read_benchmark(benchmark() + "\n" + benchmark(start_times=[1.0, 2.0, 3.0]), "b.json")
    assert len(found) == 2


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ttfts": None}, "b.json: has no ttfts; run the benchmark with --save-result --save-detailed"),
    ({"ttfts": [0.1]}, "b.json: input_lens: has 3 values, and ttfts 1; each request has one"),
    ({"itls": 3}, "b.json: itls: is no list; save the benchmark's result again"),
    ({"ttfts": [0.1, 0, -1]}, "b.json: ttfts[2]: -1 is no time in seconds"),
    ({"ttfts": [0.1, 0, "x"]}, "b.json: ttfts[2]: x is no time in seconds"),
    ({"start_times": [float("nan"), 0, 1]}, "b.json: start_times[0]: nan is no time in seconds"),
    ({"itls": [[0.05, True], [], [0.1]]}, "b.json: itls[0]: True is no time in seconds"),
    ({"itls": [4, [], [0.1]]}, "b.json: itls[0]: is no list of gaps"),
    ({"input_lens": [0, 70, 200]}, "b.json: input_lens[0]: 0 is no number of tokens"),
    ({"output_lens": [3, 0, 2.5]}, "b.json: output_lens[2]: 2.5 is no number of tokens"),
    ({"errors": ["x", "x", "x"]}, "b.json: holds no request that succeeded"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_a_wrong_value_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        read_benchmark(benchmark(**changed), "b.json")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "b.json: holds no object of a benchmark's result"),
        ("{", "b.json:1: is no JSON: Expecting property name enclosed in double quotes"),
        (json.dumps(BENCHMARK) + "\n{]", "b.json:2: is no JSON"),
        ("[" * 100_000, "b.json:1: is no JSON: a value nested or long beyond measure"),
        ("", "b.json: is empty"),
    ],
)
def test_what_is_no_result_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        read_benchmark(text, "b.json")
    assert message in str(raised.value)
