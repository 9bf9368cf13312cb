"""What writing scores as bytes, and dropping the tail, does to selections made from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vsim.traces.attention import MASS, AttentionTrace
from vsim.traces.recorders.recording import QUEST, Decode
from vsim.traces.selection import Selection, TopMass, TopShare, select


@dataclass(frozen=True, slots=True)
class CodeLoss:
    """One selection, made from the codes and from the floats they stand for.

    Attributes:
        selection: what was selected, in words.
        differing: share of the pages selected from codes that floats do not select.
        reads_ratio: pages selected from codes over pages selected from floats.
    """

    selection: str
    differing: float
    reads_ratio: float


def with_floats(trace: AttentionTrace, decode: Decode) -> AttentionTrace:
    """Put the recorded floats in the place of a trace's codes."""
    scores = {}
    for name, values in decode.scores.items():
        flat = values.reshape(-1, values.shape[-1])
        exists = np.arange(flat.shape[1])[None, :] < trace.row_pages[:, None]
        scores[name] = flat[exists]
    return replace(trace, scores=scores, scales={}, facts={})


def compared_selections(trace: AttentionTrace) -> list[Selection]:
    """Choose selections at and between the thresholds that codes keep exact."""
    chosen: list[Selection] = []
    for name in (MASS, QUEST):
        kept = float(trace.facts.get(f"{name}_kept", 0))
        chosen += [
            TopShare(sparsity, name)
            for sparsity in (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
            if 1 - sparsity <= kept + 1e-9
        ]
    return [*chosen, TopMass(0.8), TopMass(0.9), TopMass(0.95)]


def code_losses(
    trace: AttentionTrace, decode: Decode, selections: Sequence[Selection]
) -> list[CodeLoss]:
    """Compare selections from a trace's codes with those from the floats of its decode."""
    floats = with_floats(trace, decode)
    found = []
    for selection in selections:
        codes, exact = select(trace, selection), select(floats, selection)
        step = np.repeat(np.arange(codes.steps), codes.reads_per_step)
        own = step * codes.n_pages + codes.pages
        step = np.repeat(np.arange(exact.steps), exact.reads_per_step)
        other = step * exact.n_pages + exact.pages
        missing = len(own) - len(np.intersect1d(own, other, assume_unique=True))
        found.append(CodeLoss(str(selection), missing / len(own), len(own) / len(other)))
    return found
