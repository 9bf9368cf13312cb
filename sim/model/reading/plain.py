"""Decoders that are attention and an FFN in each layer."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.attention import (
    HEADS,
    flag,
    grouped_attention,
    heads_of,
    kinds_of_layers,
    qk_norm,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, expert_layers, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.latent import latent_attention
from vsim.sim.model.reading.traits import Traits


def plain(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Attention in every layer, latent where the file has latents, and FFNs."""
    attend(keys, draft, traits)
    feed_forward(keys, draft, traits)


def attend(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Every layer's attention."""
    heads = read_heads(keys, draft, traits)
    keys.see("use_mla", "qk_nope_head_dim", "qk_rope_head_dim")
    latent = keys.values.get("use_mla") is not False and keys.whole("kv_lora_rank") is not None
    if latent:
        keys.see("layer_types", "attention_bias")
        draft.mixers = latent_attention(keys, draft, heads)
        return
    if keys.values.get("use_mla") is False:  # the class's width is that of a latent's rotary part
        keys.forget_default("head_dim")
    heads_of(keys, draft, heads)
    kinds = kinds_of_layers(keys, draft, traits)
    draft.mixers = grouped_attention(keys, draft, traits, _listed_as_linear(keys, draft, kinds))
    _shared_between_layers(keys, draft)


def _shared_between_layers(keys: Keys, draft: Draft) -> None:
    """Hunyuan's cross-layer attention: of so many layers only the first has keys and values."""
    factor = keys.whole("cla_share_factor") or 1
    if not keys.yes("use_cla") or factor == 1:
        return
    own = draft.fields.get("attention", {"kind": "gqa"})
    reuses = draft.part("reusing", own | {"projects_kv": False, "keeps_kv": False})
    draft.mixers = [reuses if at % factor else each for at, each in enumerate(draft.mixers)]


def read_heads(keys: Keys, draft: Draft, traits: Traits) -> int:
    """Query heads, and the biases and norms of queries and keys that are the model's."""
    heads = keys.need("the number of query heads", *HEADS)
    draft.fields["heads"] = heads
    if flag(keys, traits.qkv_bias):
        draft.fields["qkv_bias"] = True
    if qk_norm(keys, traits) == "head":
        draft.fields["qk_norm"] = True
    return heads


def _listed_as_linear(keys: Keys, draft: Draft, kinds: list[str]) -> list[str]:
    """Refuse layers without attention in a family that is not known to have them."""
    types = keys.each(draft.layers, "attn_type_list")
    if types is not None and not all(each == 1 for each in types):
        message = "has layers of linear attention, whose shape this model_type does not say"
        keys.complain("attn_type_list", f"{message}; write a .yaml file of parts and a pattern")
    for kind in kinds:
        if kind not in ("full", "window", "chunk"):
            message = f"{show(kind)} is a kind of layer that model_type '{keys.kind}' is not known"
            message += " to have; write the model as a .yaml file of parts and a pattern"
            keys.complain("layer_types", message)
            return ["full"] * draft.layers
    return kinds


def feed_forward(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Every layer's FFN: ordinary, or experts."""
    if not traits.gated:
        draft.fields["gated_ffn"] = False
    if flag(keys, traits.ffn_bias):
        draft.fields["ffn_bias"] = True
    moe = experts(keys, traits)
    sparse = expert_layers(keys, draft, traits) if moe is not None else [False] * draft.layers
    if moe is not None:
        draft.fields["moe"] = moe
    if not all(sparse):
        draft.fields["ffn_hidden"] = dense_width(keys, draft, traits)
    else:
        keys.see(*FFN_WIDTH)
    draft.ffns = ["experts" if each else "dense" for each in sparse]


def dense_width(keys: Keys, draft: Draft, traits: Traits) -> int:
    """Inner width of an ordinary FFN; four times the residual stream's where it goes unsaid."""
    width = keys.whole("dense_intermediate_size", "prefix_dense_intermediate_size", *FFN_WIDTH)
    if width is None and not traits.gated:
        return 4 * draft.hidden
    return width or keys.need("the FFN's inner width", *FFN_WIDTH)


def dense_part(draft: Draft, width: int, **more: Any) -> str:
    """An ordinary FFN of a width of its own, by name."""
    if width == draft.fields.get("ffn_hidden") and not more:
        return "dense"
    return draft.part(f"dense_{width}", {"kind": "dense", "width": width} | more)
