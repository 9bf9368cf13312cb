"""A small model that any machine can run, so that recorders are tested without weights."""

from collections.abc import Sequence

import numpy as np
import pytest

from vsim.traces.recorders.model import F32, AttentionRead, Observer, Shape


class ToyModel:
    """Two layers of attention over random embeddings, no feed-forward; text is its bytes."""

    def __init__(self) -> None:
        self.shape = Shape("toy", layers=2, query_heads=4, kv_heads=2, head_size=8,
                           context_tokens=400)  # fmt: skip
        self.weights = "drawn from seed 5"
        generator = np.random.Generator(np.random.PCG64(5))
        self._embedding = generator.normal(size=(256, 32)).astype(np.float32)
        self._query = generator.normal(size=(2, 2, 2, 32, 8)).astype(np.float32) * 0.3
        self._key = generator.normal(size=(2, 2, 32, 8)).astype(np.float32) * 0.3
        self._value = generator.normal(size=(2, 2, 32, 16)).astype(np.float32) * 0.3
        self._tokens: list[int] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", "replace")

    def cut(self, tokens: int) -> None:
        self._tokens = self._tokens[:tokens]

    def read(self, tokens: Sequence[int], observer: Observer | None = None) -> F32:
        """Read all tokens again at each call: slow, and obviously without a cache to get wrong.

        An observer's mask applies to the new tokens only, so layer 2 sees old tokens densely.
        """
        first = len(self._tokens)
        self._tokens += tokens
        x = self._embedding[self._tokens]
        count = len(x)
        hidden = np.arange(count)[None, :] > np.arange(count)[:, None]
        for layer in range(2):
            keys = np.einsum("td,hdk->htk", x, self._key[layer])
            values = np.einsum("td,hdk->htk", x, self._value[layer])
            query = np.einsum("td,hgdk->hgtk", x, self._query[layer])
            logits = np.einsum("hgtk,hnk->hgtn", query, keys) / np.sqrt(np.float32(8))
            weight = np.exp(np.where(hidden, -np.inf, logits))
            weight /= weight.sum(axis=-1, keepdims=True)
            if observer is not None:
                read = AttentionRead(layer, query[:, :, first:], keys, weight[:, :, first:])
                kept = observer(read)
                if kept is not None:
                    weight[:, :, first:] *= kept[:, None]
                    weight /= weight.sum(axis=-1, keepdims=True)
            mixed = np.einsum("hgtn,hnk->tgk", weight, values)
            x = x + mixed.reshape(count, -1).astype(np.float32)
        new = x[first:] if observer is not None else x[-1:]
        return np.asarray(new @ self._embedding.T * 0.2, dtype=np.float32)


@pytest.fixture
def toy() -> ToyModel:
    return ToyModel()
