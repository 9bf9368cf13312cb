"""Chunks behind prefixes by what calibrations measured of them."""

from pathlib import Path

import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.loading import load_machine
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.prefill_attention import (
    causal_pairs,
    prefill_attention_ns,
)
from vsim.sim.timing.prefix_attention import prefix_attention_surface
from vsim.traces.gpu_samples import GpuSamples

RECORDED = Path(__file__).parents[3] / "traces/recorded/gpu"
SHAPE = HeadShape(32, 8, 128)
OURS: Stack = "vsim"


def chunk_ns(tokens: float, prefix: float, shape: HeadShape = SHAPE) -> float:
    """By tables in which N tokens alone take 9 us and 10 ns each, and 1,024 before them 30 us, 60
    from 256 tokens on."""
    alone = [9_000 + 10 * n for n in (128, 256)]
    added = [[30_000], [60_000]]
    both = tables(
        made("prefill_attention", [shape[:4]], [1], [128, 256], np.array([[alone]]),
             variant="full"),
        made("prefill_attention", [SHAPE[:4]], [128, 256], [1024], np.array([added]),
             variant="prefix"),
    )  # fmt: skip
    behind = prefix_attention_surface(both, PEAKS, "bf16", shape)
    pairs = tokens * prefix + causal_pairs(tokens)
    return float(prefill_attention_ns(both, PEAKS, "bf16", tokens, pairs, shape, behind=behind))


@pytest.mark.parametrize("prefix", [128, 1024, 5000, 100_000])
@pytest.mark.parametrize(
    ("tokens", "alone", "added"), [(128, 10_280, 30_000), (256, 11_560, 60_000)]
)
def test_every_token_before_a_chunk_adds_as_much(
    tokens: int, alone: float, added: float, prefix: int
) -> None:
    assert chunk_ns(tokens, prefix) == pytest.approx(alone + added * prefix / 1024, rel=1e-3)


def test_between_new_tokens_what_is_added_lies_between_and_below_the_least_it_stays() -> None:
    alone, far = chunk_ns(180, 10), chunk_ns(180, 102_410)
    assert 30_000 * 100 < far - alone < 60_000 * 100
    fewer = chunk_ns(16, 102_410) - chunk_ns(16, 10)
    assert 0.85 * 30_000 * 100 < fewer <= 30_000 * 100 * 1.001


def test_prompts_from_nothing_know_no_prefix() -> None:
    assert chunk_ns(128, 0) == pytest.approx(10_280, rel=1e-3)


def test_windows_and_tables_without_prefixes_have_no_surface() -> None:
    alone = tables(
        made("prefill_attention", [SHAPE[:4]], [1], [128], np.array([[[9e3]]]), variant="full")
    )
    assert prefix_attention_surface(alone, PEAKS, "bf16", SHAPE) is None
    both = tables(
        made("prefill_attention", [SHAPE[:4]], [128], [1024], np.array([[[3e4]]]),
             variant="prefix"),
    )  # fmt: skip
    assert prefix_attention_surface(both, PEAKS, "bf16", SHAPE._replace(window=512)) is None
    assert prefix_attention_surface(both, PEAKS, "bf16", SHAPE) is not None


@pytest.mark.parametrize("name", ["2xh200", "h100-host"])
def test_tables_of_a_calibration_give_its_chunks_back(name: str) -> None:
    """Measured on the GPU: 2,048 to 32,768 tokens before 128 to 8,192. Times are kept in codes."""
    kernels = kernels_of(load_machine(str(RECORDED / f"{name}.yaml")), OURS)
    rows = [
        row for row in GpuSamples.read(RECORDED / f"{name}.samples.arrow").of("prefill_attention")
        if row.point["prefix"]
    ]  # fmt: skip
    errors = []
    for row in rows:
        at = row.point
        shape = HeadShape(at["heads"], at["kv_heads"], at["head_dim"])
        pairs = at["tokens"] * at["prefix"] + float(causal_pairs(at["tokens"]))
        found = float(kernels.prefill_attention_ns("bf16", at["tokens"], pairs, shape))
        errors.append(abs(found / (1e3 * row.median) - 1))
    assert len(errors) >= 48
    assert np.median(errors) < 0.01
    assert max(errors) < 0.015
