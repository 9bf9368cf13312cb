"""Kernel tables of samples: the same curves that published measurements are read into."""

from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from vsim.sim.machine.kernel_tables import Curves, curves
from vsim.sim.timing.prefix_attention import PREFIX_TOKENS, PREFIX_VARIANT
from vsim.traces.gpu_samples import GpuSamples, Point, Sampled

Shape = tuple[int, ...]


def curves_of(samples: GpuSamples) -> list[Curves]:
    """Make curves of all kernels that were measured.

    Decode attention with all pages in HBM; prompts from nothing, and what tokens before them add;
    products; experts; sums over GPUs. Times are of one layer's launch in a graph of several.
    """
    prompts = [row for row in samples.of("prefill_attention") if row.point["prefix"] == 0]
    made = [
        _curves("decode_attention", "full", samples.of("decode_attention"),
                _heads, lambda at: at["batch"], lambda at: at["context"]),
        _curves("prefill_attention", "full", prompts,
                _heads, lambda at: at["prompts"], lambda at: at["tokens"]),
        _prefixes(samples.of("prefill_attention")),
        _curves("products", "", samples.of("products"),
                lambda at: (at["n"], at["k"]), lambda at: at["m"], lambda _: 0),
        _curves("experts", "balanced", samples.of("experts"), _experts,
                lambda at: at["tokens"], lambda _: 0),
        _curves("all_reduce", "nccl", samples.of("all_reduce"), lambda at: (at["gpus"],),
                lambda at: at["bytes"], lambda _: 0),
    ]  # fmt: skip
    return [each for each in made if each is not None]


def _prefixes(rows: Sequence[Sampled]) -> Curves | None:
    """What a prefix adds to a chunk, for 1,024 of its tokens; the median over prefixes measured."""
    alone = {
        (_heads(row.point), row.point["tokens"]): row.median
        for row in rows if not row.point["prefix"] and row.point["prompts"] == 1
    }  # fmt: skip
    added: dict[tuple[Shape, int], list[float]] = {}
    for row in rows:
        at = _heads(row.point), row.point["tokens"]
        if row.point["prefix"] and row.point["prompts"] == 1 and at in alone:
            us = (row.median - alone[at]) * PREFIX_TOKENS / row.point["prefix"]
            added.setdefault(at, []).append(us)
    slopes = {at: median(found) for at, found in added.items() if median(found) > 0}
    if not slopes:
        return None
    shapes = sorted({shape for shape, _ in slopes})
    tokens = sorted({new for _, new in slopes})
    log_ns = np.full((len(shapes), len(tokens), 1), np.nan)
    for (shape, new), us in slopes.items():
        log_ns[shapes.index(shape), tokens.index(new), 0] = np.log(us * 1e3)
    first, second = np.array(tokens, np.float64), np.array([PREFIX_TOKENS], np.float64)
    known = np.array(shapes, dtype=np.int64)
    return curves("prefill_attention", "bf16", PREFIX_VARIANT, known, first, second, log_ns)


def _curves(
    kernel: str,
    variant: str,
    rows: Sequence[Sampled],
    shape: Callable[[Point], Shape],
    first: Callable[[Point], int],
    second: Callable[[Point], int],
) -> Curves | None:
    if not rows:
        return None
    shapes = sorted({shape(row.point) for row in rows})
    one = sorted({first(row.point) for row in rows})
    other = sorted({second(row.point) for row in rows})
    log_ns = np.full((len(shapes), len(one), len(other)), np.nan)
    for row in rows:
        at = shapes.index(shape(row.point)), one.index(first(row.point))
        log_ns[*at, other.index(second(row.point))] = np.log(row.median * 1e3)
    known = np.array(shapes, dtype=np.int64)
    along, across = (np.array(axis, dtype=np.float64) for axis in (one, other))
    return curves(kernel, "bf16", variant, known, along, across, log_ns)


def _heads(at: Point) -> Shape:
    return at["heads"], at["kv_heads"], at["head_dim"], 0


def _experts(at: Point) -> Shape:
    return at["hidden"], at["intermediate"], at["per_token"], at["experts"], 1, 1
