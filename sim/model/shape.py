"""Shape: what a model file says of a decoder, and the layers that follow from it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Self, TypeAlias

from pydantic import Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text, Word
from vsim.sim.model.layer import Ffn, Layer, Mixer
from vsim.sim.model.parts.attention import CrossAttention, GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.ffn import MOST_LAYERS, DenseFfn, LinearFfn, Moe
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.model.parts.linear import GatedDeltaNet, KimiDeltaAttention, LightningAttention
from vsim.sim.model.parts.part import Count, Part, Several
from vsim.sim.model.parts.state_space import LinearUnit, Mamba, Mamba2, ShortConvolution
from vsim.sim.model.pattern import Run, layer_names
from vsim.sim.model.weight_format import Declared
from vsim.traces.faults import suggestion

AnyPart: TypeAlias = Annotated[
    GroupedAttention
    | LatentAttention
    | CompressedAttention
    | CrossAttention
    | GatedDeltaNet
    | KimiDeltaAttention
    | LightningAttention
    | Mamba
    | Mamba2
    | ShortConvolution
    | LinearUnit
    | DenseFfn
    | LinearFfn
    | Moe,
    Field(discriminator="kind"),
]
_FFNS = DenseFfn | LinearFfn | Moe
_OWN = ("attention", "dense", "experts")
_NOTHING = "nothing"


class SlidingWindow(Part):
    """Layers that attend to the last tokens only."""

    tokens: Annotated[int, Field(ge=1, le=1 << 40)]
    """How far back such a layer sees."""
    layers: Count
    """How many of the layers are such; they are spread evenly."""


class PerLayerInputs(Part):
    """A second embedding that each layer has a piece of (Gemma 3n)."""

    width: Count
    """Width of a layer's piece."""
    vocabulary: Count
    """Rows of that embedding."""


class Shape(Part):
    """A decoder's shape.

    The fields from `heads` to `moe` say what a layer has. Where layers differ, `parts` names what
    else there is, and `pattern` which of it each layer has.
    """

    name: Word
    """Its name."""
    source: Text = ""
    """Where the shape is from."""
    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    """Decoder layers."""
    hidden: Count
    """Width of the residual stream."""
    heads: Several = 0
    """Query heads; left out only where no layer attends."""
    kv_heads: Several = 0
    """Key and value heads; with MLA all heads share one latent, and this equals `heads`."""
    head_dim: Several = 0
    """Width of a query head (with MLA: of its two parts together)."""
    ffn_hidden: Count | None = None
    """Inner width of an ordinary FFN; left out where no layer has one."""
    vocabulary: Count
    """Rows of the embedding."""
    tied_embeddings: bool = False
    """The LM head is the embedding."""
    gated_ffn: bool = True
    """The FFN has three matrices (gate, up, down); false: two."""
    ffn_bias: bool = False
    """The FFN's products have biases."""
    qkv_bias: bool = False
    """Query, key and value projections have biases."""
    qk_norm: bool = False
    """Each query and key head is normalised, with one weight a dimension for all heads."""
    norms_per_layer: int = Field(2, ge=0, le=12)
    """Norms over the residual stream in a layer."""
    norm_bias: bool = False
    """Norms have a bias beside their weight."""
    attention: Annotated[GroupedAttention | LatentAttention, Field(discriminator="kind")] = (
        GroupedAttention()
    )
    """How keys and values are kept."""
    sliding_window: SlidingWindow | None = None
    """Layers that see a window only; left out: none."""
    moe: Moe | None = None
    """Experts; left out: every FFN is an ordinary one."""
    parts: dict[Word, AnyPart] = Field(default_factory=dict)
    """Further parts of layers, by name."""
    pattern: tuple[Run, ...] = ()
    """Each layer's parts by name: those of `parts`, or `attention`, `dense` (the FFN of width
    `ffn_hidden`) and `experts` (`moe`). Left out: attention, and experts where there are."""
    positions: Several = 0
    """Learned position embeddings."""
    embedding_width: Count | None = None
    """Width of the embedding, with a projection to the residual stream and one back; left out:
    the residual stream's."""
    head_bias: bool = False
    """The LM head has a bias."""
    per_layer_inputs: PerLayerInputs | None = None
    """A second embedding; left out: none."""
    other_per_layer: Several = 0
    """Weights of a layer that nothing else here counts, in bf16; every token meets them."""
    other: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """The same, of the model."""
    declared: Declared = Declared()
    """Precisions that its checkpoint was published in."""
    apart: dict[Word, Annotated[int, Field(ge=0, le=1 << 50)]] = Field(default_factory=dict)
    """Weights beside the decoder, by name (`mtp`, `vision`); they count nowhere."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [*self._pattern_faults(), *self._ffn_faults()]
        if not faults:
            faults = [*self._head_faults()]
        window = self.sliding_window
        if window is not None and window.layers > self.layers:
            message = f"{window.layers} is more than the model's {self.layers} layers"
            faults.append((("sliding_window", "layers"), f"{message}; write at most that"))
        if faults:
            raise FieldsError(faults)
        return self

    def _pattern_faults(self) -> Iterator[tuple[Place, str]]:
        """Names that are not there, parts that no layer has, and a wrong number of layers."""
        for name in _OWN:
            if name in self.parts:
                yield ("parts", name), "is the model's own part; write another name"
        if not self.pattern:
            for name in self.parts:
                yield ("parts", name), "does nothing without a pattern; write `pattern:` or remove"
            return
        known = (*_OWN, _NOTHING, *self.parts)
        for at, run in enumerate(self.pattern):
            for index, text in enumerate(run.layers):
                for name in text.split():
                    if name not in known:
                        hint = suggestion(name, known)
                        yield ("pattern", at, "layers", index), f"no part '{name}'{hint}"
        for name in self.parts:
            if name not in self._used:
                yield ("parts", name), "does nothing, since no layer has it; remove it"
        count = len(layer_names(self.pattern))
        if count != self.layers:
            yield ("layers",), f"{self.layers} is not the pattern's {count} layers; write {count}"
        if self.sliding_window is not None:
            message = "does nothing beside a pattern; write a part of kind gqa with a window"
            yield ("sliding_window",), message
        if self.moe is not None and self.moe.dense_layers:
            message = "does nothing beside a pattern; name the layers there, and remove this"
            yield ("moe", "dense_layers"), message

    @property
    def _used(self) -> set[str]:
        """Names of the parts that layers have."""
        if self.pattern:
            return {each for name in layer_names(self.pattern) for each in name.split()}
        dense = self.layers if self.moe is None else self.moe.dense_layers
        used = {"attention"} | ({"dense"} if dense else set())
        return used | ({"experts"} if self.moe is not None else set())

    def _ffn_faults(self) -> Iterator[tuple[Place, str]]:
        if self.moe is not None:
            if self.moe.experts_per_token > self.moe.experts:
                message = f"{self.moe.experts_per_token} is more than the {self.moe.experts} there"
                yield ("moe", "experts_per_token"), f"{message} are; write at most that"
            if self.moe.dense_layers >= self.layers:
                message = f"{self.moe.dense_layers} leaves no layer with experts; write less than"
                yield ("moe", "dense_layers"), f"{message} {self.layers}"
        for name, part in self.parts.items():
            if isinstance(part, Moe) and part.dense_layers:
                message = "does nothing in a part; name the layers in the pattern, and remove this"
                yield ("parts", name, "dense_layers"), message
            if isinstance(part, Moe) and part.experts_per_token > part.experts:
                message = f"{part.experts_per_token} is more than the {part.experts} there are"
                yield ("parts", name, "experts_per_token"), f"{message}; write at most that"
        dense, why = "dense" in self._used, "every layer has experts"
        if dense and self.ffn_hidden is None:
            yield ("ffn_hidden",), "is missing; write an ordinary FFN's inner width"
        if not dense and self.ffn_hidden is not None:
            if self.pattern:
                why = "no layer has the part `dense`"
            yield ("ffn_hidden",), f"does nothing, since {why}; remove it"
        if self.pattern and ("experts" in self._used) != (self.moe is not None):
            if self.moe is None:
                yield ("moe",), "is missing; write the experts that the pattern names"
            else:
                yield ("moe",), "does nothing, since no layer has the part `experts`; remove it"

    def _head_faults(self) -> Iterator[tuple[Place, str]]:
        """Heads that are missing or do not divide, of the model and of its parts."""
        parts: dict[Place, AnyPart] = {
            ("parts", name): part for name, part in self.parts.items() if name in self._used
        }
        if "attention" in self._used:
            parts[()] = self.attention
        for place, part in parts.items():
            names: tuple[str, ...] = ()
            if isinstance(part, GroupedAttention):
                names = ("heads", "kv_heads", "head_dim")
            elif isinstance(part, LatentAttention):
                names = ("heads",)
                if not place:
                    yield from self._latent_faults(part)
            missing = [
                name for name in names if not (getattr(part, name, None) or getattr(self, name))
            ]
            for name in missing:
                yield (name,), f"is missing; write `{name}: 1`"
            if missing or not isinstance(part, GroupedAttention | CrossAttention):
                continue
            heads, cached = part.heads or self.heads, part.kv_heads or self.kv_heads
            if heads % cached:
                message = f"{cached} does not divide the {heads} heads; write a divisor"
                yield (*place, "kv_heads"), message
            if isinstance(part, GroupedAttention) and part.window and part.chunk:
                yield (*place, "chunk"), "stands beside a window; write one of the two"

    def _latent_faults(self, part: LatentAttention) -> Iterator[tuple[Place, str]]:
        width = part.key_width
        if self.head_dim != width:
            message = f"{self.head_dim} is not the sum of a head's two parts; write {width}"
            yield ("head_dim",), message
        if self.heads and self.kv_heads != self.heads:  # without, that is the fault
            message = f"{self.kv_heads} has no meaning with MLA; write {self.heads}, as heads"
            yield ("kv_heads",), message

    @cached_property
    def stack(self) -> tuple[Layer, ...]:
        """The layers, one by one, each part with all its numbers."""
        known = {name: self._filled(part) for name, part in self.parts.items()}
        known["attention"] = self._filled(self.attention)
        if self.ffn_hidden is not None:
            known["dense"] = self._filled(DenseFfn(kind="dense", width=self.ffn_hidden))
        if self.moe is not None:
            known["experts"] = self._filled(self.moe)
        window = self.sliding_window
        if window is not None and isinstance(known["attention"], GroupedAttention):
            known["window"] = known["attention"].model_copy(update={"window": window.tokens})
        made = {name: _layer(name, known) for name in set(self._layer_names)}
        return tuple(made[name] for name in self._layer_names)

    @cached_property
    def kinds(self) -> Mapping[Layer, int]:
        """Kinds of layers in order of the first of each, and how many there are."""
        return Counter(self.stack)

    def __hash__(self) -> int:
        """Of numbers that tell most models apart: dictionaries of parts have none."""
        return hash((self.name, self.layers, self.hidden, self.vocabulary, self.ffn_hidden))

    def __copy__(self) -> Self:
        """A copy whose fields can be changed: without what was worked out from them."""
        copied = super().__copy__()
        for name in set(copied.__dict__) - set(type(self).model_fields):
            del copied.__dict__[name]
        return copied

    @property
    def _layer_names(self) -> tuple[str, ...]:
        if self.pattern:
            return layer_names(self.pattern)
        near = 0 if self.sliding_window is None else self.sliding_window.layers
        windowed = near and isinstance(self.attention, GroupedAttention)
        dense = self.layers if self.moe is None else self.moe.dense_layers
        names = []
        for layer in range(self.layers):
            # Window n of `near` comes at or after layer n · layers / near.
            is_near = -(-(layer + 1) * near // self.layers) > -(-layer * near // self.layers)
            mixer = "window" if windowed and is_near else "attention"
            names.append(f"{mixer} {'dense' if layer < dense else 'experts'}")
        return tuple(names)

    def _filled(self, part: AnyPart) -> AnyPart:
        """A part with the model's numbers where it leaves its own out."""
        update: dict[str, object] = {}
        if isinstance(part, GroupedAttention):
            names = ("heads", "kv_heads", "head_dim", "qkv_bias")
            update = {name: getattr(self, name) for name in names if getattr(part, name) is None}
            if part.qk_norm is None:
                update["qk_norm"] = "head" if self.qk_norm else "none"
        elif isinstance(part, LatentAttention) and part.heads is None:
            update["heads"] = self.heads
        elif isinstance(part, DenseFfn | Moe):
            if part.gated is None:
                update["gated"] = self.gated_ffn
            if isinstance(part, DenseFfn) and part.bias is None:
                update["bias"] = self.ffn_bias
        return part.model_copy(update=update) if update else part


def _layer(text: str, known: dict[str, AnyPart]) -> Layer:
    mixers: list[Mixer] = []
    ffns: list[Ffn] = []
    for name in text.split():
        if name == _NOTHING:
            continue
        part = known[name]
        if isinstance(part, _FFNS):
            ffns.append(part)
        else:
            mixers.append(part)
    return Layer(tuple(mixers), tuple(ffns))
