"""Decoders with Mamba layers, by themselves or beside attention."""

from typing import Any

from vsim.sim.model.reading.attention import (
    kinds_of_layers,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.hybrids import hybrid, state_bytes
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import attend, feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits


def mamba_part(
    keys: Keys, draft: Draft, *, prefix: str = "", norms: bool = False
) -> dict[str, Any]:
    """A Mamba mixer under the names of Mamba itself, or of Jamba with a prefix."""
    expand = keys.whole(f"{prefix}expand") or 2
    width = None if prefix else keys.whole("intermediate_size", "d_inner")
    rank = keys.raw("mamba_dt_rank" if prefix else "time_step_rank")
    auto = -(-draft.hidden // 16)
    found: dict[str, Any] = {
        "kind": "mamba",
        "width": width or expand * draft.hidden,
        "state": keys.whole(*(("mamba_d_state",) if prefix else ("state_size",))) or 16,
        "conv_tokens": keys.whole(*(("mamba_d_conv",) if prefix else ("conv_kernel",))) or 4,
        "step_rank": rank if type(rank) is int else auto,
    }
    conv = ("mamba_conv_bias",) if prefix else ("use_conv_bias",)
    proj = ("mamba_proj_bias",) if prefix else ("use_bias",)
    if not keys.yes(*conv, default=True):
        found["conv_bias"] = False
    if keys.yes(*proj):
        found["projection_bias"] = True
    if norms:
        found["norms"] = True
    return found | state_bytes(keys)


def mamba(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Mamba and Falcon-Mamba: nothing but mixers."""
    draft.mixers = [draft.part("mamba", mamba_part(keys, draft))] * draft.layers
    draft.ffns = [""] * draft.layers


def mamba2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Mamba-2: nothing but mixers."""
    head_dim = keys.whole("head_dim", "headdim") or 64
    expand = keys.whole("expand") or 2
    part: dict[str, Any] = {
        "kind": "mamba2",
        "heads": keys.whole("num_heads", "nheads") or expand * draft.hidden // head_dim,
        "head_dim": head_dim,
        "groups": keys.whole("n_groups", "ngroups") or 1,
        "state": keys.whole("state_size", "d_state") or 128,
        "conv_tokens": keys.whole("conv_kernel", "d_conv") or 4,
    }
    if not keys.yes("use_conv_bias", default=True):
        part["conv_bias"] = False
    if keys.yes("use_bias"):
        part["projection_bias"] = True
    draft.mixers = [draft.part("mamba", part | state_bytes(keys))] * draft.layers
    draft.ffns = [""] * draft.layers


def mamba2_part(keys: Keys, draft: Draft) -> dict[str, Any]:
    """A Mamba-2 mixer under the names of Bamba, Falcon-H1 and Granite 4."""
    expand = keys.whole("mamba_expand") or 2
    width = keys.whole("mamba_d_ssm") or expand * draft.hidden
    heads = keys.need("the state space's heads", "mamba_n_heads")
    each = keys.whole("mamba_d_head") if type(keys.values.get("mamba_d_head")) is int else None
    keys.see("mamba_d_head")
    part: dict[str, Any] = {
        "kind": "mamba2",
        "heads": heads,
        "head_dim": each or max(1, width // heads),
        "groups": keys.whole("mamba_n_groups") or 1,
        "state": keys.need("a channel's state", "mamba_d_state"),
        "conv_tokens": keys.whole("mamba_d_conv") or 4,
    }
    if not keys.yes("mamba_conv_bias", default=True):
        part["conv_bias"] = False
    if keys.yes("mamba_proj_bias"):
        part["projection_bias"] = True
    return part | state_bytes(keys)


def jamba(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Jamba: Mamba, attention in one layer of a period, experts in every other."""
    period = keys.whole("attn_layer_period") or 8
    offset = keys.whole("attn_layer_offset", least=0) or 0
    kinds = ["full" if at % period == offset else "mamba" for at in range(draft.layers)]
    part = mamba_part(keys, draft, prefix="mamba_", norms=True)
    hybrid(keys, draft, traits, kinds, part, "mamba")
    feed_forward(keys, draft, traits)


def bamba(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Bamba: Mamba-2, attention in the layers that are listed."""
    places = keys.numbers("attn_layer_indices") or []
    kinds = ["full" if at in places else "mamba" for at in range(draft.layers)]
    if keys.has("layer_types", "layers_block_type"):
        kinds = kinds_of_layers(keys, draft, traits)
    hybrid(keys, draft, traits, kinds, mamba2_part(keys, draft), "mamba")
    feed_forward(keys, draft, traits)


def granite_hybrid(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Granite 4: Mamba-2 or attention; in each layer a shared FFN, and experts if there are."""
    listed = keys.has("layer_types", "layers_block_type")
    kinds = kinds_of_layers(keys, draft, traits) if listed else ["mamba"] * draft.layers
    hybrid(keys, draft, traits, kinds, mamba2_part(keys, draft), "mamba")
    moe = experts(keys, traits)
    shared = keys.need("the shared FFN's inner width", "shared_intermediate_size")
    keys.see(*FFN_WIDTH)
    if moe is None:
        draft.fields["ffn_hidden"] = shared
    else:
        draft.fields["moe"] = moe
    draft.ffns = ["dense" if moe is None else "experts"] * draft.layers


def falcon_h1(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    attend(keys, draft, traits)
    part = mamba2_part(keys, draft) | {"norm": keys.yes("mamba_rms_norm")}
    if keys.yes("projectors_bias"):
        part["projection_bias"] = True
    name = draft.part("mamba", part)
    draft.mixers = [f"{each} {name}" for each in draft.mixers]
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
