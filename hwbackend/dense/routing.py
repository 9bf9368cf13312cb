"""`Routing`: which tokens go to which experts of a layer, drawn evenly and independently.

So `vsim.sim.model.model.expected_experts` has it: each token picks k of E experts, and in the mean
E · (1 - (1 - k/E)^tokens) of them are touched.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """One layer's routing of a batch. Rows are pairs of token and expert, sorted by expert.

    Args:
        counts: int64[E], rows of each expert.
        sources: int32[tokens · k], the token of each row.
        places: int32[tokens, k], the rows of each token.
        shares: float32[tokens, k], how much of an expert a token takes; 1 in sum.
    """

    counts: NDArray[np.int64]
    sources: NDArray[np.int32]
    places: NDArray[np.int32]
    shares: NDArray[np.float32]

    @classmethod
    def drawn(
        cls, generator: np.random.Generator, tokens: int, experts: int, per_token: int
    ) -> Self:
        """Draw a routing.

        Args:
            generator: of the draws.
            tokens: of the batch.
            experts: of the layer.
            per_token: experts that a token goes to, all different.
        """
        chosen = np.argsort(generator.random((tokens, experts)), axis=1)[:, :per_token]
        scores = generator.random((tokens, per_token)) + 0.5
        shares = scores / scores.sum(axis=1, keepdims=True)
        order = np.argsort(chosen.ravel(), kind="stable")
        places = np.empty(order.size, np.int32)
        places[order] = np.arange(order.size, dtype=np.int32)
        return cls(
            counts=np.bincount(chosen.ravel(), minlength=experts).astype(np.int64),
            sources=(order // per_token).astype(np.int32),
            places=places.reshape(tokens, per_token),
            shares=shares.astype(np.float32),
        )

    @property
    def tokens(self) -> int:
        """Tokens of the batch."""
        return len(self.places)

    @property
    def touched(self) -> int:
        """Experts that some token goes to."""
        return int(np.count_nonzero(self.counts))
