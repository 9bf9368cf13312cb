"""Decoders that are plain but for a few vectors in each layer."""

from vsim.sim.model.reading.attention import (
    heads_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import attend, feed_forward, plain, read_heads
from vsim.sim.model.reading.traits import Traits


def stablelm(keys: Keys, draft: Draft, traits: Traits) -> None:
    """StableLM: one norm where attention and FFN stand side by side, a norm a head."""
    plain(keys, draft, traits)
    if keys.yes("use_parallel_residual"):
        draft.fields["norms_per_layer"] = 1
    if keys.yes("qk_layernorm"):
        own = draft.fields.get("attention", {"kind": "gqa"})
        draft.fields["attention"] = own | {"qk_norm": "all"}


def persimmon(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Persimmon: queries and keys with norms that have biases."""
    plain(keys, draft, traits)
    if keys.yes("qk_layernorm", default=True):
        draft.fields["qk_norm"] = True
        draft.fields["other_per_layer"] = 2 * draft.fields["head_dim"]


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
