"""MLA and its indexers, as a configuration says them."""

from typing import Any

from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys

_FP8_KEY_BYTES = 132


def latent_attention(keys: Keys, draft: Draft, heads: int) -> list[str]:
    """The mixers of all layers: MLA, with an indexer in those that have one."""
    fields = latent_fields(keys)
    draft.fields |= {
        "kv_heads": heads,
        "head_dim": fields["qk_nope_head_dim"] + fields["qk_rope_head_dim"],
    }
    keys.see("head_dim", "qk_head_dim", "num_key_value_heads")
    index = indexer(keys)
    if index is None:
        draft.fields["attention"] = fields
        return ["attention"] * draft.layers
    shared = {"top": index["top"]}
    kinds = indexer_kinds(keys, draft.layers)
    if all(kinds):
        draft.fields["attention"] = fields | {"index": index}
        return ["attention"] * draft.layers
    draft.fields["attention"] = fields | {"index": index}
    other = draft.part("shared_choice", fields | {"index": shared})
    return ["attention" if own else other for own in kinds]


def latent_fields(keys: Keys) -> dict[str, Any]:
    """MLA's widths."""
    latent: dict[str, Any] = {
        "kind": "mla",
        "kv_lora_rank": keys.need("the latent's width", "kv_lora_rank"),
        "qk_rope_head_dim": keys.need("the rotary part's width", "qk_rope_head_dim", least=0),
        "qk_nope_head_dim": keys.need("the other part's width", "qk_nope_head_dim"),
        "v_head_dim": _value_width(keys),
    }
    query = keys.whole("q_lora_rank")
    if query is not None:
        latent["q_lora_rank"] = query
    if keys.yes("mla_use_output_gate", "use_mla_output_gate"):
        latent["gate"] = "all"
    return latent


def _value_width(keys: Keys) -> int:
    """A value's width; MiniCPM3 leaves it out, and it is the residual stream's part of a head."""
    hidden, heads = keys.whole("hidden_size"), keys.whole("num_attention_heads")
    if not keys.has("v_head_dim") and keys.kind == "minicpm3" and hidden and heads:
        keys.see("v_head_dim")
        return hidden // heads
    return keys.need("the width of a head's value", "v_head_dim")


def indexer(keys: Keys) -> dict[str, Any] | None:
    """The lightning indexer of DeepSeek-V3.2 and of those after it."""
    keys.see("index_topk", "index_n_heads", "index_head_dim")
    if not keys.has("index_topk", "index_n_heads") and not keys.defaults.get("index_n_heads"):
        return None
    width = keys.need("the width of an index key", "index_head_dim")
    return {
        "top": keys.need("how many tokens attention reads", "index_topk"),
        "heads": keys.need("the number of the indexer's heads", "index_n_heads"),
        "head_dim": width,
        # fp8 numbers and a 32-bit scale for each 128 of them, as vLLM keeps them.
        "key_bytes": width + 4 * -(-width // 128),
    }


def indexer_kinds(keys: Keys, layers: int) -> list[bool]:
    """Which layers have an indexer of their own; the others take the choice before theirs."""
    listed = keys.each(layers, "indexer_types") if keys.has("indexer_types") else None
    keys.see("index_topk_pattern", "index_topk_freq", "index_skip_topk_offset")
    if listed is not None:
        return [each != "shared" for each in listed]
    pattern = keys.word("index_topk_pattern")
    if pattern is not None and len(pattern) >= layers:
        return [letter != "S" for letter in pattern[:layers]]
    every = keys.whole("index_topk_freq") or 1
    offset = keys.whole("index_skip_topk_offset", least=0)
    offset = 2 if offset is None else offset
    return [max(layer - offset + 1, 0) % every == 0 for layer in range(layers)]
