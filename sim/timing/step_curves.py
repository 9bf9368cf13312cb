"""StepCurves: what each kind of kernel of a step takes, once model and machine are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vsim.sim.timing.curve import Curve, Grid, padded, plus
from vsim.sim.timing.joint_curves import JointCurves


@dataclass(frozen=True, slots=True, eq=False)
class StepCurves:
    """Times of a step's kernels on one server, nanoseconds. All layers are in them.

    Args:
        products: over tokens computed: projections, FFNs and experts of all layers.
        arithmetic: over the same: the part of `products` that FLOPs bound; the rest reads weights.
        head: over tokens whose successor is sampled: the LM head.
        small: over tokens computed: norms, activations, rotary embeddings, writes of KV.
        communication: over tokens computed: all-reduces and sends between GPUs.
        decode: over requests that compute one token and their mean context: their attention, in
            layers that see all of it.
        prefill: over tokens computed in longer chunks and the keys that each of them sees in the
            mean: their attention, in the same layers.
        near_decode, near_prefill: the same in layers with a window; None where there are none.
        prefill_context_ns: the least time of a prefill's attention for each token of context.
        beside_prefill: how many times as long the attention of decodes takes in a step that also
            computes chunks.
        sustained: over tokens computed: how much longer `products` take once the GPU's power limit
            has lowered its clock; None where it does not.
        sustained_attention: how much longer a prefill's attention then takes, relative.
        sustained_after_ns: arithmetic that heats without a pause before that; a pause as long
            undoes it.
        heating: over tokens computed: the part of `arithmetic` that does; None: all of it.
        cooling: as how much of a pause everything else counts.
        joint: of servers in lockstep, what all of them take together; their experts are not in
            `products` then. None for a server by itself.
        padding: over tokens computed: what `products` take longer where a step is padded to a size
            of a graph, since padding chooses other experts than the step's own tokens; None: it
            chooses as they do.
        prompts: the same for steps of prompts alone, of an engine that forms such and pads them to
            sizes of their own; None where they are padded like all others.
    """

    products: Curve
    arithmetic: Curve
    head: Curve
    small: Curve
    communication: Curve
    decode: Grid
    prefill: Grid
    near_decode: Grid | None
    near_prefill: Grid | None
    prefill_context_ns: float
    beside_prefill: float = 1.0
    sustained: Curve | None = None
    sustained_attention: float = 0.0
    sustained_after_ns: float = 0.0
    heating: Curve | None = None
    cooling: float = 1.0
    joint: JointCurves | None = None
    padding: Curve | None = None
    prompts: "StepCurves | None" = None

    @property
    def heats(self) -> Curve:
        """Over tokens computed: what heats the GPU."""
        return self.arithmetic if self.heating is None else self.heating

    def padded(self, sizes: Sequence[int]) -> "StepCurves":
        """The same for an engine that pads a step's tokens to the next of some sizes.

        Those that `padding` was made for, where there is such.
        """
        products = padded(self.products, sizes)
        return replace(
            self,
            products=products if self.padding is None else plus(products, self.padding),
            padding=None,
            arithmetic=padded(self.arithmetic, sizes),
            small=padded(self.small, sizes),
            communication=padded(self.communication, sizes),
            sustained=None if self.sustained is None else padded(self.sustained, sizes),
            heating=None if self.heating is None else padded(self.heating, sizes),
        )
