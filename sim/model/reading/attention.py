"""Attention in heads, and which layers see a window, as a configuration says them."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.traits import Traits

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_kv_heads",
            "num_query_groups", "n_head_kv", "num_attention_groups",
            "n_local_kv_heads")  # fmt: skip
HEAD_DIM = ("head_dim", "attention_head_dim", "kv_channels", "d_head", "attention_head_size")
_FULL = {"full_attention", "attention", "global", "global_attention", "full"}
_WINDOW = {"sliding_attention", "sliding", "local", "local_attention", "sliding_window"}
_CHUNK = {"chunked_attention", "chunk"}
RECURRENT = {"linear_attention", "mamba", "conv", "recurrent", "hybrid", "kda", "gdn"}


def heads_of(keys: Keys, draft: Draft, heads: int) -> None:
    """The model's own heads: their number, key and value heads, widths."""
    draft.fields["kv_heads"] = keys.whole(*KV_HEADS) or heads
    width = keys.whole(*HEAD_DIM)
    known = not keys.is_faulty("hidden_size") and not keys.is_faulty("num_attention_heads")
    if width is None and known and draft.hidden % heads:
        message = f"is missing, and {heads} heads do not divide {draft.hidden}"
        keys.complain("head_dim", f"{message}; write a head's width")
    draft.fields["head_dim"] = width or max(1, draft.hidden // heads)


def attention_fields(keys: Keys, traits: Traits) -> dict[str, Any]:
    """What attention has beside heads, as fields of a part; of the model where they fit there."""
    fields: dict[str, Any] = {}
    if flag(keys, traits.output_bias):
        fields["output_bias"] = True
    norm = qk_norm(keys, traits)
    if norm == "all":
        fields["qk_norm"] = "all"
    if traits.sinks:
        fields["sinks"] = True
    if traits.gate != "none":
        fields["gate"] = traits.gate
    value = keys.whole("v_head_dim", "value_head_dim", least=0)
    if value:
        fields["value_dim"] = value
    return fields


def qk_norm(keys: Keys, traits: Traits) -> str:
    """Whether queries and keys are normalised, and with weights of what."""
    norm = traits.qk_norm
    if norm in ("head", "all"):
        keys.see("use_qk_norm", "qk_norm", "use_qk_layernorm", "qk_layernorm")
    if norm in ("none", "head", "all"):
        return norm
    key, _, width = norm.partition(":")
    return (width or "head") if flag(keys, key) else "none"


def flag(keys: Keys, trait: bool | str) -> bool:
    """A trait that is fixed, or that a key says; `key=true` where the key's default is true."""
    if isinstance(trait, bool):
        return trait
    key, _, default = trait.partition("=")
    return keys.yes(key, default=default == "true")


def kinds_of_layers(keys: Keys, draft: Draft, traits: Traits) -> list[str]:
    """Each layer's reach: full, window, chunk, or the name of a mixer that keeps a state."""
    listed = keys.each(draft.layers, "layer_types", "layers_block_type")
    if listed is not None:
        keys.see(
            "sliding_window_pattern", "global_attn_every_n_layers"
        )  # the list goes before them
        return [_kind(keys, each) for each in listed]
    if keys.has("sliding_window_pattern") or traits.windows == "period":
        return _by_period(keys, draft, traits)
    if traits.windows == "alternate":
        return ["full" if at % 2 else "window" for at in range(draft.layers)]
    if traits.windows == "upper":
        first = keys.whole("max_window_layers", least=0)
        first = draft.layers if first is None else first
        windowed = keys.yes("use_sliding_window")
        return ["window" if windowed and at >= first else "full" for at in range(draft.layers)]
    if traits.windows == "chunks":
        return _by_positions(keys, draft)
    return ["window" if traits.windows == "all" else "full"] * draft.layers


def _kind(keys: Keys, value: object) -> str:
    if isinstance(value, str):
        for kind, words in (("full", _FULL), ("window", _WINDOW), ("chunk", _CHUNK)):
            if value in words:
                return kind
        if value in RECURRENT:
            return value
    keys.complain(
        "layer_types",
        f"{show(value)} is a kind of layer that is not known here; write the model as a .yaml file"
        " of parts and a pattern",
    )
    return "full"


def _by_period(keys: Keys, draft: Draft, traits: Traits) -> list[str]:
    """Of so many layers the last sees all: a number, or letters as `LLLG`."""
    value = keys.raw("sliding_window_pattern")
    if isinstance(value, str) and value and not set(value) - set("LG"):
        return ["window" if value[at % len(value)] == "L" else "full" for at in range(draft.layers)]
    period = keys.whole("sliding_window_pattern", "_sliding_window_pattern") or traits.pattern or 1
    return ["window" if (at + 1) % period else "full" for at in range(draft.layers)]


def _by_positions(keys: Keys, draft: Draft) -> list[str]:
    """Llama 4: layers with rotary positions see a chunk, the others all."""
    listed = keys.raw("no_rope_layers")
    if isinstance(listed, list) and len(listed) >= draft.layers:
        return ["chunk" if each else "full" for each in listed[: draft.layers]]
    every = keys.whole("no_rope_layer_interval") or 4
    return ["chunk" if (at + 1) % every else "full" for at in range(draft.layers)]


def reach_of(keys: Keys, kind: str) -> dict[str, int]:
    """The window or chunk of a kind of layer; empty where it reaches over the longest context."""
    keys.see("sliding_window", "attention_chunk_size", "sliding_window_size")
    if kind == "window":
        tokens = keys.whole("sliding_window", "sliding_window_size", "attention_window_size",
                            "window_size", least=0)  # fmt: skip
    elif kind == "chunk":
        tokens = keys.whole("attention_chunk_size", least=0)
    else:
        return {}
    longest = keys.whole("max_position_embeddings", "max_sequence_length", "seq_length",
                         "model_max_length", "n_positions", "max_seq_len")  # fmt: skip
    if not tokens or (longest is not None and tokens >= longest):
        return {}
    return {kind: tokens}


def grouped_attention(keys: Keys, draft: Draft, traits: Traits, kinds: list[str]) -> list[str]:
    """Name each attending layer's part; kinds that keep a state stay as they are."""
    own = attention_fields(keys, traits)
    if own:
        draft.fields["attention"] = {"kind": "gqa"} | own
    names: list[str] = []
    for kind in kinds:
        if kind not in ("full", "window", "chunk"):
            names.append(kind)
            continue
        reach = reach_of(keys, kind)
        part = {"kind": "gqa"} | own | reach
        names.append(draft.part(kind, part) if reach else "attention")
    return names
