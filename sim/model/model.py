"""Model: the bytes and FLOPs that follow from a decoder's shape.

Products count 2 FLOPs a multiply-add. Norms, activations, rotary embeddings and the softmax are
left out of FLOPs: together they are under 1 % of a layer's.
"""

from collections import Counter
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.kv_of_layers import kv_groups
from vsim.sim.model.layer import Layer
from vsim.sim.model.parts.attention import GroupedAttention
from vsim.sim.model.parts.ffn import Moe
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.model.shape import Shape
from vsim.sim.model.weight_format import Weights, head_bits, stored

__all__ = ["GroupedAttention", "LatentAttention", "Model", "Moe", "expected_experts"]

Tokens = TypeVar("Tokens", float, NDArray[np.float64])
_BF16_BYTES = 2
_BITS_OF_A_BYTE = 8
_ROWS_OF_A_PAD = 64


class Model(Shape):
    """A decoder-only transformer, or what takes a transformer's place."""

    @cached_property
    def moe_layers(self) -> int:
        """Layers that have experts."""
        return sum(count for layer, count in self.kinds.items() if layer.moe is not None)

    @property
    def routed(self) -> Moe | None:
        """The choice of experts of the layers that have one; where they differ, the first's."""
        return next((layer.moe for layer in self.stack if layer.moe is not None), None)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding, and of an LM head of its own."""
        return self.vocabulary * (self.embedding_width or self.hidden)

    @property
    def final_norm_parameters(self) -> int:
        """The norm before the LM head."""
        return self.hidden * (2 if self.norm_bias else 1)

    @property
    def _beside_parameters(self) -> int:
        """Weights beside layers, embedding, LM head and its norm; every token meets them."""
        count = self.positions * self.hidden + self.other
        if self.embedding_width is not None:
            count += 2 * self.embedding_width * self.hidden
        if self.head_bias:
            count += self.vocabulary
        if self.per_layer_inputs is not None:
            width = self.per_layer_inputs.width
            count += self.hidden * self.layers * width + width
        return count

    @property
    def _second_embedding_parameters(self) -> int:
        inputs = self.per_layer_inputs
        return 0 if inputs is None else inputs.vocabulary * self.layers * inputs.width

    @property
    def _layer_vectors(self) -> int:
        """Norms over the residual stream, and what else each layer has."""
        norms = self.norms_per_layer * self.hidden * (2 if self.norm_bias else 1)
        more = 0
        if self.per_layer_inputs is not None:
            more = 2 * self.hidden * self.per_layer_inputs.width + self.hidden
        return norms + self.other_per_layer + more

    @cached_property
    def _owned(self) -> tuple[Layer, ...]:
        """The layers with the weights that each has of its own.

        Of a part whose weights are shared, the first layers that have it hold the copies.
        """
        seen: Counter[object] = Counter()
        owned = []
        for layer in self.stack:
            kept = []
            for part in layer.parts:
                copies = getattr(part, "copies", None)
                seen[part] += 1
                if copies is None or seen[part] <= copies:
                    kept.append(part)
            mixers = tuple(each for each in layer.mixers if each in kept)
            ffns = tuple(each for each in layer.ffns if each in kept)
            same = (mixers, ffns) == (layer.mixers, layer.ffns)
            owned.append(layer if same else Layer(mixers, ffns))
        return tuple(owned)

    def expert_parameters_of(self, layer: Layer) -> int:
        """Weights of one routed expert of a layer; 0 without experts."""
        return 0 if layer.moe is None else layer.moe.expert_parameters(self.hidden)

    @property
    def expert_parameters(self) -> int:
        """Weights of one routed expert of one layer; 0 without experts."""
        return 0 if self.routed is None else self.routed.expert_parameters(self.hidden)

    def layer_parameters(self, layer: int) -> int:
        """All weights of a layer, from 0, that are its own."""
        return self._layer_parameters(self._owned[layer])

    def _layer_parameters(self, layer: Layer) -> int:
        """All weights of a layer."""
        matrices = sum(each.weights for each in layer.matrices(self.hidden))
        routed = layer.moe.experts * self.expert_parameters_of(layer) if layer.moe else 0
        return matrices + layer.vectors(self.hidden) + self._layer_vectors + routed

    @cached_property
    def parameters(self) -> int:
        """All weights, each counted once: embedding, layers, final norm, and an untied LM head."""
        total = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        total += self.final_norm_parameters + self._beside_parameters
        total += self._second_embedding_parameters
        for layer, count in Counter(self._owned).items():
            total += count * self._layer_parameters(layer)
        return total

    @cached_property
    def active_parameters(self) -> int:
        """Weights that a token meets: the LM head is one of them, embeddings are not.

        Of routed experts it meets `experts_per_token`. Weights that several layers share are met
        in each, and count once.
        """
        idle = 0 if self.tied_embeddings else self.embedding_parameters
        idle += self._second_embedding_parameters
        for layer, count in Counter(self._owned).items():
            if layer.moe is not None:
                each = self.expert_parameters_of(layer) + layer.moe.expert_vectors(self.hidden)
                idle += count * (layer.moe.experts - layer.moe.experts_per_token) * each
        return self.parameters - idle

    def expert_bytes(self, weights: Weights) -> float:
        """Bytes of one routed expert of one layer."""
        return self.expert_parameters * stored(weights, "experts").weight_bits / _BITS_OF_A_BYTE

    def experts_bytes(self, layer: int, weights: Weights) -> float:
        """Bytes of all routed experts' products of a layer."""
        found = self._owned[layer]
        if found.moe is None:
            return 0.0
        count = found.moe.experts * self.expert_parameters_of(found)
        return count * stored(weights, "experts").weight_bits / _BITS_OF_A_BYTE

    def layers_bytes(
        self, layers: range, weights: Weights, tensor: int = 1, *, routed: bool
    ) -> list[float]:
        """Bytes of each of some layers, with or without their routed experts: see `layer_bytes`."""
        known: dict[int, float] = {}
        found = []
        for layer in layers:
            kind = id(self._owned[layer])  # layers that are alike are one object
            if kind not in known:
                known[kind] = self.layer_bytes(layer, weights, tensor)
                known[kind] += self.experts_bytes(layer, weights) if routed else 0.0
            found.append(known[kind])
        return found

    def layer_bytes(self, layer: int, weights: Weights, tensor: int = 1) -> float:
        """Bytes of a layer without its routed experts.

        Products are in the precision of `weights`; router, norms and biases stay in bf16, as
        quantised checkpoints keep them.

        Args:
            layer: from 0.
            weights: their precision, or one for each part.
            tensor: GPUs that share it: a matrix that each of them holds counts for each; norms,
                some 0.01 % of a layer, count once.
        """
        found = self._owned[layer]
        total = 0.0
        for each in found.matrices(self.hidden):
            bits = stored(weights, each.role).weight_bits
            total += each.held(tensor) * bits / _BITS_OF_A_BYTE
        return total + _BF16_BYTES * (found.vectors(self.hidden) + self._layer_vectors)

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the embedding, or of an LM head of its own, in bf16."""
        return _BF16_BYTES * self.embedding_parameters

    def head_bytes(self, weights: Weights) -> float:
        """Bytes of an LM head of its own."""
        return self.embedding_parameters * head_bits(weights) / _BITS_OF_A_BYTE

    @property
    def final_norm_bytes(self) -> int:
        """Bytes of the norm before the LM head."""
        return _BF16_BYTES * self.final_norm_parameters

    @property
    def beside_bytes(self) -> int:
        """Bytes of what is neither layer, embedding, LM head nor its norm; bf16."""
        return _BF16_BYTES * (self._beside_parameters + self._second_embedding_parameters)

    def stage_bytes(self, first: int, layers: int, weights: Weights, tensor: int = 1) -> float:
        """Bytes of a pipeline stage's weights, over its `tensor` GPUs: of so many layers from one.

        The first stage also has the embedding and what stands beside it, the last the final norm
        and the LM head, which is a second copy where a tied embedding lies on another stage. Split
        over several GPUs, both have as many rows as a multiple of 64, as vLLM and SGLang pad them.
        """
        total, padded = 0.0, 1.0
        if tensor > 1:
            padded = -(-self.vocabulary // _ROWS_OF_A_PAD) * _ROWS_OF_A_PAD / self.vocabulary
        for each in self.layers_bytes(range(first, first + layers), weights, tensor, routed=True):
            total += each
        starts, ends = first == 0, first + layers == self.layers
        if ends:
            total += self.final_norm_bytes
        if starts:
            total += padded * self.embedding_bytes + self.beside_bytes
        if ends and not self.tied_embeddings:
            total += padded * self.head_bytes(weights)
        elif ends and not starts:
            total += padded * self.embedding_bytes
        return total

    def weight_bytes(self, weights: Weights) -> int:
        """Bytes of all weights, each held once; embedding and norms are bf16."""
        return round(self.stage_bytes(0, self.layers, weights))

    def kv_groups(self, kv: Precision, tensor: int = 1) -> tuple[KvGroup, ...]:
        """What each kind of layer keeps of a request, full attention first.

        Args:
            kv: precision of the KV cache.
            tensor: GPUs that share each layer. A GQA head goes to one of them while there are
                enough heads, beyond that each is held by tensor / kv_heads of them; a latent
                serves all heads, so that each of them holds it.
        """
        return self.kv_groups_of(0, self.layers, kv, tensor)

    def kv_groups_of(
        self, first: int, layers: int, kv: Precision, tensor: int = 1
    ) -> tuple[KvGroup, ...]:
        """The same of a pipeline stage: of so many layers from one on."""
        return kv_groups(self.stack[first : first + layers], kv, tensor)

    def kv_bytes_per_token(self, kv: Precision) -> int:
        """What one token writes over all layers that keep tokens, each number held once.

        An entry that stands for several tokens counts its part of a token.
        """
        per_token = sum(group.entry_bytes / group.tokens_per_entry for group in self.kv_groups(kv))
        return round(per_token)

    def kv_bytes_held(self, tokens: int, kv: Precision) -> int:
        """What one sequence of so many tokens needs after its prefill, without any state.

        A chunked layer is taken at its fullest: all of a chunk, or of a shorter sequence.
        """
        return sum(
            -(-min(tokens, group.tokens) // group.tokens_per_entry) * group.entry_bytes
            if group.kind == "chunk"
            else group.held_bytes(tokens)
            for group in self.kv_groups(kv)
            if group.kind in ("full", "window", "chunk")
        )

    def state_bytes_per_request(self, kv: Precision) -> int:
        """What one request keeps whatever its length: states, and keys of other inputs."""
        return sum(group.request_bytes for group in self.kv_groups(kv))

    @cached_property
    def flops_per_token(self) -> int:
        """FLOPs of one token's products in all layers: 2 a weight that it meets.

        A token meets attention, router, shared experts and `experts_per_token` routed ones, or the
        ordinary FFN; and states, with the FLOPs that each mixer says. Attention over the context
        and the LM head are counted apart. With MLA this holds both for keys made from latents and
        for the absorbed form.
        """
        total = 0
        for layer, count in self.kinds.items():
            weights = sum(each.weights for each in layer.matrices(self.hidden))
            if layer.moe is not None:
                weights += layer.moe.experts_per_token * self.expert_parameters_of(layer)
                weights += layer.moe.router_vectors
            states = sum(getattr(mixer, "flops_per_token", 0) for mixer in layer.mixers)
            total += count * (2 * weights + states)
        return total

    @property
    def flops_per_sampled_token(self) -> int:
        """FLOPs of the LM head for one token whose successor is sampled."""
        return 2 * self.embedding_parameters

    @property
    def flops_per_pair(self) -> int:
        """FLOPs of one query token attending to one key token, in all layers and heads.

        MLA in its absorbed form, as decodes do it.
        """
        return self._flops_per_pair(absorbed=True)

    @property
    def prefill_flops_per_pair(self) -> int:
        """The same in a prefill, which makes keys and values of MLA's latents first."""
        return self._flops_per_pair(absorbed=False)

    def _flops_per_pair(self, *, absorbed: bool) -> int:
        return sum(
            count * attention.flops_per_pair(absorbed=absorbed)
            for layer, count in self.kinds.items()
            for attention in layer.attentions
        )

    def kv_bytes_per_token_layer(self, kv: Precision) -> int:
        """Bytes of one token's keys and values in one layer, each held once; all layers alike."""
        return self.kv_bytes_per_token(kv) // self.layers


def expected_experts(experts: int, experts_per_token: int, tokens: Tokens) -> Tokens:
    """Expected number of a layer's experts that a batch of `tokens` touches.

    Each token picks k of E experts, evenly and independently, so that one expert is left out by
    all with probability (1 - k/E)^tokens.
    """
    untouched: Tokens = (1 - experts_per_token / experts) ** tokens
    return experts * (1 - untouched)
