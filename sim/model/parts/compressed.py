"""Attention to compressed entries: one latent for several tokens, beside a window."""

from typing import Annotated, Literal

from pydantic import Field

from vsim.sim.machine.precision import Precision
from vsim.sim.model.parts.attention import Reach
from vsim.sim.model.parts.indexer import Indexer
from vsim.sim.model.parts.kv_bytes import vector_bytes
from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part


class CompressedAttention(Part):
    """DeepSeek-V4's attention: one key-value vector a token in a window, one for `ratio` beyond.

    Shapes as in transformers' `modeling_deepseek_v4`. With an indexer, entries overlap: each is
    made of two halves, so that its projections are twice as wide (compressed sparse attention);
    without, they are heavily compressed.
    """

    kind: Literal["compressed"]
    """Attention to a window and to compressed entries."""
    heads: Count
    """Query heads."""
    head_dim: Count
    """Width of a query and of the vector that is key and value at once."""
    rotary_dim: Count
    """How many of its numbers are rotary; they stay in bf16 where the rest is fp8 with scales."""
    q_lora_rank: Count
    """Width of the query's latent."""
    output_groups: Count
    """Groups of heads, each projected down by itself."""
    output_rank: Count
    """Width that each is projected down to."""
    window: Reach
    """Last tokens that are kept one by one."""
    ratio: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    """Tokens of one compressed entry; 0: there are none, only the window."""
    index: Indexer | None = None
    """Chooses the entries to attend to; left out: all."""

    @property
    def query_heads(self) -> int:
        """Query heads."""
        return self.heads

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Queries through a latent, one vector a token, a grouped output, the compressor."""
        attended = self.heads * self.head_dim
        narrow = self.output_groups * self.output_rank
        found = [
            Matrix("query_down", hidden, self.q_lora_rank, "attention", "none"),
            Matrix("query", self.q_lora_rank, attended, "attention", units=self.heads),
            Matrix("kv", hidden, self.head_dim, "attention", "none"),
            Matrix("output_down", attended // self.output_groups, narrow, "attention"),
            Matrix("output", narrow, hidden, "attention", "inputs"),
        ]
        if self.ratio:
            wide = self._halves * self.head_dim
            found += 2 * [Matrix("compress", hidden, wide, "attention", "none")]
        if self.index is not None and self.index.heads is not None:
            index = self.index.matrices(hidden, self.q_lora_rank)
            found += [each for each in index if each.product != "index_key"]
            wide = self._halves * self.index.head_dim
            found += 2 * [Matrix("index_key", hidden, wide, "attention", "none")]
        return tuple(found)

    @property
    def _halves(self) -> int:
        return 1 if self.index is None else 2

    def vectors(self, hidden: int) -> int:
        """Norms, sinks, and a bias for each place in an entry."""
        count = self.q_lora_rank + self.head_dim + self.heads
        if self.ratio:
            count += self.head_dim * (1 + self.ratio * self._halves)
        if self.index is not None:
            count += self.index.head_dim * (1 + self.ratio * self._halves)
        return count

    def kv_bytes(self, precision: Precision) -> int:
        """Bytes of one vector: a token's in the window, or a compressed entry without its index.

        fp8 with scales: 448 fp8 numbers, 64 rotary ones in bf16, an 8-bit scale for each 64 of the
        former and a byte to round up: 584 (vLLM 0.25.1, `deepseek_v4`).
        """
        if precision == "fp8_scaled":
            plain = self.head_dim - self.rotary_dim
            return plain + 2 * self.rotary_dim + -(-plain // 64) + 1
        return vector_bytes(((1, self.head_dim),), precision)

    def flops_per_pair(self, *, absorbed: bool = True) -> int:
        """FLOPs of one query token attending to one vector: 2 a multiply-add, all heads."""
        return 4 * self.heads * self.head_dim
