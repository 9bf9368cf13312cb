"""Attention of a chunk behind a prefix, where that was measured: what the tokens before it add.

    t(N, prefix) = t(N, 0) + prefix / 1024 · a(N)

A kernel whose blocks walk a whole context takes longer by so much a token, however few queries a
block has, and N queries make as many blocks as they fill: on two H200 a chunk of 128 tokens takes
9.5 us and 27.6, 27.7 and 27.6 ns for each of 2,048, 8,192 and 32,768 tokens before it, one of 512
the same, one of 2,048 110, one of 8,192 433 to 441 (`vsim calibrate --gpu`, 2026-11-27).

Tables hold a(N) as `prefill_attention` in the variant `prefix`: by head shape, over new tokens
(first axis), for 1,024 tokens before them (second axis). Bound: 4 · heads · head_dim · N FLOPs and
a key and a value for each of these. Tables without it have chunks as slices of prompts
(`prefill_attention`).
"""

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.head_shapes import KV_STAND_INS, NEAREST_HEADS, HeadShape, head_places
from vsim.sim.timing.roofline import Floats, Peaks, weight_bytes

PREFIX_VARIANT = "prefix"
PREFIX_TOKENS = 1024
"""Tokens before a chunk that a table's times are for."""


def prefix_attention_surface(
    tables: KernelTables, peaks: Peaks, kv_precision: str, shape: HeadShape
) -> Surface | None:
    """The efficiency of a head shape over new tokens; None where no prefix was measured.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        kv_precision: of the KV cache.
        shape: its heads on this GPU. Windows have no such tables.
    """
    stand_ins = KV_STAND_INS[kv_precision]
    try:
        curves = tables.find("prefill_attention", stand_ins, (PREFIX_VARIANT,))
    except KeyError:
        return None
    if shape.window:
        return None
    places, wanted = head_places(curves.shapes), head_places(shape.in_curves(curves))[0]
    return surface(
        curves, places, wanted,
        lambda measured, first, _: _bound_ns(
            peaks, curves.precision, first, HeadShape(*measured.tolist())
        ),
        NEAREST_HEADS,
    )  # fmt: skip


def prefix_attention_ns(
    known: Surface,
    peaks: Peaks,
    kv_precision: str,
    new_tokens: Floats,
    prefix_tokens: Floats,
    shape: HeadShape,
) -> Floats:
    """What the tokens before chunks add to one layer's attention, nanoseconds.

    Args:
        known: its `prefix_attention_surface`.
        peaks: the GPU's.
        kv_precision: of the KV cache.
        new_tokens: float64[n], of each chunk, at least 1.
        prefix_tokens: float64[n], before each.
        shape: its heads on this GPU.
    """
    each = known.time_ns(_bound_ns(peaks, kv_precision, new_tokens, shape), new_tokens)
    added: Floats = each * prefix_tokens / PREFIX_TOKENS
    return added


def _bound_ns(peaks: Peaks, kv_precision: str, new_tokens: Floats, shape: HeadShape) -> Floats:
    read = PREFIX_TOKENS * shape.cached_numbers * weight_bytes(kv_precision)
    flops = new_tokens * (PREFIX_TOKENS * shape.pair_flops)
    return peaks.bound(read + 0 * new_tokens, flops, kv_precision).ns
