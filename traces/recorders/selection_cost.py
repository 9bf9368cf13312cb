"""What a selection costs: the model decodes the same tokens reading only the pages selected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import MASS
from vsim.traces.recorders.model import F32, AttentionRead, Model
from vsim.traces.recorders.page_scores import QuestBounds, page_mask, page_mass
from vsim.traces.recorders.recording import Decode
from vsim.traces.selection import Selection, select_pages


@dataclass(frozen=True, slots=True)
class SelectionCost:
    """A selection's cost on one recording.

    Attributes:
        selection: what was selected, in words.
        pages_share: share of the context's pages that were read, mean over steps, layers, heads.
        mass_share: share of the attention mass on them.
        perplexity: of the decoded tokens, each predicted from the text before it.
        perplexity_dense: the same with all pages read.
        greedy_equal: share of steps whose most likely next token is the dense model's.
    """

    selection: str
    pages_share: float
    mass_share: float
    perplexity: float
    perplexity_dense: float
    greedy_equal: float


def perplexity(logits: F32, tokens: Sequence[int]) -> float:
    """Perplexity of tokens [T] under logits [T, vocabulary], row t predicting token t."""
    wide = logits.astype(np.float64)
    peak = wide.max(axis=-1)
    total = np.log(np.exp(wide - peak[:, None]).sum(axis=-1)) + peak
    return float(np.exp(np.mean(total - wide[np.arange(len(tokens)), list(tokens)])))


class _Reader:
    """Masks attention to the pages of a selection. Mutable: counts what was read."""

    def __init__(self, selection: Selection, page_tokens: int, layers: int) -> None:
        self._selection = selection
        self._page_tokens = page_tokens
        self._bounds = [QuestBounds(page_tokens) for _ in range(layers)]
        self.pages = 0
        self.context = 0
        self.mass = 0.0
        self.rows = 0

    def __call__(self, read: AttentionRead) -> NDArray[np.bool_]:
        heads, _, count, tokens = read.probabilities.shape
        mass = page_mass(read, self._page_tokens)
        scores = mass
        if self._selection.score not in (MASS, None):
            scores = self._bounds[read.layer].mass(read)
        existing = (tokens - count + np.arange(count)) // self._page_tokens + 1
        rows = scores.reshape(heads * count, -1)
        keep = select_pages(self._selection, rows, np.tile(existing, heads))
        shaped = keep.reshape(mass.shape)
        self.pages += int(shaped.sum())
        self.context += heads * int(existing.sum())
        self.mass += float(mass[shaped].sum(dtype=np.float64))
        self.rows += heads * count
        return page_mask(shaped, tokens, self._page_tokens)


def selection_costs(
    model: Model,
    decode: Decode,
    selections: Sequence[Selection],
    progress: Callable[[str], None] = lambda done: None,
) -> list[SelectionCost]:
    """Measure selections on the tokens of one decode.

    The prompt is read densely. Then every step, in every layer, attends only to the pages that the
    selection picks from that layer's own scores, so that errors add up over layers and steps. The
    decoded tokens are given, not drawn: step t reads token t and is judged by token t + 1.

    Args:
        model: what the decode was recorded on; its cache is left with the whole text.
        decode: prompt and output.
        selections: what to measure.
        progress: called with each selection's name when it is done.
    """
    model.cut(0)
    model.read(decode.prompt)
    dense = model.read(decode.output, lambda read: None)
    baseline = perplexity(dense[:-1], decode.output[1:])
    found = []
    for selection in selections:
        model.cut(len(decode.prompt))
        reader = _Reader(selection, decode.page_tokens, model.shape.layers)
        logits = model.read(decode.output, reader)
        found.append(
            SelectionCost(
                selection=str(selection),
                pages_share=reader.pages / reader.context,
                mass_share=reader.mass / reader.rows,
                perplexity=perplexity(logits[:-1], decode.output[1:]),
                perplexity_dense=baseline,
                greedy_equal=float(np.mean(logits.argmax(axis=-1) == dense.argmax(axis=-1))),
            )
        )
        progress(str(selection))
    return found
