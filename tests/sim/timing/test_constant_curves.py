"""Times of kernels from a server's rates alone, against arithmetic by hand."""

import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.timing.step_cost import StepCost, expert_read_bytes, step_cost
from vsim.sim.timing.step_time import chunk, decodes, step_time_ns

# Llama-3.1-8B: 32 layers of 218,103,808 weights and two norms of 4,096; an LM head of 128,256 by
# 4,096 behind a norm; all of 2 bytes. KV: 2 · 8 heads · 128 · 2 bytes in 32 layers.
LAYERS = 2 * 32 * (218_103_808 + 2 * 4_096)
HEAD = 2 * (128_256 * 4_096 + 4_096)
KV = 131_072
# 2 FLOPs a weight of a product and token; 4 a pair, head (32), dimension (128) and layer
TOKEN_FLOPS = 2 * 32 * 218_103_808
HEAD_FLOPS = 2 * 128_256 * 4_096
PAIR_FLOPS = 4 * 32 * 128 * 32
# H100: 0.84 of 3.35 TB/s, 0.6 of 989 TFLOP/s
BYTES_PER_S, FLOPS_PER_S = 0.84 * 3.35e12, 0.6 * 989e12
LAUNCH_NS = 500_000


@pytest.fixture(scope="module")
def h100() -> StepCost:
    return step_cost(load_machine("h100"), load_model("llama-3.1-8b"))


def read_ns(count: float) -> float:
    return count / BYTES_PER_S * 1e9


def flops_ns(count: float) -> float:
    return count / FLOPS_PER_S * 1e9


def test_a_decode_of_one_request_on_an_h100_by_hand(h100: StepCost) -> None:
    """Bytes everywhere.

    Products: 13.96 GB of weights take 4,960,614 ns, their 13.96 GFLOP 23,523. LM head: 1.0507 GB
    take 373,376 ns, its FLOPs 1,771. KV written: 47 ns. Attention over 1,000 tokens: 46,579 ns of
    reading, 884 of FLOPs. With 500,000 of launch, 5,880,616 ns.
    """
    parts = [read_ns(LAYERS), read_ns(HEAD), read_ns(KV), read_ns(1_000 * KV)]
    assert [round(part) for part in parts] == [4_960_614, 373_376, 47, 46_579]
    assert round(flops_ns(TOKEN_FLOPS)) == 23_523
    curves = h100.curves
    found = [curves.products.at(1), curves.head.at(1), curves.small.at(1), curves.decode.at(1, 1e3)]
    assert found == pytest.approx(parts, rel=1e-12)
    assert curves.arithmetic.at(1) == 0
    time = step_time_ns(h100, decodes(1, 1_000))
    assert time == pytest.approx(LAUNCH_NS + sum(parts), rel=1e-12)
    assert round(time) == 5_880_616


def test_a_decode_of_240_requests_over_36_6_gb_of_kv_on_an_h100_by_hand(h100: StepCost) -> None:
    """240 requests of 1,163 tokens: 279,120 tokens of 131,072 bytes are 36.58 GB.

    Products: FLOPs for 240 tokens take 5,645,559 ns, longer than reading the weights, 4,960,614. LM
    head: 424,944 ns of FLOPs, longer than 373,376. KV written: 11,179 ns. Attention: 13,001,001 ns
    of reading, which hides behind none of them. With 500,000 of launch, 19,582,682 ns.
    """
    seen = 240 * 1_163
    assert round(seen * KV / 1e9, 2) == 36.58
    parts = [
        flops_ns(240 * TOKEN_FLOPS), flops_ns(240 * HEAD_FLOPS), read_ns(240 * KV),
        read_ns(seen * KV),
    ]  # fmt: skip
    assert [round(part) for part in parts] == [5_645_559, 424_944, 11_179, 13_001_001]
    curves = h100.curves
    found = [
        curves.products.at(240), curves.head.at(240), curves.small.at(240),
        curves.decode.at(240, 1_163),
    ]  # fmt: skip
    assert found == pytest.approx(parts, rel=1e-12)
    assert curves.arithmetic.at(240) == curves.products.at(240)
    time = step_time_ns(h100, decodes(240, seen))
    assert time == pytest.approx(LAUNCH_NS + sum(parts), rel=1e-12)
    assert round(time) == 19_582_682


def test_a_prefill_of_2048_tokens_on_an_h100_by_hand(h100: StepCost) -> None:
    """Causal: token i sees i keys, 2,048 · 2,049 / 2 = 2,098,176 pairs, 1,024.5 a token.

    Products: FLOPs take 48,175,434 ns. LM head for one token: read in 373,376. KV written: 95,393
    ns. Attention: 1,853,806 ns of FLOPs, longer than 95,393 of reading the context. With 500,000 of
    launch, 50,998,009 ns.
    """
    pairs = 2_048 * 2_049 // 2
    parts = [
        flops_ns(2_048 * TOKEN_FLOPS), read_ns(HEAD), read_ns(2_048 * KV),
        flops_ns(pairs * PAIR_FLOPS),
    ]  # fmt: skip
    assert [round(part) for part in parts] == [48_175_434, 373_376, 95_393, 1_853_806]
    curves = h100.curves
    found = [
        curves.products.at(2_048), curves.head.at(1), curves.small.at(2_048),
        curves.prefill.at(2_048, 1_024.5),
    ]  # fmt: skip
    assert found == pytest.approx(parts, rel=1e-12)
    assert 2_048 * curves.prefill_context_ns == pytest.approx(read_ns(2_048 * KV), rel=1e-12)
    time = step_time_ns(h100, chunk(2_048))
    assert time == pytest.approx(LAUNCH_NS + sum(parts), rel=1e-12)
    assert round(time) == 50_998_009


def test_the_last_tokens_of_a_long_prompt_read_its_context_longer_than_they_compute(
    h100: StepCost,
) -> None:
    """16 tokens behind 100,000 have 1,600,136 pairs, 1,413,772 ns of FLOPs, and 100,016 tokens to
    read, 4,658,599 ns.
    """
    products, small = read_ns(LAYERS), read_ns(16 * KV)
    assert round(flops_ns(1_600_136 * PAIR_FLOPS)) == 1_413_772
    assert round(read_ns(100_016 * KV)) == 4_658_599
    attention = read_ns(100_016 * KV)
    expected = LAUNCH_NS + products + read_ns(HEAD) + small + attention
    assert step_time_ns(h100, chunk(16, 100_000)) == pytest.approx(expected, rel=1e-12)


def test_decodes_take_the_longer_of_bytes_and_flops_of_their_context() -> None:
    """DeepSeek-V3's latent on eight H200 is read by 128 heads: per token of context and layer a GPU
    reads 1,152 bytes of it, and all eight compute 128 · (2 · 576 + 2 · 512) FLOPs between them.
    """
    cost = step_cost(
        load_machine("8xh200-nvlink"), load_model("deepseek-v3"), tensor=8, weights="fp8"
    )
    assert cost.kv_read_bytes_per_token == 8 * 61 * 1_152
    assert cost.flops_per_pair == 61 * 128 * 2 * (576 + 512)
    bytes_ns = cost.kv_read_bytes_per_token / cost.hbm_read_bytes_per_s * 1e9
    pair_ns = cost.flops_per_pair / cost.flops_per_s * 1e9
    longer = max(bytes_ns, pair_ns)
    assert cost.curves.decode.at(10, 1_000) == pytest.approx(10_000 * longer, rel=1e-12)


SERVERS = {
    "two GPUs": ("2xh200-nvlink", "mixtral-8x7b", {"tensor": 2}, 512),
    "two stages": ("2xh200-nvlink", "mixtral-8x7b", {"pipeline": 2}, 1_024),
    "many small experts": ("8xh200-nvlink", "deepseek-v3", {"tensor": 8, "weights": "fp8"}, 16_384),
}


@pytest.mark.parametrize("name", SERVERS)
def test_experts_products_are_the_longer_of_touched_weights_and_flops(name: str) -> None:
    """Within a part in a thousand where lines cut the curve of touched experts, and as good as
    exactly up to 64 tokens and where FLOPs are longer, however many tokens there are.
    """
    machine, model, options, touched = SERVERS[name]
    cost = step_cost(load_machine(machine), load_model(model), **options)
    curves = cost.curves

    def weights(tokens: int) -> float:
        read = cost.weight_read_bytes - cost.head_bytes + expert_read_bytes(cost, tokens)
        return read / cost.hbm_read_bytes_per_s * 1e9

    def flops(tokens: int) -> float:
        return cost.flops_per_token * tokens / cost.flops_per_s * 1e9

    kink = next(tokens for tokens in range(1, 10**6) if flops(tokens) > weights(tokens))
    for tokens in {*range(1, 200, 3), *range(kink - 3, kink + 4), touched, 2_048, 8_192, 2**20}:
        exact = tokens <= 64 or tokens >= kink
        expected = max(weights(tokens), flops(tokens))
        assert curves.products.at(tokens) == pytest.approx(expected, rel=1e-12 if exact else 1e-3)
        arithmetic = flops(tokens) if tokens >= kink else 0.0
        assert curves.arithmetic.at(tokens) == pytest.approx(arithmetic, rel=1e-12)


def test_without_experts_products_and_head_are_exact_for_every_number_of_tokens(
    h100: StepCost,
) -> None:
    # FLOPs are longer from 211 tokens on for products and for the head alike
    curves = h100.curves
    for tokens in (*range(260), 1_000, 8_192, 2**20):
        products = max(read_ns(LAYERS), flops_ns(tokens * TOKEN_FLOPS))
        assert curves.products.at(tokens) == pytest.approx(products, rel=1e-13)
        head = max(read_ns(HEAD), flops_ns(tokens * HEAD_FLOPS))
        assert curves.head.at(tokens) == pytest.approx(head, rel=1e-13)
        arithmetic = flops_ns(tokens * TOKEN_FLOPS) if tokens >= 211 else 0.0
        assert curves.arithmetic.at(tokens) == pytest.approx(arithmetic, rel=1e-13)
