"""Attention with keys and values of its own, in heads."""

from typing import Annotated, Literal

from pydantic import Field

from vsim.sim.machine.precision import Precision
from vsim.sim.model.parts.indexer import Indexer
from vsim.sim.model.parts.kv_bytes import vector_bytes
from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part

Reach = Annotated[int, Field(ge=1, le=1 << 40)]
"""Tokens."""


class GroupedAttention(Part):
    """Query heads in groups that share a key and a value head; one head each is MHA, one MQA.

    What is left out is the model's: its `heads`, `kv_heads`, `head_dim`, `qkv_bias`, `qk_norm`.
    """

    kind: Literal["gqa"] = "gqa"
    """Grouped-query attention."""
    heads: Count | None = None
    """Query heads."""
    kv_heads: Count | None = None
    """Key and value heads."""
    head_dim: Count | None = None
    """Width of a query and of a key."""
    value_dim: Count | None = None
    """Width of a value; left out: as a key."""
    window: Reach | None = None
    """It sees this many last tokens only."""
    chunk: Reach | None = None
    """It sees the tokens since the last multiple of this only."""
    qkv_bias: bool | None = None
    """Query, key and value projections have biases."""
    output_bias: bool = False
    """The output projection has a bias."""
    qk_norm: Literal["none", "head", "all"] | None = None
    """Queries and keys are normalised, with a weight a dimension of a head, or of all heads."""
    gate: Literal["none", "head", "all"] = "none"
    """What is attended is gated: by a number a head, or by one a number."""
    sinks: bool = False
    """Each query head has a score of its own that takes no value."""
    projects_kv: bool = True
    """It has weights for keys and values; false: those of another layer serve."""
    values_are_keys: bool = False
    """Values come from the keys' weights."""
    keeps_kv: bool = True
    """It keeps keys and values; false: it attends to those that another layer keeps."""
    index: Indexer | None = None
    """Chooses the tokens to attend to; left out: all that it sees."""
    query_latent: Count | None = None
    """Width that queries are projected down to before all heads; left out: they are not."""
    inputs: Count | None = None
    """Width of what queries, keys and values are made of; left out: the residual stream's."""
    copies: Count | None = None
    """How many copies of its weights all its layers share; left out: each layer has its own."""

    @property
    def query_heads(self) -> int:
        """Query heads of a part that has all its numbers."""
        return self.heads or 0

    @property
    def cached_heads(self) -> int:
        """Key and value heads of a part that has all its numbers."""
        return self.kv_heads or 0

    @property
    def key_width(self) -> int:
        """Width of a query and a key."""
        return self.head_dim or 0

    @property
    def value_width(self) -> int:
        """Width of a value."""
        return self.value_dim or self.head_dim or 0

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """q and o: hidden x heads; k and v: hidden x KV heads."""
        heads, cached, out = self.query_heads, self.cached_heads, hidden
        hidden = self.inputs or hidden
        queries = heads * self.key_width * (2 if self.gate == "all" else 1)
        if self.query_latent is None:
            found = [Matrix("qkv", hidden, queries, "attention", units=heads)]
        else:
            found = [
                Matrix("query_down", hidden, self.query_latent, "attention", "none"),
                Matrix("query", self.query_latent, queries, "attention", units=heads),
            ]
        if self.projects_kv:
            keys = cached * self.key_width
            found.append(Matrix("qkv", hidden, keys, "attention", units=cached))
            if not self.values_are_keys:
                values = cached * self.value_width
                found.append(Matrix("qkv", hidden, values, "attention", units=cached))
        if self.gate == "head":
            found.append(Matrix("gate", hidden, heads, "attention", units=heads))
        attended = heads * self.value_width
        found.append(Matrix("output", attended, out, "attention", "inputs", units=heads))
        return (*found, *(self.index.matrices(hidden, hidden) if self.index else ()))

    def vectors(self, hidden: int) -> int:
        """Biases, norms and sinks."""
        heads, cached = self.query_heads, self.cached_heads
        both = (cached * self.key_width, cached * self.value_width) if self.projects_kv else (0, 0)
        count = (heads if self.sinks else 0) + (self.query_latent or 0)
        if self.qkv_bias:
            count += heads * self.key_width + sum(both)
        if self.output_bias:
            count += hidden
        if self.qk_norm == "head":
            count += self.key_width * (2 if self.projects_kv else 1)
        elif self.qk_norm == "all":
            count += heads * self.key_width + both[0]
        return count + (self.index.vectors if self.index else 0)

    def kv_bytes(self, precision: Precision) -> int:
        """Bytes that one token keeps here: a key and a value a KV head, and its index key."""
        if not self.keeps_kv:
            return 0
        cached = self.cached_heads
        pairs = ((cached, self.key_width), (cached, self.value_width))
        index = self.index.kept_bytes if self.index else 0
        return vector_bytes(pairs, precision) + index

    def flops_per_pair(self, *, absorbed: bool = True) -> int:
        """FLOPs of one query token attending to one key token: 2 a multiply-add, all heads."""
        return 2 * self.query_heads * (self.key_width + self.value_width)


class CrossAttention(Part):
    """Attention to what another network made of an image or a sound: kept once a request."""

    kind: Literal["cross"]
    """Cross attention."""
    heads: Count
    """Query heads."""
    kv_heads: Count
    """Key and value heads."""
    head_dim: Count
    """Width of a head."""
    tokens: Reach
    """Longest of what it attends to, in its tokens."""
    qk_norm: bool = False
    """Queries and keys are normalised, with a weight a dimension of a head."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """As of attention; keys and values are made of the other network's output."""
        heads, cached, width = self.heads, self.kv_heads, self.head_dim
        keys = Matrix("cross_kv", hidden, cached * width, "attention", units=cached)
        return (
            Matrix("query", hidden, heads * width, "attention", units=heads),
            keys,
            keys,
            Matrix("output", heads * width, hidden, "attention", "inputs", units=heads),
        )

    def vectors(self, hidden: int) -> int:
        """Norms, and the two numbers that gate attention and FFN."""
        return 2 + (2 * self.head_dim if self.qk_norm else 0)

    def request_bytes(self, precision: Precision) -> int:
        """Bytes of the keys and values of one request at its longest."""
        return self.tokens * vector_bytes(((2 * self.kv_heads, self.head_dim),), precision)
