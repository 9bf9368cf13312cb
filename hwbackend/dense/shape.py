"""`DenseShape`: what the dense parts of a decoder's step are on one GPU, their bytes and FLOPs.

The numbers are those of `vsim.sim.model.model` and `vsim.sim.timing`; nothing of them is imported
here, so that a machine which only measures needs no pydantic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vsim.traces.faults import Fault, InputError

if TYPE_CHECKING:
    from vsim.sim.model.model import Model

BF16_BYTES = 2
VECTOR = 8
"""Numbers of bf16 that a thread of the small kernels moves at once: 16 bytes."""
MOST_HIDDEN = 32_768
"""A block of 1,024 threads keeps a row of the residual stream in registers, 4 vectors each."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product of activations by a weight matrix, on one GPU.

    Args:
        name: what it is for.
        n: outputs.
        k: inputs.
    """

    name: str
    n: int
    k: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight matrix."""
        return BF16_BYTES * self.n * self.k

    def moved_bytes(self, m: int) -> int:
        """Bytes of inputs, weights and outputs for m tokens, each once; 0 for none."""
        return self.weight_bytes + BF16_BYTES * m * (self.n + self.k) if m else 0

    def flops(self, m: int) -> int:
        """FLOPs for m tokens, 2 a multiply-add."""
        return 2 * m * self.n * self.k


@dataclass(frozen=True, slots=True)
class RoutedExperts:
    """The routed experts that take the place of a layer's FFN.

    Args:
        experts: how many a layer has.
        per_token: how many a token goes through.
        width: an expert's inner width, before it is cut.
    """

    experts: int
    per_token: int
    width: int


@dataclass(frozen=True, slots=True)
class DenseShape:
    """A decoder's dense parts on one of `tensor` GPUs.

    Args:
        name: the model's.
        layers: decoder layers.
        hidden: width of the residual stream.
        heads: query heads of the whole model.
        kv_heads: key and value heads of the whole model.
        head_dim: width of a head.
        ffn_hidden: inner width of the FFN of the whole model; 0 where experts take its place.
        vocabulary: rows of the embedding.
        tied: the LM head is the embedding.
        routed: experts in place of the FFN; None without.
        tensor: GPUs that share each layer.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_hidden: int
    vocabulary: int
    tied: bool = False
    routed: RoutedExperts | None = None
    tensor: int = 1

    def __post_init__(self) -> None:
        faults = [Fault(self.name, message, place=place) for place, message in self._faults()]
        if faults:
            raise InputError(faults)

    def _faults(self) -> Iterator[tuple[str, str]]:
        tensor = self.tensor
        if self.heads % tensor:
            yield "heads", f"{self.heads} is not a multiple of {tensor} GPUs; write a divisor"
        if self.kv_heads % tensor and tensor % self.kv_heads:
            message = f"{self.kv_heads} is neither a divisor nor a multiple of {tensor} GPUs"
            yield "kv_heads", f"{message}; write a number of GPUs that is"
        if self.head_dim % (2 * VECTOR):
            message = f"{self.head_dim} is not a multiple of {2 * VECTOR}"
            yield "head_dim", f"{message}, which the rotary kernel on a GPU needs"
        if self.hidden % VECTOR or self.hidden > MOST_HIDDEN:
            message = f"{self.hidden} is not a multiple of {VECTOR} up to {MOST_HIDDEN}"
            yield "hidden", f"{message}, which the norm kernel on a GPU needs"
        width = self.routed.width if self.routed else self.ffn_hidden
        if width % (VECTOR * tensor) or not width:
            place = "moe.expert_hidden" if self.routed else "ffn_hidden"
            message = f"{width} is not a multiple of {VECTOR} times {tensor} GPUs"
            yield place, f"{message}, which the activation kernel on a GPU needs"
        if self.routed and self.ffn_hidden:
            message = f"{self.ffn_hidden} beside experts means ordinary layers before them"
            yield "ffn_hidden", f"{message}, which a GPU does not replay yet"

    @classmethod
    def of(cls, model: "Model", tensor: int = 1, weights: str = "bf16") -> Self:
        """Take the shape of a model; what the GPU has no kernels for is refused by name.

        Args:
            model: whose.
            tensor: GPUs that share each layer.
            weights: their precision.

        Raises:
            InputError: the model, or the precision, has parts that are not built here.
        """
        faults = [
            Fault(model.name, f"{message}, which a GPU does not replay yet", place=place)
            for place, message in _unsupported(model, weights)
        ]
        if faults:
            raise InputError(faults)
        moe = model.moe
        return cls(
            name=model.name,
            layers=model.layers,
            hidden=model.hidden,
            heads=model.heads,
            kv_heads=model.kv_heads,
            head_dim=model.head_dim,
            ffn_hidden=model.ffn_hidden or 0,
            vocabulary=model.vocabulary,
            tied=model.tied_embeddings,
            routed=None
            if moe is None
            else RoutedExperts(moe.experts, moe.experts_per_token, moe.expert_hidden),
            tensor=tensor,
        )

    @property
    def query_width(self) -> int:
        """Numbers of a token's queries on one GPU."""
        return self.heads // self.tensor * self.head_dim

    @property
    def gpu_kv_heads(self) -> int:
        """Key and value heads on one GPU; beyond one GPU a head, GPUs hold copies."""
        return max(self.kv_heads // self.tensor, 1)

    @property
    def kv_width(self) -> int:
        """Numbers of a token's keys on one GPU, and as many of its values."""
        return self.gpu_kv_heads * self.head_dim

    @property
    def inner(self) -> int:
        """Inner width on one GPU, of the FFN or of one expert."""
        return (self.routed.width if self.routed else self.ffn_hidden) // self.tensor

    @property
    def qkv(self) -> Product:
        """Queries, keys and values."""
        return Product("qkv", self.query_width + 2 * self.kv_width, self.hidden)

    @property
    def output(self) -> Product:
        """What attention found, back to the residual stream."""
        return Product("output", self.hidden, self.query_width)

    @property
    def gate_up(self) -> Product:
        """Gate and up of the FFN or of one expert, gates first."""
        return Product("gate_up", 2 * self.inner, self.hidden)

    @property
    def down(self) -> Product:
        """The FFN or an expert, back to the residual stream."""
        return Product("down", self.hidden, self.inner)

    @property
    def router(self) -> Product | None:
        """Scores of the experts; None without."""
        return Product("router", self.routed.experts, self.hidden) if self.routed else None

    @property
    def head(self) -> Product:
        """The LM head's rows on one GPU."""
        return Product("head", -(-self.vocabulary // self.tensor), self.hidden)

    def layer_products(self) -> tuple[Product, ...]:
        """Products of a layer that every token goes through, in the order in which they run."""
        if self.router is not None:
            return self.qkv, self.output, self.router
        return self.qkv, self.output, self.gate_up, self.down

    @property
    def layer_bytes(self) -> int:
        """Bytes of a layer's weights on one GPU: products, all experts, two norms."""
        total = sum(each.weight_bytes for each in self.layer_products())
        if self.routed:
            each_expert = self.gate_up.weight_bytes + self.down.weight_bytes
            total += self.routed.experts * each_expert
        return total + 2 * BF16_BYTES * self.hidden

    @property
    def other_bytes(self) -> int:
        """Bytes on one GPU of embedding, final norm, and an LM head of its own."""
        embedding = BF16_BYTES * self.vocabulary * self.hidden
        head = 0 if self.tied else self.head.weight_bytes
        return embedding + BF16_BYTES * self.hidden + head

    def flops(self, tokens: int, sampled: int) -> int:
        """FLOPs of a step's products on one GPU, routed experts spread evenly over GPUs."""
        layer = sum(each.flops(tokens) for each in self.layer_products())
        if self.routed:
            pairs = tokens * self.routed.per_token
            layer += self.gate_up.flops(pairs) + self.down.flops(pairs)
        return self.layers * layer + self.head.flops(sampled)

    def read_bytes(self, tokens: int, sampled: int, touched: float = 0.0) -> float:
        """Bytes that a step's products and experts move at least on one GPU.

        Args:
            tokens: computed.
            sampled: rows that the LM head sees.
            touched: experts of a layer that some token goes to, in the mean of layers.
        """
        layer = float(sum(each.moved_bytes(tokens) for each in self.layer_products()))
        if self.routed:
            each_expert = self.gate_up.weight_bytes + self.down.weight_bytes
            layer += touched * each_expert + 2 * BF16_BYTES * tokens * self.hidden
        return self.layers * layer + self.head.moved_bytes(sampled)

    def small_bytes(self, tokens: int) -> int:
        """Bytes that one layer's small kernels move, as `vsim.sim.timing.small_kernels` has them.

        Two norms read and write two numbers each, rotary embeddings read and write queries and
        keys, keys and values are read and written, the activation reads two and writes one.
        """
        numbers = 8 * self.hidden + 2 * (self.query_width + self.kv_width) + 4 * self.kv_width
        if not self.routed:
            numbers += 3 * self.inner
        return BF16_BYTES * tokens * numbers


def _unsupported(model: "Model", weights: str) -> Iterator[tuple[str, str]]:
    """Fields of a model that there are no kernels for, and what was found."""
    if weights != "bf16":
        yield "precision.weights", f"{weights} weights need products of their own"
    if model.attention.kind != "gqa":
        yield "attention.kind", f"{model.attention.kind} has projections through latents"
    if not model.gated_ffn:
        yield "gated_ffn", "an FFN of two matrices has another activation"
    if model.qkv_bias:
        yield "qkv_bias", "projections have biases"
    if model.qk_norm:
        yield "qk_norm", "query and key heads are normalised"
    if model.norms_per_layer != 2:
        yield "norms_per_layer", f"a layer has {model.norms_per_layer} norms instead of 2"
    if model.norm_bias:
        yield "norm_bias", "norms have biases"
    if model.moe is not None:
        if model.moe.shared_experts:
            yield "moe.shared_experts", "experts are shared"
        if model.moe.dense_layers:
            yield "moe.dense_layers", "some layers have an ordinary FFN"
        if model.moe.router_bias:
            yield "moe.router_bias", "the router has a bias"
        known = {"experts", "experts_per_token", "expert_hidden", *_REFUSED_OF_EXPERTS}
        for field in model.moe.model_dump(exclude_defaults=True).keys() - known:
            yield f"moe.{field}", "experts are built otherwise"
    yield from _unsupported_beside(model)


_REFUSED_OF_EXPERTS = ("shared_experts", "dense_layers", "router_bias")
_BESIDE = ("ffn_bias", "positions", "embedding_width", "head_bias", "per_layer_inputs",
           "other_per_layer", "other")  # fmt: skip


def _unsupported_beside(model: "Model") -> Iterator[tuple[str, str]]:
    """Layers that differ, attention with more than heads, and what stands beside the layers."""
    if model.pattern:
        yield "pattern", "its layers differ"
    if model.attention.kind == "gqa":
        for field in model.attention.model_dump(exclude_defaults=True):
            yield f"attention.{field}", "attention has more than heads"
    for field in _BESIDE:
        if getattr(model, field):
            yield field, "the model has weights of another kind"
