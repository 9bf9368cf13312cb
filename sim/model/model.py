"""Model: a decoder's shape, and the bytes and FLOPs that follow from it.

Products count 2 FLOPs a multiply-add. Norms, activations, rotary embeddings and the softmax are
left out of FLOPs: together they are under 1 % of a layer's.
"""

from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text, Word
from vsim.sim.machine.machine import Precision
from vsim.sim.model.kv_groups import KvGroup

MOST_LAYERS = 2000
Count = Annotated[int, Field(ge=1, le=1 << 24)]
"""A width or a number of heads, experts or words: a hundred times the largest that there are."""
Tokens = TypeVar("Tokens", float, NDArray[np.float64])

# Bits of a weight in a linear layer. int4: groups of 128 weights share a 16-bit scale and a 4-bit
# zero point (AWQ, arXiv 2306.00978; GPTQ, arXiv 2210.17323). Scales of fp8 and int8 (one a row or
# a tile of 128 x 128) are under 0.1 % and left out.
_WEIGHT_BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4 + (16 + 4) / 128}
_BF16_BYTES = 2


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class GroupedAttention(_Part):
    """Query heads in groups that share a key and a value head; one head each is MHA, one MQA."""

    kind: Literal["gqa"] = "gqa"
    """Grouped-query attention."""


class LatentAttention(_Part):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kind: Literal["mla"]
    """Multi-head latent attention."""
    kv_lora_rank: Count
    """Width of the latent that stands for a token's keys and values."""
    qk_rope_head_dim: Count
    """Width of the rotary part of a key, shared by all heads and cached beside the latent."""
    qk_nope_head_dim: Count
    """Width of the part of each head's key that comes from the latent."""
    v_head_dim: Count
    """Width of each head's value."""
    q_lora_rank: Count | None = None
    """Width of the query's latent; null where queries are projected directly."""


class SlidingWindow(_Part):
    """Layers that attend to the last tokens only."""

    tokens: Annotated[int, Field(ge=1, le=1 << 40)]
    """How far back such a layer sees."""
    layers: Count
    """How many of the layers are such."""


class Moe(_Part):
    """Layers whose FFN is a choice of experts."""

    experts: Count
    """Routed experts of a layer."""
    experts_per_token: Count
    """How many of them a token goes through."""
    expert_hidden: Count
    """An expert's inner width."""
    shared_experts: int = Field(0, ge=0, le=1 << 20)
    """Experts of the same width that every token goes through."""
    dense_layers: int = Field(0, ge=0, le=MOST_LAYERS)
    """First layers, which have an ordinary FFN of width `ffn_hidden`."""
    router_bias: bool = False
    """The router adds a bias to each expert's score."""


class Model(_Part):
    """A decoder-only transformer's shape."""

    name: Word
    """Its name."""
    source: Text = ""
    """Where the shape is from."""
    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    """Decoder layers."""
    hidden: Count
    """Width of the residual stream."""
    heads: Count
    """Query heads."""
    kv_heads: Count
    """Key and value heads; with MLA all heads share one latent, and this equals `heads`."""
    head_dim: Count
    """Width of a query head (with MLA: of its two parts together)."""
    ffn_hidden: Count | None = None
    """Inner width of an ordinary FFN; left out where every layer has experts."""
    vocabulary: Count
    """Rows of the embedding."""
    tied_embeddings: bool = False
    """The LM head is the embedding."""
    gated_ffn: bool = True
    """The FFN has three matrices (gate, up, down); false: two."""
    qkv_bias: bool = False
    """Query, key and value projections have biases."""
    qk_norm: bool = False
    """Each query and key head is normalised, with one weight a dimension for all heads."""
    norms_per_layer: int = Field(2, ge=1, le=8)
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults: list[tuple[Place, str]] = []
        if isinstance(self.attention, LatentAttention):
            width = self.attention.qk_nope_head_dim + self.attention.qk_rope_head_dim
            if self.head_dim != width:
                message = f"{self.head_dim} is not the sum of a head's two parts; write {width}"
                faults.append((("head_dim",), message))
            if self.kv_heads != self.heads:
                message = f"{self.kv_heads} has no meaning with MLA; write {self.heads}, as heads"
                faults.append((("kv_heads",), message))
        elif self.heads % self.kv_heads:
            message = f"{self.kv_heads} does not divide the {self.heads} heads; write a divisor"
            faults.append((("kv_heads",), message))
        if self.sliding_window is not None and self.sliding_window.layers > self.layers:
            message = f"{self.sliding_window.layers} is more than the model's {self.layers} layers"
            faults.append((("sliding_window", "layers"), f"{message}; write at most that"))
        faults += self._ffn_faults()
        if faults:
            raise FieldsError(faults)
        return self

    def _ffn_faults(self) -> list[tuple[Place, str]]:
        faults: list[tuple[Place, str]] = []
        if self.moe is not None:
            if self.moe.experts_per_token > self.moe.experts:
                message = f"{self.moe.experts_per_token} is more than the {self.moe.experts} there"
                faults.append((("moe", "experts_per_token"), f"{message} are; write at most that"))
            if self.moe.dense_layers >= self.layers:
                message = f"{self.moe.dense_layers} leaves no layer with experts; write less than"
                faults.append((("moe", "dense_layers"), f"{message} {self.layers}"))
        dense = self.layers if self.moe is None else self.moe.dense_layers
        if dense and self.ffn_hidden is None:
            faults.append((("ffn_hidden",), "is missing; write an ordinary FFN's inner width"))
        if not dense and self.ffn_hidden is not None:
            message = "does nothing, since every layer has experts; remove it"
            faults.append((("ffn_hidden",), message))
        return faults

    @property
    def moe_layers(self) -> int:
        """Layers that have experts."""
        return 0 if self.moe is None else self.layers - self.moe.dense_layers

    @property
    def attention_matrix_parameters(self) -> int:
        """Weights of one layer's attention products.

        GQA: q and o are hidden x heads·head_dim, k and v hidden x kv_heads·head_dim. MLA: q through
        its latent, keys and values down to the latent and the rotary part, up to all heads, and o.
        """
        kind = self.attention
        if isinstance(kind, LatentAttention):
            queries = self.heads * self.head_dim
            if kind.q_lora_rank is None:
                query = self.hidden * queries
            else:
                query = kind.q_lora_rank * (self.hidden + queries)
            down = self.hidden * (kind.kv_lora_rank + kind.qk_rope_head_dim)
            up = kind.kv_lora_rank * self.heads * (kind.qk_nope_head_dim + kind.v_head_dim)
            return query + down + up + self.heads * kind.v_head_dim * self.hidden
        return 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim

    @property
    def vector_parameters(self) -> int:
        """One layer's norm weights and biases."""
        norms = self.norms_per_layer * self.hidden * (2 if self.norm_bias else 1)
        if isinstance(self.attention, LatentAttention):
            norms += self.attention.kv_lora_rank + (self.attention.q_lora_rank or 0)
        if self.qk_norm:
            norms += 2 * self.head_dim
        if self.qkv_bias:
            norms += (self.heads + 2 * self.kv_heads) * self.head_dim
        return norms

    def ffn_parameters(self, width: int) -> int:
        """Weights of one FFN or expert of an inner width: gate, up and down, or up and down."""
        return (3 if self.gated_ffn else 2) * self.hidden * width

    @property
    def expert_parameters(self) -> int:
        """Weights of one routed expert of one layer; 0 without experts."""
        return 0 if self.moe is None else self.ffn_parameters(self.moe.expert_hidden)

    def _has_experts(self, layer: int) -> bool:
        return self.moe is not None and layer >= self.moe.dense_layers

    def _shared_matrix_parameters(self, layer: int) -> int:
        """Weights of a layer's products that every token goes through, without the router."""
        if self.moe is not None and self._has_experts(layer):
            ffn = self.moe.shared_experts * self.expert_parameters
        else:
            ffn = self.ffn_parameters(self.ffn_hidden or 0)
        return self.attention_matrix_parameters + ffn

    def _router_parameters(self, layer: int) -> int:
        if self.moe is None or not self._has_experts(layer):
            return 0
        return (self.hidden + self.moe.router_bias) * self.moe.experts

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding, and of an LM head of its own."""
        return self.vocabulary * self.hidden

    @property
    def final_norm_parameters(self) -> int:
        """The norm before the LM head."""
        return self.hidden * (2 if self.norm_bias else 1)

    @property
    def parameters(self) -> int:
        """All weights, each counted once: embedding, layers, final norm, and an untied LM head."""
        total = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        total += self.final_norm_parameters
        for layer in range(self.layers):
            total += self._shared_matrix_parameters(layer) + self._router_parameters(layer)
            total += self.vector_parameters
            if self.moe is not None and self._has_experts(layer):
                total += self.moe.experts * self.expert_parameters
        return total

    def expert_bytes(self, precision: Precision) -> float:
        """Bytes of one routed expert of one layer."""
        return self.expert_parameters * _WEIGHT_BITS[precision] / 8

    def layer_bytes(self, layer: int, precision: Precision) -> float:
        """Bytes of a layer without its routed experts.

        Products are in `precision`; router, norms and biases stay in bf16, as quantised
        checkpoints keep them.
        """
        matrices = self._shared_matrix_parameters(layer) * _WEIGHT_BITS[precision] / 8
        return matrices + _BF16_BYTES * (self._router_parameters(layer) + self.vector_parameters)

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the embedding, or of an LM head of its own; both stay in bf16."""
        return _BF16_BYTES * self.embedding_parameters

    @property
    def final_norm_bytes(self) -> int:
        """Bytes of the norm before the LM head."""
        return _BF16_BYTES * self.final_norm_parameters

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes of all weights, each held once; embedding, LM head and norms are bf16."""
        total = self.embedding_bytes * (1.0 if self.tied_embeddings else 2.0)
        total += self.final_norm_bytes
        total += sum(self.layer_bytes(layer, precision) for layer in range(self.layers))
        if self.moe is not None:
            total += self.moe_layers * self.moe.experts * self.expert_bytes(precision)
        return round(total)

    def kv_bytes_per_token_layer(self, precision: Precision) -> int:
        """Bytes of one token's keys and values in one layer, each held once.

        GQA: 2 · kv_heads · head_dim numbers. MLA: the latent and the rotary part. bf16 takes 2
        bytes, fp8 and int8 one, with a scale a tensor that is left out; int4 half a byte and, for
        each key, value, latent or rotary vector, a 16-bit scale and a 16-bit zero point
        (arXiv 2402.02750, per-token groups).
        """
        if isinstance(self.attention, LatentAttention):
            numbers = self.attention.kv_lora_rank + self.attention.qk_rope_head_dim
            vectors = 2
        else:
            numbers = 2 * self.kv_heads * self.head_dim
            vectors = 2 * self.kv_heads
        if precision == "int4":
            return (numbers + 1) // 2 + 4 * vectors
        return numbers * (2 if precision == "bf16" else 1)

    def kv_bytes_per_token(self, precision: Precision) -> int:
        """Bytes of one token's keys and values in all layers, each held once."""
        return self.layers * self.kv_bytes_per_token_layer(precision)

    def kv_groups(self, kv: Precision, tensor: int = 1) -> tuple[KvGroup, ...]:
        """What each kind of layer keeps of a request, full attention first.

        Args:
            kv: precision of the KV cache.
            tensor: GPUs that share each layer. A GQA head goes to one of them while there are
                enough heads, beyond that each is held by tensor / kv_heads of them; a latent
                serves all heads, so that each of them holds it.
        """
        latent = isinstance(self.attention, LatentAttention)
        copies = tensor if latent else max(1, tensor // self.kv_heads)
        a_layer, window = self.kv_bytes_per_token_layer(kv), self.sliding_window
        near = 0 if window is None else window.layers
        groups = []
        if near < self.layers:
            far = self.layers - near
            groups.append(KvGroup("full", "full", far, far * a_layer, copies=copies))
        if window is not None:
            name, width = f"window_{window.tokens}", window.tokens
            group = KvGroup(name, "window", near, near * a_layer, tokens=width, copies=copies)
            groups.append(group)
        return tuple(groups)

    @property
    def flops_per_token(self) -> int:
        """FLOPs of one token's products in all layers: 2 a weight that it meets.

        A token meets attention, router, shared experts and `experts_per_token` routed ones, or the
        ordinary FFN. Attention over the context and the LM head are counted apart. With MLA this
        holds both for keys made from latents and for the absorbed form.
        """
        weights = sum(
            self._shared_matrix_parameters(layer) + self._router_parameters(layer)
            for layer in range(self.layers)
        )
        if self.moe is not None:
            weights += self.moe_layers * self.moe.experts_per_token * self.expert_parameters
        return 2 * weights

    @property
    def flops_per_sampled_token(self) -> int:
        """FLOPs of the LM head for one token whose successor is sampled."""
        return 2 * self.embedding_parameters

    @property
    def flops_per_pair(self) -> int:
        """FLOPs of one query token attending to one key token, in all layers and heads.

        GQA: 2 · head_dim for the score and as many for the value, a head. MLA in its absorbed form
        reads latents: 2 · (kv_lora_rank + rope) for the score, 2 · kv_lora_rank for the value. A
        prefill that first makes keys of latents does fewer; this counts the absorbed form for both.
        """
        if isinstance(self.attention, LatentAttention):
            kind = self.attention
            a_head = 2 * (2 * kind.kv_lora_rank + kind.qk_rope_head_dim)
        else:
            a_head = 4 * self.head_dim
        return self.layers * self.heads * a_head


def expected_experts(experts: int, experts_per_token: int, tokens: Tokens) -> Tokens:
    """Expected number of a layer's experts that a batch of `tokens` touches.

    Each token picks k of E experts, evenly and independently, so that one expert is left out by
    all with probability (1 - k/E)^tokens.
    """
    untouched: Tokens = (1 - experts_per_token / experts) ** tokens
    return experts * (1 - untouched)
