"""Linear attention: a matrix a head in place of keys and values, as large for any context."""

from typing import Literal

from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part

_BF16_BYTES = 2
StateBytes = Literal[2, 4]
"""Bytes of a number of a state."""


class GatedDeltaNet(Part):
    """Gated delta rule (arXiv 2412.06464), as Qwen3-Next has it."""

    kind: Literal["delta_net"]
    """Gated DeltaNet."""
    key_heads: Count
    """Query and key heads."""
    value_heads: Count
    """Value heads."""
    key_dim: Count
    """Width of a query and a key."""
    value_dim: Count
    """Width of a value."""
    conv_tokens: Count = 4
    """Tokens that the convolution before it reaches over."""
    state_bytes: StateBytes = 2
    """Bytes of a number of its state."""

    @property
    def heads(self) -> int:
        """Heads that GPUs split."""
        return self.key_heads

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Queries, keys, values and their gate; two numbers a value head; the output."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        return (
            Matrix("qkvz", hidden, 2 * keys, "linear", units=self.key_heads),
            Matrix("qkvz", hidden, 2 * values, "linear", units=self.value_heads),
            Matrix("ba", hidden, 2 * self.value_heads, "linear", units=self.value_heads),
            Matrix("output", values, hidden, "linear", "inputs", units=self.value_heads),
        )

    @property
    def _conv_width(self) -> int:
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def vectors(self, hidden: int) -> int:
        """The convolution, a decay and a bias a value head, the norm of a value."""
        return self._conv_width * self.conv_tokens + 2 * self.value_heads + self.value_dim

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: a matrix a value head, and the convolution's last tokens."""
        matrix = self.value_heads * self.key_dim * self.value_dim
        conv = self._conv_width * (self.conv_tokens - 1)
        return self.state_bytes * matrix + _BF16_BYTES * conv

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state: decay, read, correct, write and read for the query."""
        return 8 * self.value_heads * self.key_dim * self.value_dim


class KimiDeltaAttention(Part):
    """Kimi delta attention (arXiv 2510.26692): the delta rule with a decay a channel."""

    kind: Literal["kda"]
    """Kimi delta attention."""
    heads: Count
    """Heads."""
    head_dim: Count
    """Width of a query, a key and a value."""
    conv_tokens: Count = 4
    """Tokens that the convolutions before it reach over."""
    decay_rank: Count | None = None
    """Width that the decay is projected down to; left out: it is a full matrix."""
    gate_rank: Count | None = None
    """The same of the output's gate."""
    state_bytes: StateBytes = 4
    """Bytes of a number of its state."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """q, k, v and o; a number a head; the decay and the output's gate."""
        wide, heads = self.heads * self.head_dim, self.heads
        found = [
            Matrix("qkv", hidden, 3 * wide, "linear", units=heads),
            Matrix("beta", hidden, heads, "linear", units=heads),
            Matrix("output", wide, hidden, "linear", "inputs", units=heads),
        ]
        for name, rank in (("decay", self.decay_rank), ("gate", self.gate_rank)):
            if rank is not None:
                found.append(Matrix(f"{name}_down", hidden, rank, "linear", "none"))
            found.append(Matrix(name, rank or hidden, wide, "linear", units=heads))
        return tuple(found)

    def vectors(self, hidden: int) -> int:
        """Three convolutions, a decay a head and its bias a channel, the norm of a value."""
        wide = self.heads * self.head_dim
        return 3 * wide * self.conv_tokens + self.heads + wide + self.head_dim

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: a matrix a head, and the convolutions' last tokens."""
        wide = self.heads * self.head_dim
        conv = 3 * wide * (self.conv_tokens - 1)
        return self.state_bytes * wide * self.head_dim + _BF16_BYTES * conv

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state: decay, read, correct, write and read for the query."""
        return 8 * self.heads * self.head_dim**2


class LightningAttention(Part):
    """Lightning attention (MiniMax-01, arXiv 2501.08313): a decayed sum of keys times values."""

    kind: Literal["lightning"]
    """Lightning attention."""
    heads: Count
    """Heads."""
    head_dim: Count
    """Width of a query, a key and a value."""
    kv_heads: Count | None = None
    """Key and value heads; left out: as query heads."""
    gate: bool = True
    """What is attended is gated by a number a value."""
    gate_norm: bool = True
    """What is attended is normalised, with a weight for each number."""
    qk_norm: bool = False
    """Queries and keys are normalised, with a weight a dimension of a head."""
    state_bytes: StateBytes = 4
    """Bytes of a number of its state."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """q, k and v, the gate, and o."""
        wide, heads = self.heads * self.head_dim, self.heads
        cached = self.kv_heads or heads
        found = [
            Matrix("qkv", hidden, wide, "linear", units=heads),
            Matrix("qkv", hidden, 2 * cached * self.head_dim, "linear", units=cached),
            Matrix("output", wide, hidden, "linear", "inputs", units=heads),
        ]
        if self.gate:
            found.append(Matrix("gate", hidden, wide, "linear", units=heads))
        return tuple(found)

    def vectors(self, hidden: int) -> int:
        """Norms."""
        norms = 2 * self.head_dim if self.qk_norm else 0
        return norms + (self.heads * self.head_dim if self.gate_norm else 0)

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: a matrix a head."""
        return self.state_bytes * self.heads * self.head_dim**2

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state: decay, write, and read for the query."""
        return 5 * self.heads * self.head_dim**2
