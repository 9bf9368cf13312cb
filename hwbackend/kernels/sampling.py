"""Drawing tokens at temperature 1 without limits, as both of vLLM's model runners do.

V2 (`vllm/v1/worker/gpu/sample/sampler.py`) copies logits to float32 and takes the largest after
adding Gumbel noise; V1 (`vllm/v1/sample/sampler.py`) takes the softmax and divides by exponentials.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from vllm.v1.sample.ops.topk_topp_sampler import random_sample
from vllm.v1.worker.gpu.sample.gumbel import gumbel_sample

from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import HIDDEN, VOCABULARY
from vsim.hwbackend.kernels.timing import call_us

BATCHES: Final = (1, 16, 64, 160, 512)


def _v2(logits: Any) -> Callable[[], Any]:
    count = len(logits)
    indices = torch.arange(count, dtype=torch.int32, device="cuda")
    temperature = torch.ones(1024, dtype=torch.float32, device="cuda")
    seeds = torch.randint(1 << 40, (1024,), dtype=torch.int64, device="cuda")
    positions = torch.randint(4096, (count,), dtype=torch.int64, device="cuda")

    def call() -> Any:
        copied = torch.empty_like(logits, dtype=torch.float32).copy_(logits)
        return gumbel_sample(
            copied, indices, temperature, seeds, positions, apply_temperature=False
        )

    return call


def _v1(logits: Any) -> Callable[[], Any]:
    temperature = torch.ones(len(logits), 1, dtype=torch.float32, device="cuda")

    def call() -> Any:
        scaled = logits.to(torch.float32).div_(temperature)
        return random_sample(scaled.softmax(dim=-1, dtype=torch.float32), {})

    return call


def _gather(hidden: Any, count: int) -> Callable[[], Any]:
    rows = torch.randint(len(hidden), (count,), device="cuda")
    return lambda: hidden[rows]


def measure_sampling() -> Iterator[Measured]:
    """Time both samplers, and taking the last tokens' rows of the hidden states."""
    hidden = torch.randn(8192, HIDDEN, dtype=torch.bfloat16, device="cuda")
    for count in BATCHES:
        logits = torch.randn(count, VOCABULARY, dtype=torch.bfloat16, device="cuda")
        calls = {"v2": _v2(logits), "v1": _v1(logits), "rows": _gather(hidden, count)}
        for name, call in calls.items():
            samples = call_us([call])
            yield Measured(
                "sampling", name, "torch and triton", of_samples(samples), len(samples),
                tokens=count,
            )  # fmt: skip
