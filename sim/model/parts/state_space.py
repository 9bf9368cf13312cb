"""State-space layers and short convolutions: a state of fixed size in place of keys and values."""

from typing import Literal

from vsim.sim.model.parts.linear import StateBytes
from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.part import Count, Part

_BF16_BYTES = 2


class Mamba(Part):
    """Mamba (arXiv 2312.00752): a selective state space, each channel by itself."""

    kind: Literal["mamba"]
    """Mamba."""
    width: Count
    """Channels."""
    state: Count = 16
    """Numbers of a channel's state."""
    conv_tokens: Count = 4
    """Tokens that the convolution before it reaches over."""
    step_rank: Count
    """Width that the time step is made of."""
    conv_bias: bool = True
    """The convolution has a bias."""
    projection_bias: bool = False
    """The projections in and out have biases."""
    norms: bool = False
    """Time step, input and output of the state are normalised, with weights (Jamba)."""
    state_bytes: StateBytes = 2
    """Bytes of a number of its state."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Into channels and their gate; to time step, input and output; back."""
        return (
            Matrix("in", hidden, 2 * self.width, "linear"),
            Matrix("select", self.width, self.step_rank + 2 * self.state, "linear", "inputs"),
            Matrix("step", self.step_rank, self.width, "linear"),
            Matrix("output", self.width, hidden, "linear", "inputs"),
        )

    def vectors(self, hidden: int) -> int:
        """The convolution, the time step's bias, the decays and the skip of each channel."""
        count = self.width * (self.conv_tokens + self.state + 2 + self.conv_bias)
        if self.projection_bias:
            count += 2 * self.width + hidden
        return count + (self.step_rank + 2 * self.state if self.norms else 0)

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: each channel's, and the convolution's last tokens."""
        conv = self.width * (self.conv_tokens - 1)
        return self.state_bytes * self.width * self.state + _BF16_BYTES * conv

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state: decay, input and output, a multiply-add each."""
        return 6 * self.width * self.state


class Mamba2(Part):
    """Mamba-2 (arXiv 2405.21060): a state space in heads, which share inputs in groups."""

    kind: Literal["mamba2"]
    """Mamba-2."""
    heads: Count
    """Heads."""
    head_dim: Count
    """Channels of a head."""
    groups: Count = 1
    """Groups of heads that share the state's input and output."""
    state: Count
    """Numbers of a channel's state."""
    conv_tokens: Count = 4
    """Tokens that the convolution before it reaches over."""
    conv_bias: bool = True
    """The convolution has a bias."""
    projection_bias: bool = False
    """The projections in and out have biases."""
    norm: bool = True
    """What goes out is normalised, with a weight a channel."""
    state_bytes: StateBytes = 2
    """Bytes of a number of its state."""

    @property
    def width(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_dim

    @property
    def _shared(self) -> int:
        return 2 * self.groups * self.state

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Into channels, their gate, the state's input and output, a time step a head; back."""
        return (
            Matrix("in", hidden, 2 * self.width, "linear", units=self.heads),
            Matrix("in", hidden, self._shared, "linear", units=self.groups),
            Matrix("in", hidden, self.heads, "linear", units=self.heads),
            Matrix("output", self.width, hidden, "linear", "inputs", units=self.heads),
        )

    def vectors(self, hidden: int) -> int:
        """The convolution, the norm, and time step's bias, decay and skip of each head."""
        count = (self.width + self._shared) * (self.conv_tokens + self.conv_bias)
        if self.projection_bias:
            count += 2 * self.width + self._shared + self.heads + hidden
        return count + 3 * self.heads + (self.width if self.norm else 0)

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: each channel's, and the convolution's last tokens."""
        conv = (self.width + self._shared) * (self.conv_tokens - 1)
        return self.state_bytes * self.width * self.state + _BF16_BYTES * conv

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state: decay, input and output, a multiply-add each."""
        return 6 * self.width * self.state


class ShortConvolution(Part):
    """A gated short convolution (LFM2): three projections, a convolution a channel, one back."""

    kind: Literal["short_conv"]
    """A gated short convolution."""
    width: Count
    """Channels."""
    conv_tokens: Count = 3
    """Tokens that the convolution reaches over."""
    bias: bool = False
    """The convolution and the projections have biases."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Into channels and their two gates, and back."""
        return (
            Matrix("in", hidden, 3 * self.width, "linear"),
            Matrix("output", self.width, hidden, "linear", "inputs"),
        )

    def vectors(self, hidden: int) -> int:
        """The convolution, and biases."""
        return self.width * self.conv_tokens + (4 * self.width + hidden if self.bias else 0)

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: the convolution's last tokens."""
        return _BF16_BYTES * self.width * (self.conv_tokens - 1)

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token in the convolution."""
        return 2 * self.width * self.conv_tokens


class LinearUnit(Part):
    """A recurrent block of Griffin (arXiv 2402.19427): a gated linear unit a channel."""

    kind: Literal["linear_unit"]
    """A real-gated linear recurrent unit."""
    width: Count
    """Channels."""
    blocks: Count
    """Blocks of the gates' matrices, which mix channels inside them only."""
    conv_tokens: Count = 4
    """Tokens that the convolution before it reaches over."""
    state_bytes: StateBytes = 4
    """Bytes of a number of its state."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Into channels and their gate, two gates of the unit, and back."""
        each = self.width // self.blocks
        return (
            Matrix("in", hidden, 2 * self.width, "linear"),
            Matrix("gates", each, each, "linear", count=2 * self.blocks),
            Matrix("output", self.width, hidden, "linear", "inputs"),
        )

    def vectors(self, hidden: int) -> int:
        """Biases of the projections and gates, the convolution, and a decay a channel."""
        return self.width * (2 + 2 + self.conv_tokens + 1 + 1) + hidden

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's state: a number a channel, and the convolution's last tokens."""
        return self.width * (self.state_bytes + _BF16_BYTES * (self.conv_tokens - 1))

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a token at the state and in the convolution."""
        return self.width * (6 + 2 * self.conv_tokens)
