"""How well tables serve shapes that they do not hold: whole shapes left out and predicted.

Shapes are dealt to ten folds by a seeded draw; the shapes of a fold are predicted, at every point
that was measured of them, by tables made of all others, thinned as a file's are. What counts as a
shape: (n, k) of products, heads with KV heads and head size of attention (all windows of it), and
the model's sizes of experts (all splits of it). The error is |predicted / measured - 1|; measured
times that a cache made are raised before (`from_cache`), and no others left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.calibration.compact import compact
from vsim.sim.machine.kernel_tables import Curves, KernelTables, kernel_tables
from vsim.sim.timing.decode_attention import decode_attention_ns
from vsim.sim.timing.experts import ExpertShape, experts_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.latent_attention import (
    absorbed_heads,
    latent_decode_surface,
    latent_prefill_surface,
    latent_product_ns,
    unabsorbed_heads,
)
from vsim.sim.timing.prefill_attention import causal_pairs, prefill_attention_ns
from vsim.sim.timing.products import product_ns
from vsim.sim.timing.roofline import Floats, Peaks

FOLDS = 10
_SEED = 20261126
_IDENTITY = {
    "products": 2,
    "decode_attention": 3,
    "prefill_attention": 3,
    "experts": 4,
    "decode_latents": 3,
    "prefill_latents": 3,
    "latent_products": 3,
}
"""How many of a shape's numbers, from the first, make it another shape."""


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of one kernel in one precision and variant, as shares.

    Args:
        kernel: which.
        precision: of the weights; of attention, of the KV.
        variant: in which way.
        rows: times measured.
        shapes: shapes measured.
        held_out: median and 95 % quantile where the shape is left out.
        as_shipped: the same with the tables as they are written.
    """

    kernel: str
    precision: str
    variant: str
    rows: int
    shapes: int
    held_out: tuple[float, float]
    as_shipped: tuple[float, float]


def scored(
    peaks: Peaks, measured: Sequence[Curves], progress: Callable[[str], None] | None = None
) -> Iterator[Score]:
    """Score every kernel that shapes can be left out of, one after the other."""
    for each in measured:
        if each.kernel not in _IDENTITY:
            continue
        if progress is not None:
            progress(f"{each.kernel} {each.precision} {each.variant}".strip())
        whole = kernel_tables("held out", {}, [compact(each)])
        shipped = _errors(whole, peaks, each, np.arange(len(each.shapes)))
        if len(_identities(each)[0]) < 2:
            continue
        left = np.concatenate(
            [
                _errors(kernel_tables("held out", {}, [compact(others)]), peaks, each, rows)
                for others, rows in _folds(each)
            ]
        )
        yield Score(*each.key, each.rows, len(each.shapes), _quantiles(left), _quantiles(shipped))


def _folds(each: Curves) -> Iterator[tuple[Curves, NDArray[np.int64]]]:
    """The shapes of all other folds, and the rows of this one's."""
    identities, of_row = _identities(each)
    draw = np.random.Generator(np.random.PCG64(_SEED)).permutation(len(identities))
    folds = min(FOLDS, len(identities))
    for fold in range(folds):
        inside = (draw % folds == fold)[of_row]
        yield each.of_shapes(~inside), np.flatnonzero(inside)


def _identities(each: Curves) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shape = each.shapes[:, : _IDENTITY[each.kernel]]
    identities, of_row = np.unique(shape, axis=0, return_inverse=True)
    return identities, of_row.ravel()


def _errors(tables: KernelTables, peaks: Peaks, each: Curves, rows: NDArray[np.int64]) -> Floats:
    errors = []
    for row in rows:
        a, b = np.nonzero(~np.isnan(each.log_ns[row]))
        predicted = _predicted(
            tables, peaks, each, each.shapes[row].tolist(), each.first[a], each.second[b]
        )
        errors.append(np.abs(predicted / np.exp(each.log_ns[row][a, b]) - 1))
    return np.concatenate(errors)


def _predicted(
    tables: KernelTables,
    peaks: Peaks,
    each: Curves,
    shape: list[int],
    first: Floats,
    second: Floats,
) -> Floats:
    if each.kernel == "products":
        n, k = shape
        return product_ns(tables, peaks, each.precision, first, n, k)
    if each.kernel == "experts":
        experts = ExpertShape(*shape)
        return experts_ns(tables, peaks, each.precision, first, experts, each.variant)
    if each.kernel == "latent_products":
        return latent_product_ns(tables, peaks, each.precision, first, *shape)
    if each.kernel == "decode_latents":
        absorbed = absorbed_heads(*shape)
        decodes = latent_decode_surface(tables, peaks, each.precision, absorbed)
        asked = tables, peaks, each.precision, first, second, absorbed
        return decode_attention_ns(*asked, decodes)
    if each.kernel == "prefill_latents":
        own = unabsorbed_heads(*shape)
        prompts = latent_prefill_surface(tables, peaks, each.precision, own)
        pairs = first * causal_pairs(second)
        asked = tables, peaks, each.precision, first * second, pairs, own
        return prefill_attention_ns(*asked, prompts)
    heads = HeadShape(*shape)
    if each.kernel == "decode_attention":
        return decode_attention_ns(tables, peaks, each.precision, first, second, heads)
    pairs = first * causal_pairs(second, heads.window)
    return prefill_attention_ns(tables, peaks, each.precision, first * second, pairs, heads)


def _quantiles(errors: Floats) -> tuple[float, float]:
    median, high = np.quantile(errors, [0.5, 0.95]).tolist()
    return median, high
