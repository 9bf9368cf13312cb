"""Decoders with short convolutions or linear recurrent units: LFM2 and RecurrentGemma."""

from dataclasses import replace
from typing import Any

from vsim.sim.model.reading.attention import (
    kinds_of_layers,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.hybrids import hybrid
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import feed_forward
from vsim.sim.model.reading.traits import Traits


def lfm2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """LFM2: gated short convolutions, attention in some layers."""
    places = keys.raw("full_attn_idxs")
    if keys.has("layer_types") or places is None:
        kinds = kinds_of_layers(keys, draft, traits)
    else:
        kinds = ["full" if at in places else "conv" for at in range(draft.layers)]
    if keys.yes("use_sandwich_norm"):
        draft.fields["norms_per_layer"] = 4
    if keys.yes("use_attention_gate"):
        traits = replace(traits, gate="head")
    part: dict[str, Any] = {
        "kind": "short_conv",
        "width": keys.whole("conv_dim_out", "conv_dim") or draft.hidden,
        "conv_tokens": keys.need("the convolution's reach", "conv_L_cache"),
    }
    if keys.yes("conv_bias"):
        part["bias"] = True
    hybrid(keys, draft, traits, kinds, part, "conv")
    feed_forward(keys, draft, traits)
    if "ffn_hidden" in draft.fields and keys.yes("block_auto_adjust_ff_dim"):
        draft.fields["ffn_hidden"] = _adjusted(keys, draft.fields["ffn_hidden"])


def _adjusted(keys: Keys, width: int) -> int:
    """Two thirds of the stated width, times a factor, rounded up to a multiple."""
    factor = keys.raw("block_ffn_dim_multiplier")
    found = int(2 * width / 3)
    if isinstance(factor, int | float) and not isinstance(factor, bool):
        found = int(factor * found)
    multiple = keys.whole("block_multiple_of") or 1
    return -(-found // multiple) * multiple


def recurrent_gemma(keys: Keys, draft: Draft, traits: Traits) -> None:
    """RecurrentGemma: linear recurrent units, and every third layer attends to a window."""
    kinds = keys.raw("block_types", "_block_types")
    if not isinstance(kinds, list) or not kinds:
        kinds = ["recurrent", "recurrent", "attention"]
    heads = keys.need("the number of query heads", "num_attention_heads")
    part = {
        "kind": "linear_unit",
        "width": keys.whole("lru_width") or draft.hidden,
        "blocks": heads,
        "conv_tokens": keys.whole("conv1d_width") or 4,
    }
    named = {"recurrent": "recurrent", "attention": "window"}
    per_layer = [named.get(str(kinds[at % len(kinds)]), "recurrent") for at in range(draft.layers)]
    hybrid(keys, draft, traits, per_layer, part, "recurrent")
    feed_forward(keys, draft, traits)
    draft.fields["ffn_hidden"] //= 2  # its gate and its value are halves of the stated width
