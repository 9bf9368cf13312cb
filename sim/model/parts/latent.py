"""Multi-head latent attention: a token's keys and values as one latent."""

from typing import Literal

from vsim.sim.machine.precision import Precision
from vsim.sim.model.parts.indexer import Indexer
from vsim.sim.model.parts.kv_bytes import scaled_latent_bytes, vector_bytes
from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part, Several


class LatentAttention(Part):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kind: Literal["mla"]
    """Multi-head latent attention."""
    kv_lora_rank: Count
    """Width of the latent that stands for a token's keys and values."""
    qk_rope_head_dim: Several
    """Width of the rotary part of a key, shared by all heads and cached beside the latent."""
    qk_nope_head_dim: Count
    """Width of the part of each head's key that comes from the latent."""
    v_head_dim: Count
    """Width of each head's value."""
    q_lora_rank: Count | None = None
    """Width of the query's latent; null where queries are projected directly."""
    heads: Count | None = None
    """Query heads; left out: the model's."""
    gate: Literal["none", "head", "all"] = "none"
    """What is attended is gated: by a number a head, or by one a number."""
    index: Indexer | None = None
    """Chooses the tokens to attend to; left out: all."""

    @property
    def query_heads(self) -> int:
        """Query heads of a part that has all its numbers."""
        return self.heads or 0

    @property
    def key_width(self) -> int:
        """Width of a head's query: both of its parts."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Queries through their latent, keys and values down to theirs and up to all heads, and o.

        Each GPU projects down to the latents itself, so that all of them hold those matrices.
        """
        heads, rank = self.query_heads, self.kv_lora_rank
        queries = heads * self.key_width
        found = []
        if self.q_lora_rank is None:
            found.append(Matrix("query", hidden, queries, "attention", units=heads))
        else:
            found.append(Matrix("query_down", hidden, self.q_lora_rank, "attention", "none"))
            found.append(Matrix("query", self.q_lora_rank, queries, "attention", units=heads))
        wide, values = heads * (self.qk_nope_head_dim + self.v_head_dim), heads * self.v_head_dim
        found += [
            Matrix("kv_down", hidden, rank + self.qk_rope_head_dim, "attention", "none"),
            Matrix("kv_up", rank, wide, "attention", units=heads),
            Matrix("output", values, hidden, "attention", "inputs", units=heads),
        ]
        if self.gate != "none":
            width = heads if self.gate == "head" else values
            found.append(Matrix("gate", hidden, width, "attention", units=heads))
        index = self.index.matrices(hidden, self.q_lora_rank or hidden) if self.index else ()
        return (*found, *index)

    def vectors(self, hidden: int) -> int:
        """The latents' norms."""
        norms = self.kv_lora_rank + (self.q_lora_rank or 0)
        return norms + (self.index.vectors if self.index else 0)

    def kv_bytes(self, precision: Precision) -> int:
        """Bytes that one token keeps here: its latent, the rotary part, and its index key."""
        index = self.index.kept_bytes if self.index else 0
        if precision == "fp8_scaled":
            return scaled_latent_bytes(self.kv_lora_rank, self.qk_rope_head_dim) + index
        rotary = (1, self.qk_rope_head_dim) if self.qk_rope_head_dim else (0, 0)
        return vector_bytes(((1, self.kv_lora_rank), rotary), precision) + index

    def flops_per_pair(self, *, absorbed: bool = True) -> int:
        """FLOPs of one query token attending to one key token: 2 a multiply-add, all heads.

        Absorbed, as decodes do it, a head reads latents: kv_lora_rank + rotary for the score,
        kv_lora_rank for the value. Prefills make keys and values of the latents first and attend
        to those: nope + rotary for the score, a value's width for the value.
        """
        if absorbed:
            return 2 * self.query_heads * (2 * self.kv_lora_rank + self.qk_rope_head_dim)
        return 2 * self.query_heads * (self.key_width + self.v_head_dim)
