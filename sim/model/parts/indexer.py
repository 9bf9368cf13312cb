"""Indexer: small keys beside attention that choose which tokens it reads."""

from typing import Annotated

from pydantic import Field

from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part


class Indexer(Part):
    """The lightning indexer of sparse attention (DeepSeek-V3.2, technical report, section 2.1)."""

    top: Annotated[int, Field(ge=1, le=1 << 40)]
    """Tokens that attention reads at most."""
    heads: Count | None = None
    """Its query heads; left out: it takes the choice of the layer before, and has no weights."""
    head_dim: Count = 128
    """Width of an index key; a token has one."""
    key_bytes: Count = 132
    """Bytes of an index key: 128 fp8 numbers and a 32-bit scale; 256 in bf16."""
    key_inputs: Count | None = None
    """Width that index keys are made of; left out: the residual stream's."""
    weighs_heads: bool = True
    """Each query head's score has a weight, made of the residual stream."""
    norm_vectors: Annotated[int, Field(ge=0, le=8)] = 2
    """Norm weights and biases, each as wide as an index key."""

    def matrices(self, hidden: int, query_inputs: int) -> tuple[Matrix, ...]:
        """Queries of `query_inputs`, one key, a weight a head; each GPU holds all of it."""
        if self.heads is None:
            return ()
        query = Matrix("index_query", query_inputs, self.heads * self.head_dim, "attention", "none")
        key = Matrix("index_key", self.key_inputs or hidden, self.head_dim, "attention", "none")
        weight = Matrix("index_weight", hidden, self.heads, "other", "none")
        return (query, key, weight) if self.weighs_heads else (query, key)

    @property
    def vectors(self) -> int:
        """Norm weights and biases."""
        return 0 if self.heads is None else self.norm_vectors * self.head_dim

    @property
    def kept_bytes(self) -> int:
        """Bytes of a token's index key; none where another layer's choice is taken."""
        return 0 if self.heads is None else self.key_bytes
