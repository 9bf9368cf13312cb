"""Decoders whose layers differ in heads or FFNs: Llama 4 and 3.2, MiMo-V2, Step, Nemotron-NAS."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.attention import grouped_attention, heads_of, kinds_of_layers, reach_of
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, expert_layers, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import attend, dense_width, feed_forward, read_heads
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


def nemotron_nas(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Nemotron-NAS: each layer's attention and FFN are kept, narrowed, a matrix, or left out."""
    heads = read_heads(keys, draft, traits)
    blocks = keys.each(draft.layers, "block_configs")
    if blocks is None or not all(isinstance(block, dict) for block in blocks):
        keys.complain("block_configs", "is missing; write each layer's attention and FFN")
        return
    draft.fields["kv_heads"] = heads
    width = keys.whole("head_dim") or draft.hidden // heads
    draft.fields["head_dim"] = width
    for block in blocks:
        attention, ffn = block.get("attention") or {}, block.get("ffn") or {}
        draft.mixers.append(_nas_attention(keys, draft, attention, heads))
        draft.ffns.append(_nas_ffn(keys, draft, ffn))
    keys.see("num_key_value_heads", "intermediate_size", "ffn_mult")


def _nas_attention(keys: Keys, draft: Draft, block: dict[str, Any], heads: int) -> str:
    if block.get("no_op"):
        return ""
    if block.get("replace_with_linear"):
        return draft.part("matrix", {"kind": "linear"})
    group = block.get("n_heads_in_group")
    cached = (
        heads // group if type(group) is int and group > 0 else block.get("num_key_value_heads")
    )
    if type(cached) is not int or cached < 1:
        keys.complain("block_configs", f"attention {show(block)} says no number of KV heads")
        return ""
    part: dict[str, Any] = {"kind": "gqa", "kv_heads": cached}
    window = block.get("window_length") or block.get("sliding_window")
    if type(window) is int:
        part["window"] = window
    if block.get("sparsify") or block.get("num_sink_tokens"):
        keys.complain("block_configs", "attention that is sparse is not known here")
    return draft.part(f"attention_{cached}", part)


def _nas_ffn(keys: Keys, draft: Draft, block: dict[str, Any]) -> str:
    if block.get("no_op"):
        return ""
    if block.get("replace_with_linear"):
        return draft.part("matrix", {"kind": "linear"})
    width, factor = block.get("intermediate_size"), block.get("ffn_mult")
    if type(width) is not int and isinstance(factor, int | float):
        # As its code rounds: two thirds, times the factor, up to a multiple of 256.
        width = -(-int(2 * factor * draft.hidden / 3) // 256) * 256
    if type(width) is not int or width < 1:
        keys.complain("block_configs", f"ffn {show(block)} says no width")
        return ""
    return draft.part(f"dense_{width}", {"kind": "dense", "width": width})


def arctic(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Arctic: experts beside an ordinary FFN as wide as the residual stream."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    draft.mixers = ["attention"] * draft.layers
    found = experts(keys, traits)
    if found is None:
        keys.complain("num_local_experts", "is missing; write the number of experts")
        return
    draft.fields["moe"] = found
    sparse = expert_layers(keys, draft, traits)
    residual = keys.yes("parallel_attn_mlp_res", "use_residual", default=True)
    keys.see("use_residual", "parallel_attn_mlp_res")
    draft.fields["ffn_hidden"] = draft.hidden if residual else dense_width(keys, draft, traits)
    beside = "dense experts" if residual else "experts"
    plain = dense_width(keys, draft, traits)
    other = draft.part("dense_plain", {"kind": "dense", "width": plain})
    draft.ffns = [beside if each else other for each in sparse]


def grok(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Grok-1 has experts, Grok-2 an ordinary FFN beside them."""
    attend(keys, draft, traits)
    beside = keys.yes("residual_moe")
    width = keys.need("the FFN's inner width", "intermediate_size")
    feed_forward(keys, draft, traits)
    if beside:
        draft.fields["ffn_hidden"] = width
        draft.ffns = ["dense experts"] * draft.layers


def dbrx(keys: Keys, draft: Draft, traits: Traits) -> None:
    """DBRX: heads and experts in groups of keys of their own."""
    heads = keys.need("the number of query heads", "n_heads")
    draft.fields["heads"] = heads
    attention, ffn = keys.inner("attn_config"), keys.inner("ffn_config")
    if attention is None or ffn is None:
        keys.complain("ffn_config" if ffn is None else "attn_config", "is missing; write it")
        return
    draft.fields["kv_heads"] = attention.need("the number of KV heads", "kv_n_heads")
    draft.fields["head_dim"] = draft.hidden // heads
    draft.fields["moe"] = {
        "experts": ffn.need("the number of experts", "moe_num_experts"),
        "experts_per_token": ffn.need("how many a token goes through", "moe_top_k"),
        "expert_hidden": ffn.need("an expert's inner width", "ffn_hidden_size"),
    }
    draft.mixers = ["attention"] * draft.layers
    draft.ffns = ["experts"] * draft.layers
    keys.see("num_key_value_heads")


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


def plamo2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """PLaMo 2: Mamba in heads, attention in one layer of so many."""
    heads = read_heads(keys, draft, traits)
    draft.fields["kv_heads"] = keys.whole("num_key_value_heads") or heads
    width = keys.need("a head's width", "hidden_size_per_head")
    draft.fields["head_dim"] = width
    draft.fields["qk_norm"] = True
    step = keys.need("how many layers a period has", "mamba_step")
    state_heads = keys.need("the state space's heads", "mamba_num_heads")
    state = keys.need("a channel's state", "mamba_d_state")
    rank = max(64, draft.hidden // 16)
    channels = state_heads * width
    part: dict[str, Any] = {
        "kind": "mamba2",
        "heads": state_heads,
        "head_dim": width,
        "groups": 1,
        "state": state,
        "conv_tokens": keys.whole("mamba_d_conv") or 4,
        "conv_bias": False,
        "norm": False,
    }
    name = draft.part("mamba", part)
    short = draft.layers <= step // 2
    attends = [
        at == draft.layers - 1 if short else at % step == step // 2 for at in range(draft.layers)
    ]
    draft.mixers = ["attention" if each else name for each in attends]
    # Its input, output and time step come from the channels instead of the residual stream.
    differs = channels * (2 * state + rank) + rank * state_heads + rank + 2 * state
    instead = draft.hidden * (2 * state + state_heads)
    states = draft.layers - sum(attends)
    draft.fields["other"] = max(0, states * (differs - instead))
    window = keys.whole("attention_window_size")
    longest = keys.whole("max_position_embeddings")
    whole = keys.raw("full_attention_idx")
    if window is not None and not (longest is not None and window >= longest):
        near = draft.part("window", {"kind": "gqa", "window": window})
        places = whole if isinstance(whole, list) else []
        draft.mixers = [
            near if mixer == "attention" and at not in places else mixer
            for at, mixer in enumerate(draft.mixers)
        ]
    keys.see("mamba_enabled", "mamba_chunk_size")
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


def phi3small(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Phi-3-small: sees blocks of the text only in every other layer; all KV is kept."""
    heads = read_heads(keys, draft, Traits(qkv_bias=True))
    heads_of(keys, draft, heads)
    draft.fields |= {"norm_bias": True, "ffn_bias": True}
    draft.fields["attention"] = {"kind": "gqa", "output_bias": True}
    draft.fields["ffn_hidden"] = keys.need("the FFN's inner width", "ff_intermediate_size",
                                           "intermediate_size")  # fmt: skip
    draft.mixers = ["attention"] * draft.layers
    draft.ffns = ["dense"] * draft.layers
    keys.see("dense_attention_every_n_layers", "blocksparse_block_size", "ff_dim_multiplier")
    keys.see("blocksparse_num_local_blocks", "blocksparse_vert_stride", "gegelu_limit")


def hyperclovax(keys: Keys, draft: Draft, traits: Traits) -> None:
    """HyperCLOVA X: a norm behind attention and FFN as well, where the file says so."""
    attend(keys, draft, traits)
    feed_forward(keys, draft, traits)
    if keys.yes("use_post_norm", default=True):
        draft.fields["norms_per_layer"] = 4


def bitnet(keys: Keys, draft: Draft, traits: Traits) -> None:
    """BitNet: a norm inside attention and one inside the FFN."""
    attend(keys, draft, traits)
    feed_forward(keys, draft, traits)
    draft.fields["other_per_layer"] = draft.hidden + draft.fields.get("ffn_hidden", 0)


def diffllama(keys: Keys, draft: Draft, traits: Traits) -> None:
    """DiffLlama: four vectors a layer weigh the difference of two attentions."""
    attend(keys, draft, traits)
    feed_forward(keys, draft, traits)
    draft.fields["other_per_layer"] = 4 * draft.fields["head_dim"]
