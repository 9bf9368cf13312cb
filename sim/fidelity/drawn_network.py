"""How alike tokens choose experts in a network whose weights are drawn, by counting.

    python -m vsim.sim.fidelity.drawn_network [--layers 24] [--shared 800] [--own 200] [--members 4]

Recorded servers of models with experts had drawn weights. In such a network attention is nearly a
mean over the text, and layer by layer what is computed depends less on the last token and more on
what was read (rank collapse: Dong et al., "Attention is not all you need", ICML 2021). So tokens of
conversations under one system prompt go to the same experts, and few of them are read. Nothing of
this was taken from a time: the network has the form of Qwen3-30B-A3B (grouped attention with norms
of queries and keys, 8 of 128 experts, weights N(0, 0.02), norms the identity) with every width a
quarter and weights twice as large, so that every product keeps its scale. It prints, by layer, the
share of its experts that a prompt's last token has in common with those of prompts under the same
opening, and under another one (chance: 0.06), how many all prompts under one opening touch, and
the means.

Then it does so for padding: rows that a batch has beyond its own tokens hold tokens of earlier
batches, and attention writes nothing for them. So in every layer they go on with what the last
layer's attention gave such a token before: alike for all under one opening, and foreign to the
batch.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

HIDDEN: Final = 512
HEAD: Final = 128
HEADS: Final = 8
FFN: Final = 192
EXPERTS: Final = 128
CHOSEN: Final = 8
EMBEDDED: Final = 0.02  # of a token's embedding, as in the model
DRAWN: Final = 0.04  # of all other weights: 0.02 · √4
THETA: Final = 1e6
OPENINGS: Final = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """Experts in common of the last tokens of two prompts, mean over pairs; and touched ones.

    Args:
        same: share in common, under the same opening.
        other: under different ones.
        touched: experts, by all prompts under one opening, in the mean.
    """

    same: float
    other: float
    touched: float


@dataclass(frozen=True, slots=True)
class _Weights:
    """One layer's, drawn again for each pass: those of all layers do not fit into memory."""

    query: Floats
    key: Floats
    value: Floats
    out: Floats
    router: Floats
    experts: Iterator[tuple[Floats, Floats, Floats]]

    def computed(self, rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Rows [n, HIDDEN] with what the layer's experts add, and which they chose, [n, CHOSEN]."""
        normed = _normed(rows)
        logits = normed @ self.router
        chosen = np.argpartition(-logits, CHOSEN, axis=1)[:, :CHOSEN]
        share = _softmax(np.take_along_axis(logits, chosen, axis=1))
        after = rows.copy()
        for expert, (gate, up, down) in enumerate(self.experts):
            row, place = np.nonzero(chosen == expert)
            gated = normed[row] @ gate
            inner = gated / (1 + np.exp(-gated)) * (normed[row] @ up)
            after[row] += (inner @ down) * share[row, place][:, None]
        return after, chosen


def _draw(rng: np.random.Generator, rows: int, columns: int, scale: float = DRAWN) -> Floats:
    return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)


def _weights(seed: int, layer: int, ffn: int) -> _Weights:
    rng = np.random.Generator(np.random.PCG64([seed, 1 + layer]))
    widths = (HEADS * HEAD, HEAD, HEAD)
    query, key, value = (_draw(rng, HIDDEN, width) for width in widths)
    out, router = _draw(rng, HEADS * HEAD, HIDDEN), _draw(rng, HIDDEN, EXPERTS)
    experts = (
        (_draw(rng, HIDDEN, ffn), _draw(rng, HIDDEN, ffn), _draw(rng, ffn, HIDDEN))
        for _ in range(EXPERTS)
    )
    return _Weights(query, key, value, out, router, experts)


class Chosen(NamedTuple):
    """Of one layer, what attention gives each prompt's last token, and what that chooses.

    Args:
        given: float32[prompts, HEADS · HEAD].
        experts: int[prompts, CHOSEN].
    """

    given: Floats
    experts: NDArray[np.intp]


def computed(
    layers: int, shared: int, own: int, members: int, ffn: int = FFN, seed: int = 1
) -> Iterator[Chosen]:
    """Compute a drawn network layer by layer.

    Args:
        layers: how many.
        shared: tokens of an opening, of which there are OPENINGS.
        own: tokens that each prompt has behind it.
        members: prompts under each opening.
        ffn: width of an expert.
        seed: of all that is drawn.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    openings = [_draw(rng, shared, HIDDEN, EMBEDDED) for _ in range(OPENINGS)]
    tails = [_draw(rng, own, HIDDEN, EMBEDDED) for _ in range(OPENINGS * members)]
    for layer in range(layers):
        drawn = _weights(seed, layer, ffn)
        parts = drawn.query, drawn.key, drawn.value
        seen = [_projected(x, *parts, 0) for x in openings]
        given = []
        for at, tail in enumerate(tails):
            mine = _projected(tail, *parts, shared)
            before = seen[at // members]
            keys, values = (np.concatenate([before[part], mine[part]]) for part in (1, 2))
            attended = _attended(mine[0], keys, values, shared)
            given.append(attended[-1])
            tails[at] = tail + attended @ drawn.out
        openings = [
            x + _attended(*part, 0) @ drawn.out for x, part in zip(openings, seen, strict=True)
        ]
        rows, chosen = drawn.computed(np.concatenate([*openings, *tails]))
        ends = np.cumsum([shared] * OPENINGS + [own] * len(tails))
        found = np.split(rows, ends[:-1])
        openings, tails = found[:OPENINGS], found[OPENINGS:]
        yield Chosen(np.array(given), chosen[ends[OPENINGS:] - 1])


def alike(chosen: Chosen, members: int) -> Layer:
    """Count what prompts have in common, so many under each opening."""
    return _shared(_sets(chosen.experts), members)


def padding_alike(
    passed: Sequence[Chosen], members: int, ffn: int = FFN, seed: int = 1
) -> Iterator[tuple[Layer, float]]:
    """Count the same of padding, one row for each prompt, and what it shares with the prompts.

    Args:
        passed: all layers, computed from the other arguments.
        members: prompts under each opening.
        ffn: width of an expert.
        seed: of all that is drawn.

    Yields:
        By layer, the counts, and the share of its experts that a row has in common with the last
        token of a prompt under its opening, mean over pairs.
    """
    left = passed[-1].given
    rng = np.random.Generator(np.random.PCG64([seed, 0, 1]))
    rows = _draw(rng, OPENINGS * members, HIDDEN, EMBEDDED)
    for layer, batch in enumerate(passed):
        drawn = _weights(seed, layer, ffn)
        rows, experts = drawn.computed(rows + left @ drawn.out)
        sets, theirs = _sets(experts), _sets(batch.experts)
        common = [
            len(row & token) / CHOSEN
            for at, row in enumerate(sets)
            for other, token in enumerate(theirs)
            if at // members == other // members
        ]
        yield _shared(sets, members), float(np.mean(common))


def _sets(experts: NDArray[np.intp]) -> list[set[int]]:
    return [set(each.tolist()) for each in experts]


def _shared(sets: list[set[int]], members: int) -> Layer:
    same: list[float] = []
    other: list[float] = []
    for a, b in combinations(range(len(sets)), 2):
        common = len(sets[a] & sets[b]) / CHOSEN
        (same if a // members == b // members else other).append(common)
    groups = [set[int]().union(*sets[at : at + members]) for at in range(0, len(sets), members)]
    touched = float(np.mean([len(group) for group in groups]))
    return Layer(float(np.mean(same)), float(np.mean(other)), touched)


def _normed(rows: Floats) -> Floats:
    normed: Floats = rows / np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + np.float32(1e-6))
    return normed


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _projected(
    rows: Floats, query: Floats, key: Floats, value: Floats, first: int
) -> tuple[Floats, Floats, Floats]:
    """Queries [n, HEADS, HEAD], keys and values [n, HEAD] of tokens from place `first` on."""
    normed = _normed(rows)
    turns = np.outer(first + np.arange(len(rows)), THETA ** (-np.arange(0, HEAD, 2) / HEAD))
    queries = _turned(_normed((normed @ query).reshape(-1, HEADS, HEAD)), turns)
    keys = _turned(_normed((normed @ key).reshape(-1, 1, HEAD)), turns)[:, 0]
    return queries, keys, normed @ value


def _turned(vectors: Floats, turns: NDArray[np.float64]) -> Floats:
    """Rotary embeddings; vectors [n, heads, HEAD]."""
    cosine = np.cos(turns).astype(np.float32)[:, None]
    sine = np.sin(turns).astype(np.float32)[:, None]
    left, right = np.split(vectors, 2, axis=-1)
    return np.concatenate([left * cosine - right * sine, right * cosine + left * sine], axis=-1)


def _attended(queries: Floats, keys: Floats, values: Floats, before: int) -> Floats:
    """Causal attention behind so many tokens, heads side by side: [n, HEADS · HEAD]."""
    later = np.arange(len(keys)) > np.arange(len(queries))[:, None] + before
    heads = []
    for head in range(HEADS):
        logits = queries[:, head] @ keys.T / np.float32(np.sqrt(HEAD))
        heads.append(_softmax(np.where(later, np.float32(-1e9), logits)) @ values)
    return np.concatenate(heads, axis=1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Count how alike a drawn network's tokens choose.")
    for name, default in (("layers", 24), ("shared", 800), ("own", 200), ("members", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    passed, found, padding = [], [], []
    for chosen in computed(given.layers, given.shared, given.own, given.members):
        passed.append(chosen)
        found.append(alike(chosen, given.members))
        print(f"layer {len(found)}: {_told(found[-1])}", flush=True)
    print(f"mean: {_told(_mean(found))}")
    for layer, batch in padding_alike(passed, given.members):
        padding.append((layer, batch))
        print(f"padding, layer {len(padding)}: {_told(layer)}, the batch {batch:.2f}", flush=True)
    batch = float(np.mean([each for _, each in padding]))
    print(f"padding, mean: {_told(_mean([each for each, _ in padding]))}, the batch {batch:.2f}")


def _mean(layers: list[Layer]) -> Layer:
    return Layer(
        *(
            float(np.mean([getattr(x, each) for x in layers]))
            for each in ("same", "other", "touched")
        )
    )


def _told(layer: Layer) -> str:
    return f"same {layer.same:.2f}, other {layer.other:.2f}, touched {layer.touched:.1f}"


if __name__ == "__main__":
    main()
