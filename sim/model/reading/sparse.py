"""Decoders that choose what they attend to, or compress it: DeepSeek-V4, MiniMax-M3; LongCat."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.attention import HEADS, heads_of
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.latent import latent_fields
from vsim.sim.model.reading.plain import feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits

_V4_KINDS = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128,
             "sliding_attention": 0}  # fmt: skip


def deepseek_v4(keys: Keys, draft: Draft, traits: Traits) -> None:
    """DeepSeek-V4: a window, and one entry for 4 tokens (chosen by an indexer) or for 128."""
    hidden = draft.hidden
    heads = keys.need("the number of query heads", *HEADS)
    width = keys.need("the width of the key-value vector", "head_dim")
    keys.see("num_key_value_heads", "intermediate_size", "attention_bias", "mlp_bias")
    index_width = keys.need("the width of an index key", "index_head_dim")
    index = {
        "heads": keys.need("the number of the indexer's heads", "index_n_heads"),
        "head_dim": index_width,
        "top": keys.need("how many entries attention reads", "index_topk"),
        "key_bytes": 2 * index_width,
        "norm_vectors": 0,
    }
    base: dict[str, Any] = {
        "kind": "compressed",
        "heads": heads,
        "head_dim": width,
        "rotary_dim": keys.whole("qk_rope_head_dim") or 64,
        "q_lora_rank": keys.need("the query latent's width", "q_lora_rank"),
        "output_groups": keys.need("groups of heads in the output", "o_groups"),
        "output_rank": keys.need("the width of a group's output", "o_lora_rank"),
        "window": keys.need("the window's tokens", "sliding_window"),
    }
    for ratio in _v4_ratios(keys, draft):
        part = base | ({"ratio": ratio} if ratio else {})
        # Only entries of few tokens are so many that an indexer chooses among them.
        if 0 < ratio <= 4:
            part["index"] = index
        draft.mixers.append(draft.part(f"ratio_{ratio}" if ratio else "window", part))
    found = experts(keys, traits)
    if found is None:
        keys.complain("n_routed_experts", "is missing; write the number of experts")
        return
    found.pop("router_bias", None)
    draft.fields["moe"] = found
    draft.ffns = ["experts"] * draft.layers
    keys.see("num_hash_layers", "mlp_layer_types", "first_k_dense_replace")
    # Hyper-connections: two a layer, which mix copies of the residual stream (arXiv 2512.24880).
    copies = keys.whole("hc_mult") or 4
    mixes = (2 + copies) * copies
    draft.fields["other_per_layer"] = 2 * (mixes * copies * hidden + mixes + 3)
    draft.fields["other"] = copies * copies * hidden + copies + 1
    keys.see("hc_sinkhorn_iters", "hc_eps")


def _v4_ratios(keys: Keys, draft: Draft) -> list[int]:
    listed = keys.numbers("compress_ratios")
    if listed is not None and len(listed) >= draft.layers:
        return listed[: draft.layers]
    if listed is not None:
        keys.complain("compress_ratios", f"has {len(listed)} items for {draft.layers} layers")
        return []
    rates = keys.raw("compress_rates")
    stated = rates.items() if isinstance(rates, dict) else ()
    known = _V4_KINDS | {kind: rate for kind, rate in stated if type(rate) is int and rate >= 0}
    kinds = keys.each(draft.layers, "layer_types")
    if kinds is None:
        keys.complain("compress_ratios", "is missing; write each layer's tokens of an entry")
        return []
    unknown = next((each for each in kinds if each not in known), None)
    if unknown is not None:
        keys.complain("layer_types", f"{show(unknown)} is a kind of layer that is not known here")
        return []
    return [known[each] for each in kinds]


def minimax_m3(keys: Keys, draft: Draft, traits: Traits) -> None:
    """MiniMax-M3: grouped attention, in most layers to blocks that an indexer chooses."""
    heads_of(keys, draft, read_heads(keys, draft, traits))
    chooses = _m3_sparse(keys, draft)
    width = keys.whole("index_head_dim") or 128
    blocks, block = keys.whole("index_topk_blocks") or 16, keys.whole("index_block_size") or 128
    heads = keys.whole("index_n_heads") or 4
    sparse = keys.inner("sparse_attention_config")
    if sparse is not None:
        heads = sparse.whole("sparse_num_index_heads") or heads
        width = sparse.whole("sparse_index_dim") or width
        blocks = sparse.whole("sparse_topk_blocks") or blocks
        block = sparse.whole("sparse_block_size") or block
    index = {
        "top": blocks * block,
        "heads": heads,
        "head_dim": width,
        "key_bytes": 2 * width,
        "weighs_heads": False,
    }
    name = draft.part("sparse", {"kind": "gqa", "index": index})
    draft.mixers = [name if each else "attention" for each in chooses]
    feed_forward(keys, draft, traits)
    keys.see("index_local_blocks", "attention_output_gate", "qk_norm_type")


def _m3_sparse(keys: Keys, draft: Draft) -> list[bool]:
    listed = keys.each(draft.layers, "layer_types")
    if listed is not None:
        return [each != "full_attention" for each in listed]
    inner = keys.inner("sparse_attention_config")
    marks = None if inner is None else inner.each(draft.layers, "sparse_attention_freq")
    return [bool(each) for each in marks] if marks is not None else [False] * draft.layers


def longcat(keys: Keys, draft: Draft, traits: Traits) -> None:
    """LongCat-Flash: a layer is two of attention and two FFNs, with experts beside them."""
    heads = read_heads(keys, draft, traits)
    latent = latent_fields(keys)
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    draft.fields |= {"kv_heads": heads, "head_dim": width, "attention": latent}
    keys.see("head_dim", "qk_head_dim", "num_key_value_heads")
    found = experts(keys, traits)
    if found is None:
        keys.complain("n_routed_experts", "is missing; write the number of experts")
        return
    draft.fields["moe"] = found | {
        "router_outputs": keys.whole("zero_expert_num", least=0) or 0,
    }
    draft.fields["norms_per_layer"] = 4
    draft.fields["ffn_hidden"] = keys.need("the FFN's inner width", "ffn_hidden_size", *FFN_WIDTH)
    draft.mixers = ["attention attention"] * draft.layers
    draft.ffns = ["dense dense experts"] * draft.layers
    keys.see("zero_expert_type", "mla_scale_q_lora", "mla_scale_kv_lora")
