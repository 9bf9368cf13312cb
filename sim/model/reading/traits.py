"""Traits: what a family of models has that its config.json does not say."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Traits:
    """What is fixed in a family's code, or which key says it.

    Where a flag is given as a word, that key of the configuration says it.

    Args:
        gated: its FFN has three matrices.
        qkv_bias: query, key and value projections have biases.
        output_bias: so has the output projection.
        ffn_bias: so have the FFN's.
        qk_norm: queries and keys are normalised, with weights of a head or of all heads.
        norms: over the residual stream in a layer.
        norm_bias: they have biases.
        norm_weights: they have weights.
        tied: the LM head is the embedding, where the file does not say; None: not known.
        head_bias: the LM head has a bias.
        positions: the key that says how many positions are learned, with what is added to it.
        sinks: each query head has a score that takes no value.
        gate: what is attended is gated.
        router_bias: a router adds a bias to each expert's score.
        expert_bias: experts' products have biases.
        shared_gate: shared experts are gated by a number.
        rhythm_from_first: every n-th layer has experts, from the first; else from the n-th.
        windows: which layers see a window where the file lists no kinds of layers.
        pattern: of how many layers the last is full, where the file does not say.
        other_per_layer: further weights of a layer.
        build: how its layers are read.
    """

    gated: bool = True
    qkv_bias: bool | str = "attention_bias"
    output_bias: bool | str = "attention_bias"
    ffn_bias: bool | str = "mlp_bias"
    qk_norm: Literal["none", "head", "all"] | str = "none"
    norms: int = 2
    norm_bias: bool | str = False
    norm_weights: bool = True
    tied: bool | None = None
    head_bias: bool | str = False
    positions: tuple[str, int] | None = None
    sinks: bool = False
    gate: Literal["none", "head", "all"] = "none"
    router_bias: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    rhythm_from_first: bool = True
    windows: Literal["all", "none", "alternate", "period", "upper", "chunks"] = "none"
    pattern: int = 0
    other_per_layer: int = 0
    build: str = "plain"
