"""FFNs: ordinary ones, and choices of experts."""

from typing import Annotated, Literal

from pydantic import Field

from vsim.sim.model.parts.matrix import Matrix, Role
from vsim.sim.model.parts.part import Count, Part, Several

MOST_LAYERS = 2000


def _ffn(hidden: int, width: int, gated: bool, role: Role, count: int = 1) -> tuple[Matrix, ...]:
    """Up, gate and down, or up and down, `count` times."""
    up = Matrix("up", hidden, (2 if gated else 1) * width, role, count=count)
    return up, Matrix("down", width, hidden, role, "inputs", count=count)


class DenseFfn(Part):
    """An ordinary FFN."""

    kind: Literal["dense"]
    """An ordinary FFN."""
    width: Count
    """Its inner width."""
    gated: bool | None = None
    """It has three matrices (gate, up, down); false: two. Left out: the model's `gated_ffn`."""
    bias: bool | None = None
    """Its products have biases; left out: the model's `ffn_bias`."""
    copies: Count | None = None
    """How many copies of its weights all its layers share; left out: each layer has its own."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Up, gate and down, or up and down."""
        return _ffn(hidden, self.width, self.gated is not False, "dense")

    def vectors(self, hidden: int) -> int:
        """Biases."""
        if not self.bias:
            return 0
        return self.width * (2 if self.gated is not False else 1) + hidden


class LinearFfn(Part):
    """One matrix in place of a part that was pruned (Nemotron-NAS, arXiv 2411.19146)."""

    kind: Literal["linear"]
    """One matrix, from the residual stream to itself."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """The matrix."""
        return (Matrix("linear", hidden, hidden, "dense"),)

    def vectors(self, hidden: int) -> int:
        """None."""
        return 0


class Moe(Part):
    """An FFN that is a choice of experts."""

    kind: Literal["moe"] = "moe"
    """A choice of experts."""
    experts: Count
    """Routed experts of a layer."""
    experts_per_token: Count
    """How many of them a token goes through."""
    expert_hidden: Count
    """An expert's inner width."""
    shared_experts: int = Field(0, ge=0, le=1 << 20)
    """Experts of the same width that every token goes through."""
    shared_hidden: Several = 0
    """Inner width of one more such expert, where it is no multiple of `expert_hidden`."""
    dense_layers: int = Field(0, ge=0, le=MOST_LAYERS)
    """First layers, which have an ordinary FFN of width `ffn_hidden`."""
    router_bias: bool = False
    """The router adds a bias to each expert's score."""
    router_outputs: Annotated[int, Field(ge=0, le=1 << 24)] = 0
    """Scores that the router gives beyond those of experts: for experts that do nothing."""
    gated: bool | None = None
    """Experts have three matrices; false: two. Left out: the model's `gated_ffn`."""
    bias: bool = False
    """Experts' products have biases."""
    shared_gate: bool = False
    """What the shared experts add is gated by a number."""
    latent: Count | None = None
    """Width that routed experts work in, between a projection down and one up for all of them."""
    latent_norm: bool = False
    """What comes in there is normalised, with weights."""

    @property
    def three(self) -> bool:
        """Whether an expert has three matrices."""
        return self.gated is not False

    def routed(self, hidden: int) -> tuple[Matrix, ...]:
        """All routed experts' matrices."""
        inner = self.latent or hidden
        return _ffn(inner, self.expert_hidden, self.three, "experts", self.experts)

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """What every token meets: the router, shared experts, projections around routed ones."""
        outputs = self.experts + self.router_outputs
        found = [Matrix("router", hidden, outputs, "router", "none")]
        width = self.shared_width
        if width:
            found += _ffn(hidden, width, self.three, "shared")
        if self.shared_gate:
            found.append(Matrix("shared_gate", hidden, 1, "other", "none"))
        if self.latent is not None:
            found.append(Matrix("latent_down", hidden, self.latent, "shared", "none"))
            found.append(Matrix("latent_up", self.latent, hidden, "shared", "none"))
        return tuple(found)

    @property
    def shared_width(self) -> int:
        """Inner width of all shared experts together."""
        return self.shared_experts * self.expert_hidden + self.shared_hidden

    def vectors(self, hidden: int) -> int:
        """The router's biases, and the experts'."""
        count = self.router_vectors
        if self.latent_norm:
            count += self.latent or 0
        return count + self.experts * self.expert_vectors(hidden)

    @property
    def router_vectors(self) -> int:
        """The router's biases."""
        return self.experts + self.router_outputs if self.router_bias else 0

    def expert_vectors(self, hidden: int) -> int:
        """Biases of one routed expert."""
        if not self.bias:
            return 0
        return self.expert_hidden * (2 if self.three else 1) + (self.latent or hidden)

    def expert_parameters(self, hidden: int) -> int:
        """Weights of one routed expert's products."""
        return sum(each.weights for each in self.routed(hidden)) // self.experts
