"""How alike tokens choose experts in a network whose weights are drawn, by counting.

    python -m vsim.sim.fidelity.drawn_network [--layers 24] [--shared 800] [--own 200] [--members 4]

Recorded servers of models with experts had drawn weights. In such a network attention is nearly a
mean over the text, and layer by layer what is computed depends less on the last token and more on
what was read (rank collapse: Dong et al., "Attention is not all you need", ICML 2021). So tokens of
conversations under one system prompt go to the same experts, and few of them are read. Nothing of
this was taken from a time: the network has the form of Qwen3-30B-A3B (grouped attention with norms
of queries and keys, 8 of 128 experts, weights N(0, 0.02), norms the identity) with every width a
quarter and weights twice as large, so that every product keeps its scale. It prints, by layer, the
share of its experts that a prompt's last token has in common with those of prompts under the
same opening, and under another one (chance: 0.06), and the mean over layers.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

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
    """Shares of experts in common, of the last tokens of two prompts, mean over pairs.

    Args:
        same: under the same opening.
        other: under different ones.
    """

    same: float
    other: float


def count_alike(
    layers: int, shared: int, own: int, members: int, ffn: int = FFN, seed: int = 1
) -> Iterator[Layer]:
    """Compute a drawn network layer by layer.

    Args:
        layers: how many.
        shared: tokens of an opening, of which there are OPENINGS.
        own: tokens that each prompt has behind it.
        members: prompts under each opening.
        ffn: width of an expert.
        seed: of all that is drawn.
    """
    rng = np.random.Generator(np.random.PCG64(seed))

    def draw(rows: int, columns: int, scale: float = DRAWN) -> Floats:
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)

    openings = [draw(shared, HIDDEN, EMBEDDED) for _ in range(OPENINGS)]
    tails = [draw(own, HIDDEN, EMBEDDED) for _ in range(OPENINGS * members)]
    for _ in range(layers):
        query, key = draw(HIDDEN, HEADS * HEAD), draw(HIDDEN, HEAD)
        value, out, router = draw(HIDDEN, HEAD), draw(HEADS * HEAD, HIDDEN), draw(HIDDEN, EXPERTS)
        seen = [_projected(x, query, key, value, 0) for x in openings]
        for at, tail in enumerate(tails):
            mine = _projected(tail, query, key, value, shared)
            before = seen[at // members]
            keys, values = (np.concatenate([before[part], mine[part]]) for part in (1, 2))
            tails[at] = tail + _attended(mine[0], keys, values, shared) @ out
        openings = [x + _attended(*part, 0) @ out for x, part in zip(openings, seen, strict=True)]
        rows = np.concatenate([*openings, *tails])
        normed = _normed(rows)
        logits = normed @ router
        chosen = np.argpartition(-logits, CHOSEN, axis=1)[:, :CHOSEN]
        share = _softmax(np.take_along_axis(logits, chosen, axis=1))
        for expert in range(EXPERTS):
            gate, up, down = draw(HIDDEN, ffn), draw(HIDDEN, ffn), draw(ffn, HIDDEN)
            row, place = np.nonzero(chosen == expert)
            gated = normed[row] @ gate
            inner = gated / (1 + np.exp(-gated)) * (normed[row] @ up)
            rows[row] += (inner @ down) * share[row, place][:, None]
        ends = np.cumsum([shared] * OPENINGS + [own] * len(tails))
        parts = np.split(rows, ends[:-1])
        openings, tails = parts[:OPENINGS], parts[OPENINGS:]
        yield _shared([set(chosen[end - 1].tolist()) for end in ends[OPENINGS:]], members)


def _shared(sets: list[set[int]], members: int) -> Layer:
    same: list[float] = []
    other: list[float] = []
    for a, b in combinations(range(len(sets)), 2):
        common = len(sets[a] & sets[b]) / CHOSEN
        (same if a // members == b // members else other).append(common)
    return Layer(float(np.mean(same)), float(np.mean(other)))


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
    found = []
    for layer in count_alike(given.layers, given.shared, given.own, given.members):
        found.append(layer)
        print(f"layer {len(found)}: same {layer.same:.2f}, other {layer.other:.2f}", flush=True)
    same, other = (float(np.mean([getattr(x, name) for x in found])) for name in ("same", "other"))
    print(f"mean: same {same:.2f}, other {other:.2f}")


if __name__ == "__main__":
    main()
