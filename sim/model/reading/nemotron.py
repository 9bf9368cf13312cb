"""Nemotron-H and 3, whose layers are a mixer or an FFN alone; Nemotron-NAS, pruned by layer."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.attention import (
    heads_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.hybrids import state_bytes
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import dense_width, feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NEMOTRON = {"mamba": "mamba", "attention": "attention", "mlp": "mlp", "moe": "moe",
             "linear_attention": "mamba", "full_attention": "attention"}  # fmt: skip


def nemotron_h(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Nemotron-H and Nemotron 3: each layer is a mixer or an FFN alone, by a pattern of letters."""
    kinds = _nemotron_kinds(keys, draft)
    draft.fields["gated_ffn"] = False
    heads_of(keys, draft, read_heads(keys, draft, traits))
    mixer: dict[str, Any] = {
        "kind": "mamba2",
        "heads": keys.need("the state space's heads", "mamba_num_heads"),
        "head_dim": keys.need("their width", "mamba_head_dim"),
        "groups": keys.need("groups of heads", "n_groups"),
        "state": keys.need("a channel's state", "ssm_state_size"),
        "conv_tokens": keys.need("the convolution's reach", "conv_kernel"),
    } | state_bytes(keys)
    keys.see("use_conv_bias", "use_bias", "mamba_proj_bias", "attention_bias", "mlp_bias")
    if keys.has("use_conv_bias") and not keys.yes("use_conv_bias"):
        mixer["conv_bias"] = False
    if keys.yes("use_bias"):
        mixer["projection_bias"] = True
    if keys.yes("mlp_bias"):
        draft.fields["ffn_bias"] = True
    keys.see("time_step_rank", "expand", "moe_shared_expert_overlap", *FFN_WIDTH)
    if "moe" in kinds:
        found = experts(keys, traits)
        if found is None:
            keys.complain("n_routed_experts", "is missing; write the number of experts")
        else:
            draft.fields["moe"] = found
    else:
        experts(keys, traits)
    if "mlp" in kinds:
        draft.fields["ffn_hidden"] = dense_width(keys, draft, traits)
    name = draft.part("mamba", mixer)
    names = {"mamba": name, "attention": "attention", "mlp": "dense", "moe": "experts"}
    draft.mixers = [names[kind] if kind in ("mamba", "attention") else "" for kind in kinds]
    draft.ffns = [names[kind] if kind in ("mlp", "moe") else "" for kind in kinds]


def _nemotron_kinds(keys: Keys, draft: Draft) -> list[str]:
    listed = keys.raw("layers_block_type", "layer_types")
    pattern = keys.word("hybrid_override_pattern")
    keys.see("hybrid_override_pattern")
    if isinstance(listed, list):
        unknown = next((each for each in listed if each not in _NEMOTRON), None)
        if unknown is not None:
            keys.complain("layers_block_type", f"{show(unknown)} is a kind that is not known here")
            return []
        return [_NEMOTRON[each] for each in listed]
    if pattern is None:
        keys.complain(
            "hybrid_override_pattern", "is missing; write each layer's kind, as M, *, -, E"
        )
        return []
    unknown = next((letter for letter in pattern if letter not in _LETTERS), None)
    if unknown is not None:
        message = f"{show(unknown)} is a kind that is not known here; M, *, - and E are"
        keys.complain("hybrid_override_pattern", message)
        return []
    return [_LETTERS[letter] for letter in pattern]


def nemotron_nas(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Nemotron-NAS: each layer's attention and FFN are kept, narrowed, a matrix, or left out."""
    heads = read_heads(keys, draft, traits)
    each = keys.numbers("num_key_value_heads_per_layer")
    if each is not None and len(each) >= draft.layers and not keys.has("block_configs"):
        _heads_by_layer(keys, draft, traits, each)
        return
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


def _heads_by_layer(keys: Keys, draft: Draft, traits: Traits, each: list[int]) -> None:
    """DeciLM-7B, the first of them: layers differ in KV heads alone."""
    heads_of(keys, draft, draft.fields["heads"])
    parts = [{"kind": "gqa", "kv_heads": max(1, count)} for count in each[: draft.layers]]
    draft.mixers = [draft.part(f"attention_{part['kv_heads']}", part) for part in parts]
    feed_forward(keys, draft, traits)


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
