"""Decoders with an ordinary FFN beside experts, or experts in keys of their own."""

from vsim.sim.model.reading.attention import (
    heads_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import expert_layers, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import attend, dense_width, feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits


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
