"""When tokens come out: from the roofline by hand, and from a plain server, to the nanosecond."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.timing.step_cost import StepCost, step_cost
from vsim.sim.timing.step_time import chunk, step_time_ns
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .plain_server import serve, step_ns
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def run(requests: Requests, hbm_pages: int = 2_000, **engine: Any) -> EngineResult:
    """Run on the round machine, HBM alone."""
    tiers = [{"tier": "hbm", "capacity": pages(hbm_pages)}]
    cost = engine.pop("cost", COST)
    settings = PAGES_OF_10 | engine
    return run_engine(make_state(requests, tiers, round_machine(), cost=cost, **settings))


def steps(result: EngineResult) -> list[tuple[int, int, int]]:
    """Start, end and tokens of each step."""
    tokens = result.step_log.prefill_tokens + result.step_log.decode_tokens
    columns = (result.step_log.start_ns, result.step_log.end_ns, tokens)
    return list(zip(*(column.tolist() for column in columns), strict=True))


# One request alone.


def test_one_request_alone_on_round_figures() -> None:
    # launch 1,000, weights 1,000; then context read and tokens written, a ns each
    found = run(make_requests([0], [100], [3]))
    assert steps(found) == [
        (0, 1_000 + 1_000 + 100 + 100, 100),
        (2_200, 2_200 + 2_000 + 101 + 1, 1),
        (4_302, 4_302 + 2_000 + 102 + 1, 1),
    ]
    assert found.first_token_ns.tolist() == [2_200]
    assert found.last_token_ns.tolist() == [6_405]
    assert found.simulated_ns == 6_405
    booked = {name: ns for name, ns in found.time_ns.items() if ns}
    assert booked == {
        "launch": 3_000, "hbm_weights": 3_000, "hbm_kv": 100 + 101 + 102, "small_kernels": 102,
    }  # fmt: skip


def test_every_step_books_its_parts_to_the_nearest_nanosecond() -> None:
    # 700 times 1,000 ns of weights in a body of 1,001 and its context
    found = run(make_requests([0], [1], [700]))
    assert found.time_ns["hbm_weights"] == 700 * 1_000
    assert found.time_ns["small_kernels"] == 700
    assert found.time_ns["hbm_kv"] == sum(range(1, 701))


def test_a_request_of_one_output_token_is_one_step() -> None:
    found = run(make_requests([7_000], [100], [1]))
    assert steps(found) == [(7_000, 9_200, 100)]
    assert found.first_token_ns.tolist() == found.last_token_ns.tolist() == [9_200]


def test_ttft_and_tpot_of_one_request_on_an_h100_by_hand() -> None:
    cost = step_cost(load_machine("h100"), load_model("llama-3.1-8b"))
    found = run_engine(make_state(make_requests([0], [1_000], [5]), cost=cost))
    # Prefill. Products: 2 FLOPs a weight and token in 32 layers of 218,103,808 weights, at 0.6 of
    # 989 TFLOP/s: 23.5 ms, longer than reading them. LM head: read at 0.84 of 3.35 TB/s for one
    # token. KV written: 2 * 8 heads * 128 * 2 bytes in 32 layers, 131,072 bytes a token. Attention:
    # 4 FLOPs a pair, head dimension (128), head (32) and layer, longer than reading 1,000 tokens.
    flops_per_s, bytes_per_s = 0.6 * 989e12, 0.84 * 3.35e12
    head = 2 * (128_256 * 4_096 + 4_096)  # and the norm before it
    products_s = 2 * 32 * 218_103_808 * 1_000 / flops_per_s
    attention_s = 4 * 128 * 32 * 32 * 500_500 / flops_per_s
    prefill_s = products_s + (head + 1_000 * 131_072) / bytes_per_s + attention_s
    prefill_ns = 500_000 + math.ceil(prefill_s * 1e9)
    assert found.first_token_ns.tolist() == [prefill_ns]
    # Decode: all weights but the embedding, the KV of the context, one token's KV written: bytes
    # in every kernel, so their sum.
    weights = 2 * 32 * (218_103_808 + 2 * 4_096) + head
    now = prefill_ns
    for context in range(1_001, 1_005):
        read = weights + (context + 1) * 131_072
        now += 500_000 + math.ceil(read / bytes_per_s * 1e9)
    assert found.last_token_ns.tolist() == [now]
    # and by the reference function
    assert prefill_ns == math.ceil(step_time_ns(cost, chunk(1_000)))


SERVERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "MoE": ("h100", "mixtral-8x7b", {"weights": "int4"}),
    "tensor parallel": ("4xa100-nvlink", "llama-2-70b", {"tensor": 4}),
    "pipeline parallel": ("4xa100-nvlink", "llama-2-70b", {"pipeline": 4}),
    "both": ("4xa100-nvlink", "llama-2-70b", {"tensor": 2, "pipeline": 2}),
    "MLA over eight GPUs": ("8xh200-nvlink", "deepseek-v3", {"tensor": 8, "weights": "fp8"}),
    "small": ("a10", "smollm2-135m", {}),
}


@pytest.mark.parametrize("name", SERVERS)
def test_requests_on_any_server_take_what_the_reference_says(name: str) -> None:
    machine_name, model, options = SERVERS[name]
    machine = load_machine(machine_name)
    cost = step_cost(machine, load_model(model), **options)
    requests = make_requests([0, 10**7, 10**7], [700, 90, 3_000], [20, 40, 5])
    found = run_engine(make_state(requests, machine=machine, cost=cost, token_budget=512))
    expected = serve(requests, cost, budget=512)
    assert steps(found) == expected.steps
    assert found.first_token_ns.tolist() == expected.first_ns


def test_parallel_servers_pay_for_their_links() -> None:
    machine, model = load_machine("4xa100-nvlink"), load_model("llama-2-7b")
    requests = make_requests([0], [500], [3])
    times = {}
    for name, options in {"one": {}, "tensor": {"tensor": 4}, "pipeline": {"pipeline": 4}}.items():
        found = run_engine(
            make_state(requests, machine=machine, cost=step_cost(machine, model, **options))
        )
        times[name] = found.time_ns["communication"]
    # 64 all-reduces of 6 messages of 1 us, or 4 sends of 1 us, a step: beside the bytes of tokens
    assert times["one"] == 0
    link = machine.gpu_link
    assert link is not None
    activation_ns = 4_096 * 2 / link.bandwidth.value * 1e9
    latency = link.latency.value
    tensor = [64 * 6 * latency + 64 * 1.5 * activation_ns * tokens for tokens in (500, 1, 1)]
    pipeline = [4 * latency + activation_ns * tokens for tokens in (500, 1, 1)]
    assert times["tensor"] == sum(int(each) for each in tensor)
    assert times["pipeline"] == sum(int(each) for each in pipeline)


def test_touched_experts_are_read_and_untouched_ones_are_not() -> None:
    # 4 experts of 1 MB, 1 a token: one token touches 1; two touch 4 (1 - (3/4)^2) = 1.75
    cost = replace(COST, experts=4, experts_per_token=1, expert_bytes=1e6)
    found = run(make_requests([0], [1], [2]), cost=cost)
    assert steps(found)[0] == (0, 1_000 + 1_000 + 1_000 + 1 + 1, 1)
    found = run(make_requests([0], [2], [1]), cost=cost)
    assert steps(found) == [(0, 1_000 + 1_000 + 1_750 + 2 + 2, 2)]


def test_windowed_layers_read_no_further_than_their_window() -> None:
    cost = replace(COST, window_tokens=40, window_share=0.5)
    found = run(make_requests([0], [101], [3]), cost=cost)
    # the prefill reads all in full layers and all in windowed ones, as its queries cover all
    full = 2_000 + 101 + 101
    later = [2_000 + (c + 40) / 2 + 1 for c in (102, 103)]
    ends = np.cumsum([full, *(math.ceil(each) for each in later)]).tolist()
    assert found.step_log.end_ns.tolist() == ends


def test_chunked_layers_read_no_further_than_their_chunk() -> None:
    cost = replace(COST, window_tokens=40, window_share=0.5, chunked_window=True)
    found = run(make_requests([0], [118], [4]), cost=cost)
    # tokens 118 and 119 see those from 80 on, token 120 only itself
    full = 2_000 + 118 + 118
    later = [2_000 + (119 + 39) / 2 + 1, 2_000 + (120 + 40) / 2 + 1, 2_000 + (121 + 1) / 2 + 1]
    ends = np.cumsum([full, *(math.ceil(each) for each in later)]).tolist()
    assert found.step_log.end_ns.tolist() == ends


def test_states_are_read_and_written_by_each_request_of_a_step() -> None:
    # 20,000 B a request, read and written at 1 B a ps: 40 ns; 5,000 B more are only read
    cost = replace(COST, state_bytes_per_request=20_000, fixed_bytes_per_request=5_000)
    found = run(make_requests([0, 0], [10, 10], [2, 2]), cost=cost)
    assert found.step_log.body_ns.tolist() == [1_000 + 20 + 20 + 90, 1_000 + 2 + 22 + 90]
    plain = run(make_requests([0, 0], [10, 10], [2, 2]))
    assert found.tiers[0].written_bytes - plain.tiers[0].written_bytes == 2 * 2 * 20_000


# Many requests.


@settings(max_examples=examples(40), deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(0, 30_000), st.integers(1, 150), st.integers(1, 30)),
        min_size=1,
        max_size=12,
    ),
    budget=st.sampled_from([1, 7, 16, 64, 2048]),
    most=st.sampled_from([1, 2, 5, 256]),
    chunked=st.booleans(),
    window=st.sampled_from([0, 1, 30]),
    in_chunks=st.booleans(),
    state=st.sampled_from([0, 0, 12_345]),
    pair_flops=st.sampled_from([0.0, 3e5, 3e6]),
)
def test_continuous_batching_equals_a_plain_server(
    lengths: list[tuple[int, int, int]],
    budget: int,
    most: int,
    chunked: bool,
    window: int,
    in_chunks: bool,
    state: int,
    pair_flops: float,
) -> None:
    gaps, prompts, outputs = zip(*lengths, strict=True)
    cost = replace(COST, flops_per_pair=pair_flops, flops_per_sampled_token=5e7,
                   comm_ns_per_token=0.3, head_bytes=2e5, window_tokens=window,
                   window_share=0.25 if window else 0.0,
                   chunked_window=in_chunks and window > 0,
                   state_bytes_per_request=state)  # fmt: skip
    requests = make_requests(np.cumsum(gaps).tolist(), prompts, outputs)
    found = run(
        requests, cost=cost, token_budget=budget, max_running_requests=most, chunked_prefill=chunked
    )
    expected = serve(requests, cost, budget, most, chunked)
    assert steps(found) == expected.steps
    assert found.first_token_ns.tolist() == expected.first_ns
    assert found.last_token_ns.tolist() == expected.last_ns


@pytest.mark.parametrize(("prompt", "budget", "count"), [(100, 30, 4), (90, 30, 3), (1, 30, 1)])
def test_a_chunked_prefill_takes_prompt_over_budget_steps(
    prompt: int, budget: int, count: int
) -> None:
    found = run(make_requests([0], [prompt], [1]), token_budget=budget)
    assert found.counters["steps"] == count == math.ceil(prompt / budget)
    assert found.step_log.prefill_tokens.sum() == prompt
    assert found.first_token_ns[0] == found.step_log.end_ns[-1]


def test_a_decode_beside_a_chunked_prefill_takes_one_token_of_its_budget() -> None:
    found = run(make_requests([0, 1], [10, 100], [50, 1]), token_budget=30)
    assert found.step_log.prefill_tokens[1:5].tolist() == [29, 29, 29, 13]
    assert found.step_log.decode_tokens[1:6].tolist() == [1, 1, 1, 1, 1]


def test_an_unchunked_prompt_is_one_step_even_beyond_the_budget() -> None:
    found = run(make_requests([0], [100], [1]), token_budget=30, chunked_prefill=False)
    assert steps(found) == [(0, 2_200, 100)]


def test_a_saturated_servers_throughput() -> None:
    # 40 requests of 20 + 25 tokens, 8 at a time, all there from the start: 5 waves of 25 steps
    n, wave, prompt, output = 40, 8, 20, 25
    found = run(make_requests([0] * n, [prompt] * n, [output] * n), max_running_requests=wave)
    each = [2_000 + 2 * wave * prompt]
    each += [2_000 + wave * (prompt + i) + wave for i in range(1, output)]
    assert found.simulated_ns == n // wave * sum(each)
    assert found.counters["steps"] == n // wave * output
    assert found.counters["peak_running"] == wave


def test_a_server_bound_by_arithmetic_computes_its_budget_in_every_step() -> None:
    # 100 tokens of 50 ns a step, 2,000 tokens in all: 1,000 ns of launch and 5,000 of products that
    # hide 1,000 of weights; then KV of 100 tokens is written and that of two prompts of 50 read
    cost = replace(COST, flops_per_token=50e6)
    found = run(make_requests([0] * 40, [50] * 40, [1] * 40), cost=cost, token_budget=100)
    assert steps(found) == [(i * 6_200, (i + 1) * 6_200, 100) for i in range(20)]
    assert set(found.step_log.bound.tolist()) == {0}
    assert found.time_ns["compute"] == 20 * 5_000
    assert found.time_ns["hbm_weights"] == 0
    assert (found.time_ns["hbm_kv"], found.time_ns["small_kernels"]) == (2_000, 2_000)


def test_attention_of_a_prompt_takes_the_longer_of_its_pairs_and_its_context() -> None:
    # a prompt of 100 tokens has 5,050 pairs: of 0.1 ns, 505 ns beside 100 of context; then of
    # 0.01 ns, 50.5 beside 100. A decode of one token over 101 takes the longer for each key.
    for pair_flops, prefill_ns, decode_ns in ((1e5, 505, 101), (1e4, 100, 101), (3e6, 15_150, 303)):
        cost = replace(COST, flops_per_pair=pair_flops)
        found = run(make_requests([0], [100], [2]), cost=cost)
        assert found.step_log.body_ns.tolist() == [1_100 + prefill_ns, 1_001 + decode_ns]
        arithmetic = prefill_ns if prefill_ns > 100 else 0
        assert found.time_ns["compute"] == arithmetic


def test_a_step_of_prompts_and_decodes_computes_their_attention_one_after_the_other() -> None:
    # a decode over 101 tokens, 101 ns, beside a prompt of 80 whose 3,240 pairs take 324
    cost = replace(COST, flops_per_pair=1e5)
    found = run(make_requests([0, 1], [100, 80], [3, 1]), cost=cost)
    assert found.step_log.body_ns.tolist()[1] == 1_000 + 81 + 101 + 324


def test_the_lm_head_takes_the_longer_of_its_bytes_and_its_tokens_flops() -> None:
    # 400 of the 1,000 ns of weights are the head's; 300 ns of FLOPs a sampled token
    cost = replace(COST, head_bytes=4e5, flops_per_sampled_token=3e8)
    for n, head_ns in ((1, 400), (2, 600), (5, 1_500)):
        found = run(make_requests([0] * n, [10] * n, [1] * n), cost=cost)
        assert found.step_log.body_ns.tolist() == [600 + head_ns + 10 * n + 10 * n]


def test_a_static_batch_is_padded_to_its_longest_prompt_and_output() -> None:
    requests = make_requests([0, 0, 0], [100, 40, 60], [2, 4, 3])
    found = run(requests, batching="static", max_running_requests=2)
    # Two requests padded to 100 tokens; then a token each until the longer output, 4, is done. The
    # third has a batch of its own.
    first = [2_000 + 200 + 200, *(2_000 + 2 * (100 + i) + 2 for i in (1, 2, 3))]
    second = [2_000 + 60 + 60, *(2_000 + (60 + i) + 1 for i in (1, 2))]
    assert found.step_log.end_ns.tolist() == np.cumsum(first + second).tolist()
    ends = found.step_log.end_ns
    assert found.first_token_ns.tolist() == [ends[0], ends[0], ends[4]]
    assert found.last_token_ns.tolist() == [ends[1], ends[3], ends[6]]


def test_a_static_batch_waits_for_nobody_and_lets_nobody_in() -> None:
    requests = make_requests([0, 10], [100, 40], [30, 1])
    found = run(requests, batching="static")
    assert found.admitted_ns.tolist() == [0, found.last_token_ns[0]]


def test_mapped_pages_add_the_vmm_calls_that_the_table_gives() -> None:
    row = {"kind": "hbm", "chunk": 10_000, "chunks": 1, "source": "assumption", "note": "round",
           "reserve": 7, "create": 11, "map": 100, "set_access": 200, "unmap": 50,
           "release": 13}  # fmt: skip
    requests = make_requests([0, 50_000], [100, 10], [3, 1])
    results = {}
    for movement in ("paged", "mapped"):
        state = make_state(
            requests,
            [{"tier": "hbm", "capacity": pages(50)}],
            round_machine(vmm=[row]),
            cost=COST,
            movement=movement,
            **PAGES_OF_10,
        )
        results[movement] = run_engine(state)
    paged, mapped = (
        results[name].step_log.end_ns - results[name].step_log.start_ns for name in results
    )
    # ten pages of the prompt, an eleventh for the first output token; the second request's one
    # page is mapped in the step that also takes the eleven away
    assert (mapped - paged).tolist() == [10 * 300, 300, 0, 300 + 11 * 50]
    assert results["mapped"].time_ns["vmm"] == 3_000 + 300 + 300 + 550


def test_the_plain_server_agrees_with_a_hand_computed_step() -> None:
    assert step_ns(COST, [(0, 100)], 1) == 2_200
    assert step_ns(COST, [(100, 1), (50, 3)], 2) == 2_000 + 101 + 53 + 4
    assert StepCost.__dataclass_fields__.keys() >= {"launch_ns", "comm_fixed_ns"}
