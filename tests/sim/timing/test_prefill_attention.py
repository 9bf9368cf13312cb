from dataclasses import replace

import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.prefill_attention import (
    causal_pairs,
    prefill_attention_bound,
    prefill_attention_ns,
)
from vsim.sim.timing.roofline import Peaks

FLOOR = 9000.0
PROMPTS, TOKENS = [1, 4, 16], [16, 256, 1024, 4096]
SHAPE = HeadShape(32, 8, 128)
COMPUTE = replace(PEAKS, bytes_per_s=1e14)  # so that arithmetic binds from few tokens on


def of_efficiency(
    share_of: dict[int, float], variant: str = "full", window: int = 0, peaks: Peaks = PEAKS
) -> Curves:
    """One head shape whose efficiency depends on the prompt's tokens alone.

    One more shape, far from it, takes the floor.
    """
    prompts, tokens = np.array(PROMPTS)[:, None], np.array(TOKENS)[None, :]
    pairs = prompts * causal_pairs(tokens, window)
    shape = SHAPE._replace(window=window)
    bound = prefill_attention_bound(peaks, "bf16", prompts * tokens, pairs, shape)
    shares = np.array([share_of[each] for each in TOKENS])
    far = np.full((len(PROMPTS), len(TOKENS)), np.nan)
    far[0, 0] = FLOOR
    other = 1 << 40 if variant == "window" else 0
    return made(
        "prefill_attention", [shape[:4], [1, 1, 1 << 20, other]], PROMPTS, TOKENS,
        np.stack([(bound.ns + FLOOR) / shares, far]), variant=variant,
    )  # fmt: skip


VARIED = {16: 0.9, 256: 0.6, 1024: 0.5, 4096: 0.7}


def test_a_prompt_s_pairs_are_counted_token_by_token() -> None:
    for window in (0, 1, 5, 9, 100):
        for length in (1, 4, 9, 30):
            counted = sum(min(token, window or token) for token in range(1, length + 1))
            assert causal_pairs(length, window) == counted


def test_a_prompt_computes_its_pairs_and_reads_keys_and_values_once() -> None:
    bound = prefill_attention_bound(PEAKS, "bf16", 1000, causal_pairs(1000), SHAPE)
    assert bound.flops_ns == pytest.approx(4 * 32 * 128 * 1000 * 1001 / 2 / 1e6)
    # 32 heads of queries and outputs, 8 of keys and values, 2 bytes each.
    assert bound.bytes_ns == pytest.approx(1000 * 128 * 2 * (2 * 32 + 2 * 8) / 1000)


def test_a_chunk_reads_the_keys_before_it_too() -> None:
    bound = prefill_attention_bound(PEAKS, "bf16", 100, 100 * 5000 + 100 * 101 / 2, SHAPE)
    keys = 5000 + 101 / 2 + 100 / 2
    assert bound.bytes_ns == pytest.approx(128 * 2 * (100 * 2 * 32 + keys * 2 * 8) / 1000)


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_measured_prompts_get_their_own_times_by_their_totals(prompts: int, tokens: int) -> None:
    curves = of_efficiency(VARIED)
    time = prefill_attention_ns(
        tables(curves), PEAKS, "bf16", prompts * tokens, prompts * causal_pairs(tokens), SHAPE
    )
    at = PROMPTS.index(prompts), TOKENS.index(tokens)
    assert time == pytest.approx(np.exp(curves.log_ns[0][at]))


def test_measured_windowed_prompts_get_their_own_times_by_their_totals() -> None:
    curves = of_efficiency(VARIED, "window", 128)
    prompts, tokens = np.array(PROMPTS)[:, None], np.array(TOKENS)[None, :]
    pairs = prompts * causal_pairs(tokens, 128)
    times = prefill_attention_ns(
        tables(curves), PEAKS, "bf16", prompts * tokens, pairs, SHAPE._replace(window=128)
    )
    assert times == pytest.approx(np.exp(curves.log_ns[0]), rel=1e-6)


def test_a_chunk_takes_its_share_of_a_prompt_of_the_same_mean_keys_beyond_the_least() -> None:
    curves = tables(of_efficiency(VARIED, peaks=COMPUTE))
    prefix, tokens = 512, 1024
    pairs = tokens * prefix + causal_pairs(tokens)
    length = 2 * pairs / tokens - 1
    whole_pairs = length * (length + 1) / 2
    whole = prefill_attention_ns(curves, COMPUTE, "bf16", length, whole_pairs, SHAPE)
    chunk = prefill_attention_ns(curves, COMPUTE, "bf16", tokens, pairs, SHAPE)
    least = np.exp(curves.curves["prefill_attention", "bf16", "full"].log_ns[0, 0, 0])
    assert chunk == pytest.approx(least + (whole - least) * pairs / whole_pairs)


def test_time_is_continuous_where_a_prompt_becomes_a_chunk() -> None:
    curves = tables(of_efficiency(VARIED))
    pairs = causal_pairs(2000) * np.array([1 - 1e-9, 1 + 1e-9])
    below, above = prefill_attention_ns(curves, PEAKS, "bf16", 2000, pairs, SHAPE)
    assert above == pytest.approx(below, rel=1e-6)


def test_a_chunk_takes_longer_the_more_is_before_it() -> None:
    curves = tables(of_efficiency(dict.fromkeys(TOKENS, 0.6), peaks=COMPUTE))
    prefix = np.concatenate([[0], np.geomspace(1, 1e6, 80)])
    for tokens in (1, 40, 300, 5000):
        pairs = tokens * prefix + causal_pairs(tokens)
        times = prefill_attention_ns(curves, COMPUTE, "bf16", tokens, pairs, SHAPE)
        assert (np.diff(times) >= -1e-9 * times[1:]).all()
        assert times[-1] > 10 * times[0]


def test_a_few_tokens_compute_a_whole_tile_and_read_all_keys() -> None:
    curves = tables(of_efficiency(dict.fromkeys(TOKENS, 0.5)))
    bound = prefill_attention_bound(PEAKS, "bf16", 1, 100_000, SHAPE)
    time = float(prefill_attention_ns(curves, PEAKS, "bf16", 1, 100_000, SHAPE))
    # 4 heads share a KV head, so that 32 tokens fill a tile of 128 rows.
    busy = max(32 * float(bound.flops_ns) / 0.5, float(bound.bytes_ns) / 0.8)
    assert time == pytest.approx(FLOOR / 0.5 + busy, rel=0.01)


def test_no_tokens_take_no_time_and_arrays_keep_their_shape() -> None:
    curves = tables(of_efficiency(VARIED))
    times = prefill_attention_ns(curves, PEAKS, "bf16", [[0, 10]], [[0, 55]], SHAPE)
    assert times.shape == (1, 2)
    assert times[0, 0] == 0 < times[0, 1]
