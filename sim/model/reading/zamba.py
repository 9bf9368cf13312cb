"""Zamba: Mamba layers, and attention whose weights several layers share."""

from typing import Any

from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.state_spaces import mamba_part
from vsim.sim.model.reading.traits import Traits


def zamba2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Zamba2: Mamba-2 in every layer; in some, before it, one of few shared decoder layers.

    A shared layer reads the embedding beside the residual stream, so its attention is twice as
    wide, and a matrix of each place's own leads its output back. What adapts a shared FFN to each
    place counts among the layers' other weights.
    """
    hidden = draft.hidden
    kinds = keys.each(draft.layers, "layers_block_type", "layer_types")
    places = keys.numbers("hybrid_layer_ids")
    if kinds is not None:
        shared = [each == "hybrid" for each in kinds]
    else:
        shared = [at in (places or []) for at in range(draft.layers)]
    expand = keys.whole("mamba_expand") or 2
    state_heads = keys.whole("n_mamba_heads") or 8
    mamba: dict[str, Any] = {
        "kind": "mamba2",
        "heads": state_heads,
        "head_dim": keys.whole("mamba_headdim") or expand * hidden // state_heads,
        "groups": keys.whole("mamba_ngroups") or 1,
        "state": keys.whole("mamba_d_state") or 64,
        "conv_tokens": keys.whole("mamba_d_conv") or 4,
    }
    if keys.yes("add_bias_linear"):
        mamba["projection_bias"] = True
    copies = keys.whole("num_mem_blocks") or 1
    attention = _shared_attention(keys, hidden, copies)
    wide = attention["inputs"]
    width = keys.need("the FFN's inner width", "intermediate_size", "ffn_hidden_size")
    ffn = {"kind": "dense", "width": width, "copies": copies}
    name, block = draft.part("mamba", mamba), draft.part("shared", attention)
    dense, back = draft.part("shared_ffn", ffn), draft.part("back", {"kind": "linear"})
    draft.mixers = [f"{block} {name}" if each else name for each in shared]
    draft.ffns = [f"{dense} {back}" if each else "" for each in shared]
    uses = sum(shared)
    rank = keys.whole("adapter_rank") or 128
    adapters = uses * rank * (hidden + 2 * width)
    if keys.yes("use_shared_attention_adapter"):
        adapters += uses * 3 * 2 * rank * wide
    draft.fields["other"] = adapters + copies * (wide + hidden)
    keys.see("kv_channels", "num_query_groups", "use_conv_bias", "gated_linear_unit")


def zamba(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Zamba: Mamba in heads, and one shared decoder layer before some of them."""
    hidden = draft.hidden
    kinds = keys.each(draft.layers, "layers_block_type", "layer_types")
    period = keys.whole("attn_layer_period") or 6
    offset = keys.whole("attn_layer_offset", least=0) or 0
    if kinds is not None:
        shared = [each == "hybrid" for each in kinds]
    else:
        shared = [at % period == offset for at in range(draft.layers)]
        shared[:3] = [False, False, True]
    attention = _shared_attention(keys, hidden, copies=1)
    wide = attention["inputs"]
    width = keys.need("the FFN's inner width", "intermediate_size")
    mamba = mamba_part(keys, draft, prefix="mamba_")
    name, block = draft.part("mamba", mamba), draft.part("shared", attention)
    dense = draft.part("shared_ffn", {"kind": "dense", "width": width, "copies": 1})
    back = draft.part("back", {"kind": "linear"})
    draft.mixers = [f"{block} {name}" if each else name for each in shared]
    draft.ffns = [f"{dense} {back}" if each else "" for each in shared]
    draft.fields["other"] = wide + hidden
    keys.see("n_mamba_heads", "intermediate_size")


def _shared_attention(keys: Keys, hidden: int, copies: int) -> dict[str, Any]:
    """Attention of a shared layer, over the residual stream and the embedding beside it."""
    heads = keys.need("the number of query heads", "num_attention_heads")
    wide = keys.whole("attention_hidden_size") or 2 * hidden
    return {
        "kind": "gqa",
        "heads": heads,
        "kv_heads": keys.whole("num_key_value_heads") or heads,
        "head_dim": keys.whole("attention_head_dim") or wide // heads,
        "inputs": wide,
        "copies": copies,
    }
