"""Decoders whose layers differ in heads: Llama 4 and 3.2, MiMo-V2, Step, Laguna, OpenELM."""

from typing import Any

from vsim.sim.model.reading.attention import (
    grouped_attention,
    heads_of,
    kinds_of_layers,
    reach_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits

_TILES, _PATCHES = 4, 1601
_EXTRA_ROWS = 8


def llama4(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Llama 4: chunks but in every fourth layer; experts in every layer or every other."""
    heads_of(keys, draft, read_heads(keys, draft, traits))
    kinds = kinds_of_layers(keys, draft, traits)
    draft.mixers = grouped_attention(keys, draft, traits, kinds)
    keys.see("use_qk_norm", "no_rope_layers", "no_rope_layer_interval", "for_llm_compressor")
    found = experts(keys, traits)
    if found is None:
        keys.complain("num_local_experts", "is missing; write the number of experts")
        return
    # One shared expert, as wide as a routed one.
    draft.fields["moe"] = found | {"shared_experts": 1}
    step = keys.whole("interleave_moe_layer_step") or 1
    listed = keys.raw("moe_layers")
    sparse = [
        at in listed if isinstance(listed, list) and listed else (at + 1) % step == 0
        for at in range(draft.layers)
    ]
    draft.ffns = ["experts" if each else "dense" for each in sparse]
    wide = keys.whole("intermediate_size_mlp")
    if not all(sparse):
        draft.fields["ffn_hidden"] = wide or keys.need("the FFN's inner width", *FFN_WIDTH)


def mllama(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Llama 3.2 Vision: some layers attend to an image instead of the text.

    An image has four tiles of 1,601 tokens at most. The embedding has 8 rows more than the head.
    """
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    places = keys.numbers("cross_attention_layers") or []
    part = {
        "kind": "cross",
        "heads": heads,
        "kv_heads": draft.fields["kv_heads"],
        "head_dim": draft.fields["head_dim"],
        "tokens": _TILES * _PATCHES,
        "qk_norm": True,
    }
    cross = draft.part("cross", part)
    draft.mixers = [cross if at in places else "attention" for at in range(draft.layers)]
    draft.fields["other"] = _EXTRA_ROWS * draft.hidden
    feed_forward(keys, draft, traits)


def mimo_v2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """MiMo-V2: windowed layers with KV heads of their own, values narrower than keys."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    pattern = keys.each(draft.layers, "hybrid_layer_pattern")
    if pattern is not None:
        kinds = ["window" if each else "full" for each in pattern]
    else:
        kinds = kinds_of_layers(keys, draft, traits)
    value = keys.whole("v_head_dim")
    own: dict[str, Any] = {"kind": "gqa"} | ({"value_dim": value} if value else {})
    near: dict[str, Any] = {"kind": "gqa"} | reach_of(keys, "window")
    near |= {
        "heads": keys.whole("swa_num_attention_heads") or heads,
        "kv_heads": keys.whole("swa_num_key_value_heads") or 2 * draft.fields["kv_heads"],
        "head_dim": keys.whole("swa_head_dim") or draft.fields["head_dim"],
    }
    near_value = keys.whole("swa_v_head_dim") or value
    if near_value:
        near["value_dim"] = near_value
    if keys.yes("add_swa_attention_sink_bias", default=True):
        near["sinks"] = True
    if keys.yes("add_full_attention_sink_bias"):
        own["sinks"] = True
    draft.fields["attention"] = own
    name = draft.part("window", near)
    draft.mixers = [name if kind == "window" else "attention" for kind in kinds]
    keys.see("attention_chunk_size", "sliding_window", "sliding_window_size")
    keys.see("swa_rope_theta", "attention_value_scale")
    feed_forward(keys, draft, traits)


def step3p5(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Step-3.5 and 3.7: windowed layers may have more heads; a gate a head; one shared expert."""
    heads = read_heads(keys, draft, traits)
    keys.see("num_key_value_heads", "num_attention_groups")
    heads_of(keys, draft, heads)
    groups = keys.whole("num_attention_groups")
    if groups is not None:
        draft.fields["kv_heads"] = groups
    kinds = kinds_of_layers(keys, draft, traits)
    more = keys.whole("num_sliding_attention_heads")
    cached: int | None = None
    setting = keys.inner("attention_other_setting")
    if setting is not None:
        more = setting.whole("num_attention_heads") or more
        cached = setting.whole("num_attention_groups", "num_key_value_heads")
        setting.see("attention_type", "head_dim", "true_head_dim", "max_position_embeddings")
    names = grouped_attention(keys, draft, traits, kinds)
    for at, kind in enumerate(kinds):
        if kind == "window" and (more or cached):
            part: dict[str, Any] = {"kind": "gqa", "gate": traits.gate} | reach_of(keys, kind)
            if more:
                part["heads"] = more
            if cached:
                part["kv_heads"] = cached
            names[at] = draft.part("wide_window", part)
    draft.mixers = names
    keys.see("share_q_dim", "share_expert_dims", "use_head_wise_attn_gate", "gating")
    feed_forward(keys, draft, traits)


def laguna(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Laguna: query heads may differ by layer; a gate a head, or a number."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    kinds = kinds_of_layers(keys, draft, traits)
    each = keys.each(draft.layers, "num_attention_heads_per_layer") or [heads] * draft.layers
    gating = keys.raw("gating")
    gate = "head" if gating in (True, "per-head") else "all"
    for kind, count in zip(kinds, each, strict=True):
        part: dict[str, Any] = {"kind": "gqa", "gate": gate} | reach_of(keys, kind)
        if count != heads:
            part["heads"] = count
        draft.mixers.append(draft.part("global" if kind == "full" else kind, part))
    feed_forward(keys, draft, traits)


def step3(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Step-3: all heads share one key and value head; queries go through a latent."""
    heads = read_heads(keys, draft, traits)
    draft.fields["kv_heads"] = keys.whole("num_attention_groups", "num_key_value_heads") or 1
    draft.fields["head_dim"] = keys.whole("head_dim") or 256
    latent = keys.whole("share_q_dim") or draft.fields["head_dim"]
    draft.fields["attention"] = {"kind": "gqa", "query_latent": latent}
    draft.mixers = ["attention"] * draft.layers
    draft.fields["heads"] = heads
    feed_forward(keys, draft, traits)


def openelm(keys: Keys, draft: Draft, traits: Traits) -> None:
    """OpenELM: heads and FFN widths grow from layer to layer."""
    width = keys.need("a head's width", "head_dim")
    cached = keys.each(draft.layers, "num_kv_heads")
    queries = keys.each(draft.layers, "num_query_heads")
    factors = keys.each(draft.layers, "ffn_multipliers")
    if cached is None or queries is None or factors is None:
        keys.complain("num_query_heads", "is missing; write each layer's heads")
        return
    multiple = keys.whole("ffn_dim_divisor") or 256
    norm = "head" if keys.yes("normalize_qk_projections") else "none"
    for heads, kv_heads, factor in zip(queries, cached, factors, strict=True):
        part = {"kind": "gqa", "heads": heads, "kv_heads": kv_heads, "head_dim": width,
                "qk_norm": norm}  # fmt: skip
        draft.mixers.append(draft.part(f"attention_{heads}", part))
        # As its code rounds: to the nearest multiple, but not down by more than a tenth.
        wide = max(multiple, int(factor * draft.hidden + multiple / 2) // multiple * multiple)
        if wide < 0.9 * factor * draft.hidden:
            wide += multiple
        draft.ffns.append(draft.part(f"dense_{wide}", {"kind": "dense", "width": wide}))
    keys.see(
        "max_context_length",
        "rope_max_length",
        "num_gqa_groups",
        "qkv_multipliers",
        "ffn_with_glu",
        "share_input_output_layers",
    )
    if keys.has("share_input_output_layers"):
        draft.fields["tied_embeddings"] = keys.yes("share_input_output_layers")
