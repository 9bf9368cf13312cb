"""One product of a layer at a time, at rest clocks: few calls after a pause."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import torch
from vllm import _custom_ops as ops

from vsim.hwbackend.kernels.clocks import layer_weights
from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import HIDDEN, VOCABULARY, WEIGHT_STD
from vsim.hwbackend.kernels.timing import call_us, copies

TOKENS: Final = (1, 16, 64, 160, 256, 512, 768, 1024, 2048, 8192)
HEAD_TOKENS: Final = (1, 16, 64, 160, 512)
PAUSE_S: Final = 0.02


def _bf16(name: str, tokens: int, weight: Any) -> Measured:
    n, k = weight.shape
    x = torch.empty(tokens, k, dtype=torch.bfloat16, device="cuda").normal_()
    moved = 2 * (n * k + tokens * (n + k))
    weights = [weight] + [weight.clone() for _ in range(copies(moved, 4) - 1)]
    time.sleep(PAUSE_S)
    samples = call_us([partial(torch.nn.functional.linear, x, w) for w in weights], 5)
    return Measured(
        "product", name, "bf16", of_samples(samples), len(samples), tokens=tokens, outputs=n,
        inputs=k, bytes_moved=moved,
    )  # fmt: skip


def _fp8(name: str, tokens: int, weight: Any) -> Measured:
    """Time CUTLASS's product with a scale a row, which vLLM chose for fp8 on these machines."""
    n, k = weight.shape
    quantised, scale = ops.scaled_fp8_quant(weight)
    x = torch.empty(tokens, k, dtype=torch.bfloat16, device="cuda").normal_()
    a, scales = ops.scaled_fp8_quant(x, use_per_token_if_dynamic=True)
    moved = n * k + tokens * (2 * n + k)
    weights = [quantised.t()] + [quantised.clone().t() for _ in range(copies(moved, 4) - 1)]
    time.sleep(PAUSE_S)
    samples = call_us(
        [partial(ops.cutlass_scaled_mm, a, w, scales, scale, torch.bfloat16) for w in weights],
        5,
    )
    return Measured(
        "product", name, "fp8", of_samples(samples), len(samples), tokens=tokens, outputs=n,
        inputs=k, bytes_moved=moved,
    )  # fmt: skip


def measure_products() -> Iterator[Measured]:
    """Time each product of a layer in bf16 and fp8, and the vocabulary's in bf16."""
    for name, weight in layer_weights().items():
        for tokens in TOKENS:
            yield _bf16(name, tokens, weight)
            yield _fp8(name, tokens, weight)
    head = torch.empty(VOCABULARY, HIDDEN, dtype=torch.bfloat16, device="cuda")
    head.normal_(0, WEIGHT_STD)
    for tokens in HEAD_TOKENS:
        yield _bf16("vocabulary", tokens, head)
