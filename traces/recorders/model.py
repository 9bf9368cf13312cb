"""What a recorder needs of a language model: tokens, logits and a look at every attention."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's attention shape; `kv_bytes` is the size of one number of K or V."""

    name: str
    layers: int
    query_heads: int
    kv_heads: int
    head_size: int
    context_tokens: int
    kv_bytes: int = 2

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.query_heads // self.kv_heads

    def page_bytes(self, page_tokens: int) -> int:
        """Bytes of K and V of one page of one layer and KV head."""
        return page_tokens * 2 * self.head_size * self.kv_bytes


@dataclass(frozen=True, slots=True)
class AttentionRead:
    """One layer's attention over T new tokens, n tokens in all.

    Args:
        layer: number of the layer.
        query: [kv_heads, group, T, head_size], rotated, before the scale 1/sqrt(head_size).
        keys: [kv_heads, n, head_size], rotated.
        probabilities: [kv_heads, group, T, n], dense, causal, each row sums to one.
    """

    layer: int
    query: F32
    keys: F32
    probabilities: F32


# Looks at one layer's attention. It may return a mask [kv_heads, T, n] of the tokens to attend to:
# the model then sets all other probabilities to zero and scales each row back to one, which is the
# softmax over the tokens kept.
Observer = Callable[[AttentionRead], Bool | None]


class Model(Protocol):
    """A language model with a KV cache that starts empty."""

    shape: Shape
    weights: str

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text."""
        ...

    def read(self, tokens: Sequence[int], observer: Observer | None = None) -> F32:
        """Append tokens to the cache and return logits [T, vocabulary], one row a token.

        Without an observer only the last row is computed, as [1, vocabulary].
        """
        ...

    def cut(self, tokens: int) -> None:
        """Forget all but the first tokens of the cache."""
        ...
