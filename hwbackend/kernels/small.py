"""The small kernels between products: compiled as vLLM compiles them, and its own CUDA ones.

vLLM 0.25.1 with its defaults leaves norms, rotary embedding, activation and quantisation to
PyTorch's compiler (`custom_ops: ['none']`); only the KV cache is written by a kernel of its own.
The functions here are its native ones (`vllm/ir/ops/layernorm.py`, `rotary_embedding/base.py`,
`activation.py`, `input_quant_fp8.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from vllm import _custom_ops as ops

from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import (
    EPS,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KV_HEADS,
    QKV,
    VOCABULARY,
)
from vsim.hwbackend.kernels.timing import L2_BYTES, call_us, copies

TOKENS: Final = (1, 8, 64, 256, 512, 1024, 2048, 8192)
OPTIONS: Final = {"combo_kernels": True, "benchmark_combo_kernel": True}  # as vLLM sets them
FP8: Final = torch.float8_e4m3fn
FP8_MAX: Final = 448.0
POSITIONS: Final = 40_960
BLOCK: Final = 16
Q: Final = HEADS * HEAD_DIM
KV: Final = KV_HEADS * HEAD_DIM


def add_norm(x: Any, residual: Any, weight: Any) -> tuple[Any, Any]:
    """Add the residual and normalise."""
    total = x.to(torch.float32) + residual.to(torch.float32)
    variance = total.pow(2).mean(dim=-1, keepdim=True)
    normed = total * torch.rsqrt(variance + EPS)
    return normed.to(weight.dtype) * weight, total.to(x.dtype)


def silu_mul(x: Any) -> Any:
    """Activate one half and multiply by the other."""
    half = x.shape[-1] // 2
    return torch.nn.functional.silu(x[..., :half]) * x[..., half:]


def _rotated(x: Any, cos: Any, sin: Any) -> Any:
    first, second = torch.chunk(x, 2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotary(qkv: Any, positions: Any, cos_sin: Any) -> tuple[Any, Any]:
    """Rotate queries and keys of a product's output."""
    q, k, _ = qkv.split([Q, KV, KV], dim=-1)
    cos, sin = cos_sin.index_select(0, positions).unsqueeze(-2).chunk(2, dim=-1)
    q = _rotated(q.view(-1, HEADS, HEAD_DIM), cos, sin)
    k = _rotated(k.view(-1, KV_HEADS, HEAD_DIM), cos, sin)
    return q, k


def quantised(x: Any) -> tuple[Any, Any]:
    """Quantise to fp8 with a scale a token."""
    most = x.abs().max(dim=-1)[0].unsqueeze(-1).to(torch.float32)
    scale = (most / FP8_MAX).clamp(min=1.0 / (FP8_MAX * 512.0))
    return (x.to(torch.float32) * scale.reciprocal()).clamp(-FP8_MAX, FP8_MAX).to(FP8), scale


def add_norm_quantised(x: Any, residual: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Add, normalise and quantise."""
    normed, total = add_norm(x, residual, weight)
    return (*quantised(normed), total)


def silu_mul_quantised(x: Any) -> tuple[Any, Any]:
    """Activate, multiply and quantise."""
    return quantised(silu_mul(x))


@dataclass(frozen=True, slots=True)
class Small:
    """A kernel: its name and how it is made, its bytes a token, and how a call is built."""

    name: str
    variant: str
    token_bytes: int
    build: Callable[[int], Callable[[], Any]]


def _normal(*shape: int) -> Any:
    return torch.empty(*shape, dtype=torch.bfloat16, device="cuda").normal_()


def compiled(function: Callable[..., Any], *operands: Any) -> Callable[..., Any]:
    """Compile for any number of tokens, as vLLM does: on a step of its largest size.

    Args:
        function: takes activations with TOKENS[-1] rows first.
        operands: an example; those with that many rows may have any other number later.
    """
    for operand in operands:
        if operand.shape[0] == TOKENS[-1]:
            torch._dynamo.mark_dynamic(operand, 0)
    made: Callable[..., Any] = torch.compile(function, options=OPTIONS)
    made(*operands)
    return made


def compiled_layer(weight: Any, cos_sin: Any) -> dict[str, Callable[..., Any]]:
    """Compile what a layer in bf16 has between its products."""
    m = TOKENS[-1]
    positions = torch.randint(0, len(cos_sin), (m,), device=weight.device)
    return {
        "add_norm": compiled(add_norm, _normal(m, HIDDEN), _normal(m, HIDDEN), weight),
        "rotary": compiled(rotary, _normal(m, QKV), positions, cos_sin),
        "silu_mul": compiled(silu_mul, _normal(m, 2 * INTERMEDIATE)),
    }


def _bound(function: Callable[..., Any], *makers: Callable[[int], Any]) -> Any:
    def build(tokens: int) -> Callable[[], Any]:
        operands = [maker(tokens) for maker in makers]
        return lambda: function(*operands)

    return build


def kernels() -> Sequence[Small]:
    """Return all small kernels."""
    weight = torch.ones(HIDDEN, dtype=torch.bfloat16, device="cuda")
    cos_sin = _normal(POSITIONS, HEAD_DIM)
    table = _normal(VOCABULARY, HIDDEN)
    cache = _normal(40_000, 2, BLOCK, KV_HEADS, HEAD_DIM)
    one = torch.ones((), dtype=torch.float32, device="cuda")

    def hidden(m: int) -> Any:
        return _normal(m, HIDDEN)

    def wide(m: int) -> Any:
        return _normal(m, 2 * INTERMEDIATE)

    def half(m: int) -> Any:
        return _normal(m, INTERMEDIATE)

    def qkv(m: int) -> Any:
        return _normal(m, QKV)

    def positions(m: int) -> Any:
        return torch.randint(0, POSITIONS, (m,), device="cuda")

    def ids(m: int) -> Any:
        return torch.randint(0, VOCABULARY, (m,), device="cuda")

    def slots(m: int) -> Any:
        return torch.randperm(len(cache) * BLOCK, device="cuda")[:m]

    def keys(m: int) -> Any:
        return _normal(m, KV_HEADS, HEAD_DIM)

    def scalar(_: int) -> Any:
        return one

    def custom_silu(x: Any) -> Any:
        torch.ops._C.silu_and_mul(x.new_empty(len(x), INTERMEDIATE), x)

    def custom_norm(x: Any, residual: Any) -> Any:
        ops.fused_add_rms_norm(x, residual, weight, EPS)

    def custom_rotary(x: Any, at: Any) -> Any:
        q, k, _ = x.split([Q, KV, KV], dim=-1)
        ops.rotary_embedding(at, q, k, HEAD_DIM, cos_sin, True)

    def write_kv(k: Any, v: Any, at: Any, scale: Any) -> Any:
        k_cache, v_cache = cache.unbind(1)
        ops.reshape_and_cache_flash(k, v, k_cache, v_cache, at, "auto", scale, scale)

    def custom_quantised(x: Any) -> Any:
        ops.scaled_fp8_quant(x, use_per_token_if_dynamic=True)

    layer = compiled_layer(weight, cos_sin)
    norm, rope, silu = (layer[name] for name in ("add_norm", "rotary", "silu_mul"))
    m = TOKENS[-1]
    norm8 = compiled(add_norm_quantised, hidden(m), hidden(m), weight)
    silu8, quant = compiled(silu_mul_quantised, wide(m)), compiled(quantised, hidden(m))
    h, i = 2 * HIDDEN, 2 * INTERMEDIATE
    return (
        Small("add_norm", "compiled", 4 * h, _bound(norm, hidden, hidden, lambda _: weight)),
        Small("add_norm", "custom", 4 * h, _bound(custom_norm, hidden, hidden)),
        Small("silu_mul", "compiled", 3 * i, _bound(silu, wide)),
        Small("silu_mul", "custom", 3 * i, _bound(custom_silu, wide)),
        Small("rotary", "compiled", 4 * (Q + KV), _bound(rope, qkv, positions, lambda _: cos_sin)),
        Small("rotary", "custom", 4 * (Q + KV), _bound(custom_rotary, qkv, positions)),
        Small("write_kv", "custom", 8 * KV, _bound(write_kv, keys, keys, slots, scalar)),
        Small("embedding", "torch", 2 * h,
              _bound(torch.nn.functional.embedding, ids, lambda _: table)),
        Small("quantise_hidden", "compiled", h + HIDDEN, _bound(quant, hidden)),
        Small("quantise_hidden", "custom", h + HIDDEN, _bound(custom_quantised, hidden)),
        Small("quantise_intermediate", "custom", i + INTERMEDIATE, _bound(custom_quantised, half)),
        Small("add_norm_quantise", "compiled", 3 * h + HIDDEN,
              _bound(norm8, hidden, hidden, lambda _: weight)),
        Small("silu_mul_quantise", "compiled", 2 * i + INTERMEDIATE, _bound(silu8, wide)),
    )  # fmt: skip


def measure_small() -> Iterator[Measured]:
    """Time all of them, with operands in the cache and not."""
    for small in kernels():
        for tokens in TOKENS:
            # one token would be compiled for itself alone; vLLM's code serves any number
            rows = max(tokens, 2) if small.variant == "compiled" else tokens
            moved = rows * small.token_bytes
            sets = copies(moved, 64)
            loads = {"warm": 1} if moved < L2_BYTES else {}
            if sets * moved > 2 * L2_BYTES:
                loads["cold"] = sets
            for variant, sets in loads.items():
                samples = call_us([small.build(rows) for _ in range(sets)])
                yield Measured(
                    "small", small.name, f"{small.variant}, {variant}", of_samples(samples),
                    len(samples), tokens=rows, bytes_moved=moved,
                )  # fmt: skip
