"""Decoders with linear attention in most layers: delta nets, Kimi delta, lightning."""

from typing import Any

from vsim.sim.model.reading.attention import (
    kinds_of_layers,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.hybrids import hybrid, state_bytes
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.latent import latent_fields
from vsim.sim.model.reading.plain import attend, feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits


def delta_net(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Qwen3-Next, Qwen3.5 and OLMo hybrid: gated delta nets, and every few layers attention."""
    listed = keys.has("layer_types")
    every = keys.whole("full_attention_interval") or 4
    kinds = (
        kinds_of_layers(keys, draft, traits)
        if listed
        else ["linear_attention" if (at + 1) % every else "full" for at in range(draft.layers)]
    )
    part = {
        "kind": "delta_net",
        "key_heads": keys.need("linear attention's key heads", "linear_num_key_heads"),
        "value_heads": keys.need("linear attention's value heads", "linear_num_value_heads"),
        "key_dim": keys.need("a key's width", "linear_key_head_dim"),
        "value_dim": keys.need("a value's width", "linear_value_head_dim"),
        "conv_tokens": keys.need("the convolution's reach", "linear_conv_kernel_dim"),
    } | state_bytes(keys)
    if not keys.yes("attn_output_gate", default=True):
        keys.complain("attn_output_gate", "false is not known here; write a .yaml file of parts")
    hybrid(keys, draft, traits, kinds, part, "linear")
    feed_forward(keys, draft, traits)


def kimi_linear(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Kimi-Linear: Kimi delta attention, and every few layers MLA without rotary positions."""
    heads = read_heads(keys, draft, traits)
    linear = keys.inner("linear_attn_config")
    if linear is None:
        linear = keys  # as transformers writes it: the same under names of its own
    latent = latent_fields(keys)
    keys.see("head_dim", "num_key_value_heads")
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    draft.fields |= {"kv_heads": heads, "head_dim": width, "attention": latent}
    # Layers are counted from 1 there.
    full = [each - 1 for each in linear.numbers("full_attn_layers") or []]
    linear.see("kda_layers")
    if linear is keys:
        kinds = kinds_of_layers(keys, draft, traits)
        full = [at for at, kind in enumerate(kinds) if kind == "full"]
    inner = linear is not keys
    head_dim = linear.need("a head's width", "head_dim" if inner else "linear_head_dim")
    reach = "short_conv_kernel_size" if inner else "linear_conv_kernel_dim"
    part: dict[str, Any] = {
        "kind": "kda",
        "heads": linear.need("the number of heads", "num_heads" if inner else "linear_num_heads"),
        "head_dim": head_dim,
        "conv_tokens": linear.need("the convolution's reach", reach),
        "decay_rank": head_dim,
    }
    if not linear.yes("use_full_rank_gate"):
        part["gate_rank"] = head_dim
    name = draft.part("linear", part)
    draft.mixers = ["attention" if at in full else name for at in range(draft.layers)]
    feed_forward(keys, draft, traits)


def bailing_hybrid(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Ling 2.5 and after: Kimi delta attention, and the last layer of a group MLA with a gate."""
    heads = read_heads(keys, draft, traits)
    latent = latent_fields(keys) | {"gate": "head"}
    keys.see("head_dim", "num_key_value_heads", "qk_head_dim")
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    draft.fields |= {"kv_heads": heads, "head_dim": width, "attention": latent}
    head_dim = keys.whole("linear_head_dim") or keys.whole("head_dim") or 128
    part = {
        "kind": "kda",
        "heads": keys.whole("linear_num_heads") or heads,
        "head_dim": head_dim,
        "conv_tokens": keys.whole("linear_conv_kernel_dim", "short_conv_kernel_size") or 4,
    }
    kinds = _grouped_kinds(keys, draft, traits)
    name = draft.part("linear", part)
    draft.mixers = ["attention" if kind == "full" else name for kind in kinds]
    feed_forward(keys, draft, traits)


def bailing_linear(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Ring-linear: lightning attention, and the last layer of a group softmax or MLA."""
    heads = keys.need("the number of query heads", "num_attention_heads")
    width = keys.whole("head_dim") or draft.hidden // heads
    part = {"kind": "lightning", "heads": heads, "head_dim": width, "qk_norm": True}
    kinds = _grouped_kinds(keys, draft, traits)
    keys.see("group_norm_size", "linear_silu")
    if keys.whole("kv_lora_rank") is None:
        hybrid(keys, draft, traits, kinds, part, "linear")
    else:
        attend(keys, draft, traits)
        name = draft.part("linear", part)
        draft.mixers = [
            mixer if kind == "full" else name
            for mixer, kind in zip(draft.mixers, kinds, strict=True)
        ]
    feed_forward(keys, draft, traits)


def _grouped_kinds(keys: Keys, draft: Draft, traits: Traits) -> list[str]:
    """The last layer of each group attends, and so do those behind the last whole group."""
    if keys.has("layer_types"):
        return kinds_of_layers(keys, draft, traits)
    size = keys.need("how many layers a group has", "layer_group_size")
    whole = draft.layers // size * size
    return [
        "full" if (at + 1) % size == 0 or at >= whole else "linear_attention"
        for at in range(draft.layers)
    ]


def lightning(keys: Keys, draft: Draft, traits: Traits) -> None:
    """MiniMax-Text-01 and M1: lightning attention, and every eighth layer softmax.

    Where a file lists no kinds, transformers' class takes them in turn, from softmax on.
    """
    types = keys.each(draft.layers, "attn_type_list")
    if types is not None:
        kinds = ["full" if each == 1 else "linear_attention" for each in types]
    elif keys.has("layer_types"):
        kinds = kinds_of_layers(keys, draft, traits)
    else:
        kinds = ["linear_attention" if at % 2 else "full" for at in range(draft.layers)]
    heads = keys.need("the number of query heads", "num_attention_heads")
    width = keys.whole("head_dim") or draft.hidden // heads
    part = {"kind": "lightning", "heads": heads, "head_dim": width}
    hybrid(keys, draft, traits, kinds, part, "linear")
    feed_forward(keys, draft, traits)
