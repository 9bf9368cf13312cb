"""Layer: the parts of one layer of a model, with all their numbers."""

from dataclasses import dataclass
from typing import TypeAlias

from vsim.sim.model.parts.attention import CrossAttention, GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.ffn import DenseFfn, LinearFfn, Moe
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.model.parts.linear import GatedDeltaNet, KimiDeltaAttention, LightningAttention
from vsim.sim.model.parts.matrix import Matrix
from vsim.sim.model.parts.state_space import LinearUnit, Mamba, Mamba2, ShortConvolution

Attention: TypeAlias = GroupedAttention | LatentAttention | CompressedAttention
"""Mixers that keep something of each token."""
Recurrent: TypeAlias = (
    GatedDeltaNet
    | KimiDeltaAttention
    | LightningAttention
    | Mamba
    | Mamba2
    | ShortConvolution
    | LinearUnit
)
"""Mixers that keep a state."""
Mixer: TypeAlias = Attention | CrossAttention | Recurrent
Ffn: TypeAlias = DenseFfn | LinearFfn | Moe


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its mixers side by side, then its FFNs side by side. Either may be missing."""

    mixers: tuple[Mixer, ...]
    ffns: tuple[Ffn, ...]

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Every product's weights but the routed experts'."""
        return tuple(each for part in self.parts for each in part.matrices(hidden))

    def vectors(self, hidden: int) -> int:
        """Biases, norms inside the parts, convolutions and the like."""
        return sum(part.vectors(hidden) for part in self.parts)

    @property
    def parts(self) -> tuple[Mixer | Ffn, ...]:
        """All parts."""
        return (*self.mixers, *self.ffns)

    @property
    def moe(self) -> Moe | None:
        """Its choice of experts, if it has one."""
        return next((each for each in self.ffns if isinstance(each, Moe)), None)

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Its mixers that attend to tokens."""
        kinds = GroupedAttention | LatentAttention | CompressedAttention
        return tuple(each for each in self.mixers if isinstance(each, kinds))
