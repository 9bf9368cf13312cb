"""Decoders of 2019 to 2023, with keys of their own."""

from vsim.sim.model.reading.attention import (
    flag,
    heads_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import feed_forward, plain, read_heads
from vsim.sim.model.reading.traits import Traits


def falcon(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Falcon: one KV head unless its new form has several; one norm where both halves share it."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    # RefinedWeb is what Falcon-40B was called at first.
    new = keys.yes("new_decoder_architecture", default=keys.kind == "RefinedWeb")
    if not new:
        several = not keys.yes("multi_query", default=True)
        draft.fields["kv_heads"] = heads if several else 1
    if new or keys.yes("parallel_attn", default=True):
        draft.fields["norms_per_layer"] = keys.whole("num_ln_in_parallel_attn") or (2 if new else 1)
    keys.see("alibi", "multi_query", "parallel_attn", "num_ln_in_parallel_attn")
    draft.mixers = ["attention"] * draft.layers
    if flag(keys, traits.output_bias):
        draft.fields["attention"] = {"kind": "gqa", "output_bias": True}
    feed_forward(keys, draft, traits)


def gpt_bigcode(keys: Keys, draft: Draft, traits: Traits) -> None:
    """StarCoder: one KV head with multi_query."""
    plain(keys, draft, traits)
    draft.fields["kv_heads"] = 1 if keys.yes("multi_query", default=True) else draft.fields["heads"]


def gpt_neo(keys: Keys, draft: Draft, traits: Traits) -> None:
    """GPT-Neo: every other layer sees a window."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    own = {"kind": "gqa", "output_bias": True}
    draft.fields["attention"] = own
    kinds = keys.raw("attention_layers")
    window = keys.whole("window_size") or 256
    near = draft.part("window", own | {"window": window})
    if not isinstance(kinds, list):
        kinds = ["global", "local"] * draft.layers
    draft.mixers = ["attention" if kinds[at] == "global" else near for at in range(draft.layers)]
    keys.see("attention_types", "attention_layers", "window_size")
    feed_forward(keys, draft, traits)


def opt(keys: Keys, draft: Draft, traits: Traits) -> None:
    """OPT: the embedding of the smallest one but one is narrower than the residual stream."""
    plain(keys, draft, traits)
    width = keys.whole("word_embed_proj_dim")
    if width is not None and width != draft.hidden:
        draft.fields["embedding_width"] = width
    keys.see("do_layer_norm_before", "_remove_final_layer_norm")


def bloom(keys: Keys, draft: Draft, traits: Traits) -> None:
    """BLOOM: a norm behind the embedding, positions without weights."""
    plain(keys, draft, traits)
    draft.fields["other"] = 2 * draft.hidden


def mpt(keys: Keys, draft: Draft, traits: Traits) -> None:
    """MPT: an FFN of a multiple of the residual stream's width."""
    heads = read_heads(keys, draft, traits)
    heads_of(keys, draft, heads)
    config = keys.inner("attn_config")
    if config is not None:
        kind = config.word("attn_type")
        if kind == "multiquery_attention":
            draft.fields["kv_heads"] = 1
        draft.fields["kv_heads"] = config.whole("kv_n_heads") or draft.fields["kv_heads"]
        if config.yes("qk_ln"):
            draft.fields["attention"] = {"kind": "gqa", "qk_norm": "all"}
    draft.fields["gated_ffn"] = False
    draft.fields["ffn_hidden"] = (keys.whole("expansion_ratio") or 4) * draft.hidden
    if keys.has("no_bias") and not keys.yes("no_bias"):
        keys.complain("no_bias", "false is not known here; write the model as a .yaml file")
    draft.mixers = ["attention"] * draft.layers
    draft.ffns = ["dense"] * draft.layers
    if keys.yes("learned_pos_emb") and config is not None and not config.yes("alibi"):
        draft.fields["positions"] = keys.whole("max_seq_len") or 0


def chatglm(keys: Keys, draft: Draft, traits: Traits) -> None:
    """ChatGLM2, 3 and GLM-4-9B under their own names."""
    heads = read_heads(keys, draft, Traits(qkv_bias="add_qkv_bias"))
    heads_of(keys, draft, heads)
    grouped = keys.yes("multi_query_attention")
    groups = keys.whole("multi_query_group_num")
    draft.fields["kv_heads"] = groups if grouped and groups else heads
    draft.fields["ffn_hidden"] = keys.need("the FFN's inner width", "ffn_hidden_size",
                                           "intermediate_size")  # fmt: skip
    if keys.yes("add_bias_linear"):
        draft.fields["ffn_bias"] = True
        draft.fields["attention"] = {"kind": "gqa", "output_bias": True}
    draft.mixers = ["attention"] * draft.layers
    draft.ffns = ["dense"] * draft.layers


def qwen1(keys: Keys, draft: Draft, traits: Traits) -> None:
    """The first Qwen: the stated FFN width is that of gate and value together."""
    plain(keys, draft, traits)
    draft.fields["ffn_hidden"] //= 2
    keys.see("no_bias")
