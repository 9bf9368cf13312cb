"""Gemma 3n and 4: KV that layers share, a second embedding, global layers with other heads."""

from typing import Any

from vsim.sim.model.reading.attention import heads_of, kinds_of_layers, reach_of
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import dense_part, read_heads
from vsim.sim.model.reading.traits import Traits

_PERIODS = {"gemma3n": 5, "gemma4": 6}


def gemma4(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Gemma 4: global layers may have wider heads, fewer KV heads, and keys that serve as values.

    The last layers may attend to the keys and values of earlier ones; in some models these have
    FFNs of twice the width. Experts stand beside the ordinary FFN.
    """
    heads_of(keys, draft, read_heads(keys, draft, traits))
    kinds = _kinds(keys, draft, traits, _PERIODS["gemma4"])
    shared = keys.whole("num_kv_shared_layers", least=0) or 0
    same = keys.yes("attention_k_eq_v")
    wide = keys.whole("global_head_dim")
    wide = 512 if wide is None and "global_head_dim" not in keys.values else wide
    cached = keys.whole("num_global_key_value_heads")
    double = keys.yes("use_double_wide_mlp")
    width = keys.need("the FFN's inner width", *FFN_WIDTH)
    draft.fields["ffn_hidden"] = width
    moe = experts(keys, traits) if keys.yes("enable_moe_block") else None
    if moe is not None:
        draft.fields["moe"] = moe
        draft.fields["norms_per_layer"] = 7
        # The router's scales: of the residual stream, and of each expert.
        draft.fields["other_per_layer"] = draft.hidden + int(moe["experts"])
    else:
        keys.see("num_experts", "top_k_experts", "moe_intermediate_size")
    for at, kind in enumerate(kinds):
        reuses = at >= draft.layers - shared
        part: dict[str, Any] = {"kind": "gqa"} | reach_of(keys, kind)
        if kind == "full":
            if wide:
                part["head_dim"] = wide
            if same:
                part["values_are_keys"] = True
                if cached:
                    part["kv_heads"] = cached
        if reuses:
            part |= {"projects_kv": False, "keeps_kv": False}
        name = "global" if kind == "full" else kind
        draft.mixers.append(draft.part(f"{name}_reusing" if reuses else name, part))
        ffn = dense_part(draft, 2 * width) if double and reuses else "dense"
        draft.ffns.append(f"{ffn} experts" if moe is not None else ffn)
    _second_embedding(keys, draft)
    keys.see("use_bidirectional_attention")


def gemma3n(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Gemma 3n: FFN widths a layer, layers that reuse KV, low-rank branches, four streams."""
    hidden = draft.hidden
    heads_of(keys, draft, read_heads(keys, draft, traits))
    kinds = _kinds(keys, draft, traits, _PERIODS["gemma3n"])
    shared = keys.whole("num_kv_shared_layers", least=0) or 0
    widths = keys.raw("intermediate_size")
    if not isinstance(widths, list):
        widths = [keys.need("the FFN's inner width", "intermediate_size")] * draft.layers
    for at, kind in enumerate(kinds):
        reuses = at >= draft.layers - shared
        part: dict[str, Any] = {"kind": "gqa"} | reach_of(keys, kind)
        if reuses:
            part |= {"projects_kv": False, "keeps_kv": False}
        plain = part == {"kind": "gqa"}
        named = f"{kind}_reusing" if reuses else kind
        draft.mixers.append("attention" if plain else draft.part(named, part))
        width = widths[at] if at < len(widths) and type(widths[at]) is int else 1
        draft.ffns.append(draft.part(f"dense_{width}", {"kind": "dense", "width": width}))
    streams = keys.whole("altup_num_inputs") or 4
    rank = keys.whole("laurel_rank") or 64
    branch = 2 * hidden * rank + hidden
    router = hidden * streams + hidden + hidden + streams**2 + streams**3
    draft.fields["other_per_layer"] = branch + router
    draft.fields["other"] = 2 * (streams - 1) * hidden**2
    _second_embedding(keys, draft)
    keys.see("activation_sparsity_pattern", "altup_active_idx", "altup_correct_scale")


def _kinds(keys: Keys, draft: Draft, traits: Traits, period: int) -> list[str]:
    """The layers' reach; where it goes unsaid the last of a period sees all, and the last layer."""
    if keys.has("layer_types"):
        return kinds_of_layers(keys, draft, traits)
    kinds = ["window" if (at + 1) % period else "full" for at in range(draft.layers)]
    if period == _PERIODS["gemma4"]:
        kinds[-1] = "full"
    return kinds


def _second_embedding(keys: Keys, draft: Draft) -> None:
    width = keys.whole("hidden_size_per_layer_input", least=0)
    rows = keys.whole("vocab_size_per_layer_input", least=0)
    if width and rows:
        draft.fields["per_layer_inputs"] = {"width": width, "vocabulary": rows}
