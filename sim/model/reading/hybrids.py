"""Decoders some of whose layers keep a state: linear attention, state spaces, convolutions."""

from dataclasses import replace
from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.attention import (
    RECURRENT,
    grouped_attention,
    heads_of,
    kinds_of_layers,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.experts import FFN_WIDTH, experts
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.latent import latent_fields
from vsim.sim.model.reading.plain import attend, dense_width, feed_forward, read_heads
from vsim.sim.model.reading.traits import Traits

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NEMOTRON = {"mamba": "mamba", "attention": "attention", "mlp": "mlp", "moe": "moe",
             "linear_attention": "mamba", "full_attention": "attention"}  # fmt: skip


def state_bytes(keys: Keys) -> dict[str, int]:
    """Bytes of a number of a state, where the file says float32; else the model's own 16 bits."""
    kind = keys.word("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    return {"state_bytes": 4} if kind == "float32" else {}


def _hybrid(
    keys: Keys, draft: Draft, traits: Traits, kinds: list[str], part: dict[str, Any], name: str
) -> None:
    """Attention in some layers, a part that keeps a state in the others."""
    heads_of(keys, draft, read_heads(keys, draft, traits))
    named = grouped_attention(keys, draft, traits, kinds)
    recurrent = draft.part(name, part)
    draft.mixers = [recurrent if each in RECURRENT else each for each in named]
    if all(each in RECURRENT for each in kinds):
        for field in ("heads", "kv_heads", "head_dim"):
            draft.fields.pop(field, None)


def delta_net(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Qwen3-Next, Qwen3.5 and OLMo hybrid: gated delta nets, and every few layers attention."""
    listed = keys.has("layer_types")
    every = keys.whole("full_attention_interval") or 4
    kinds = (
        kinds_of_layers(keys, draft, traits)
        if listed
        else ["linear_attention" if (at + 1) % every else "full" for at in range(draft.layers)]
    )
    part = {
        "kind": "delta_net",
        "key_heads": keys.need("linear attention's key heads", "linear_num_key_heads"),
        "value_heads": keys.need("linear attention's value heads", "linear_num_value_heads"),
        "key_dim": keys.need("a key's width", "linear_key_head_dim"),
        "value_dim": keys.need("a value's width", "linear_value_head_dim"),
        "conv_tokens": keys.need("the convolution's reach", "linear_conv_kernel_dim"),
    } | state_bytes(keys)
    if not keys.yes("attn_output_gate", default=True):
        keys.complain("attn_output_gate", "false is not known here; write a .yaml file of parts")
    _hybrid(keys, draft, traits, kinds, part, "linear")
    feed_forward(keys, draft, traits)


def kimi_linear(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Kimi-Linear: Kimi delta attention, and every few layers MLA without rotary positions."""
    heads = read_heads(keys, draft, traits)
    linear = keys.inner("linear_attn_config")
    if linear is None:
        linear = keys  # as transformers writes it: the same under names of its own
    latent = latent_fields(keys)
    keys.see("head_dim", "num_key_value_heads")
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    draft.fields |= {"kv_heads": heads, "head_dim": width, "attention": latent}
    # Layers are counted from 1 there.
    full = [each - 1 for each in linear.numbers("full_attn_layers") or []]
    linear.see("kda_layers")
    if linear is keys:
        kinds = kinds_of_layers(keys, draft, traits)
        full = [at for at, kind in enumerate(kinds) if kind == "full"]
    inner = linear is not keys
    head_dim = linear.need("a head's width", "head_dim" if inner else "linear_head_dim")
    reach = "short_conv_kernel_size" if inner else "linear_conv_kernel_dim"
    part: dict[str, Any] = {
        "kind": "kda",
        "heads": linear.need("the number of heads", "num_heads" if inner else "linear_num_heads"),
        "head_dim": head_dim,
        "conv_tokens": linear.need("the convolution's reach", reach),
        "decay_rank": head_dim,
    }
    if not linear.yes("use_full_rank_gate"):
        part["gate_rank"] = head_dim
    name = draft.part("linear", part)
    draft.mixers = ["attention" if at in full else name for at in range(draft.layers)]
    feed_forward(keys, draft, traits)


def bailing_hybrid(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Ling 2.5 and after: Kimi delta attention, and the last layer of a group MLA with a gate."""
    heads = read_heads(keys, draft, traits)
    latent = latent_fields(keys) | {"gate": "head"}
    keys.see("head_dim", "num_key_value_heads", "qk_head_dim")
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    draft.fields |= {"kv_heads": heads, "head_dim": width, "attention": latent}
    head_dim = keys.whole("linear_head_dim") or keys.whole("head_dim") or 128
    part = {
        "kind": "kda",
        "heads": keys.whole("linear_num_heads") or heads,
        "head_dim": head_dim,
        "conv_tokens": keys.whole("linear_conv_kernel_dim", "short_conv_kernel_size") or 4,
    }
    kinds = _grouped_kinds(keys, draft, traits)
    name = draft.part("linear", part)
    draft.mixers = ["attention" if kind == "full" else name for kind in kinds]
    feed_forward(keys, draft, traits)


def bailing_linear(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Ring-linear: lightning attention, and the last layer of a group softmax or MLA."""
    heads = keys.need("the number of query heads", "num_attention_heads")
    width = keys.whole("head_dim") or draft.hidden // heads
    part = {"kind": "lightning", "heads": heads, "head_dim": width, "qk_norm": True}
    kinds = _grouped_kinds(keys, draft, traits)
    keys.see("group_norm_size", "linear_silu")
    if keys.whole("kv_lora_rank") is None:
        _hybrid(keys, draft, traits, kinds, part, "linear")
    else:
        attend(keys, draft, traits)
        name = draft.part("linear", part)
        draft.mixers = [
            mixer if kind == "full" else name
            for mixer, kind in zip(draft.mixers, kinds, strict=True)
        ]
    feed_forward(keys, draft, traits)


def _grouped_kinds(keys: Keys, draft: Draft, traits: Traits) -> list[str]:
    """The last layer of each group attends, and so do those behind the last whole group."""
    if keys.has("layer_types"):
        return kinds_of_layers(keys, draft, traits)
    size = keys.need("how many layers a group has", "layer_group_size")
    whole = draft.layers // size * size
    return [
        "full" if (at + 1) % size == 0 or at >= whole else "linear_attention"
        for at in range(draft.layers)
    ]


def lightning(keys: Keys, draft: Draft, traits: Traits) -> None:
    """MiniMax-Text-01 and M1: lightning attention, and every eighth layer softmax."""
    types = keys.each(draft.layers, "attn_type_list")
    if types is not None:
        kinds = ["full" if each == 1 else "linear_attention" for each in types]
    else:
        kinds = kinds_of_layers(keys, draft, traits)
    heads = keys.need("the number of query heads", "num_attention_heads")
    width = keys.whole("head_dim") or draft.hidden // heads
    part = {"kind": "lightning", "heads": heads, "head_dim": width}
    _hybrid(keys, draft, traits, kinds, part, "linear")
    feed_forward(keys, draft, traits)


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
    _hybrid(keys, draft, traits, kinds, part, "mamba")
    feed_forward(keys, draft, traits)


def bamba(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Bamba: Mamba-2, attention in the layers that are listed."""
    places = keys.numbers("attn_layer_indices") or []
    kinds = ["full" if at in places else "mamba" for at in range(draft.layers)]
    if keys.has("layer_types", "layers_block_type"):
        kinds = kinds_of_layers(keys, draft, traits)
    _hybrid(keys, draft, traits, kinds, mamba2_part(keys, draft), "mamba")
    feed_forward(keys, draft, traits)


def granite_hybrid(keys: Keys, draft: Draft, traits: Traits) -> None:
    """Granite 4: Mamba-2 or attention; in each layer a shared FFN, and experts if there are."""
    kinds = kinds_of_layers(keys, draft, traits)
    _hybrid(keys, draft, traits, kinds, mamba2_part(keys, draft), "mamba")
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


def lfm2(keys: Keys, draft: Draft, traits: Traits) -> None:
    """LFM2: gated short convolutions, attention in some layers."""
    places = keys.raw("full_attn_idxs")
    if keys.has("layer_types") or places is None:
        kinds = kinds_of_layers(keys, draft, traits)
    else:
        kinds = ["full" if at in places else "conv" for at in range(draft.layers)]
    if keys.yes("use_sandwich_norm"):
        draft.fields["norms_per_layer"] = 4
    if keys.yes("use_attention_gate"):
        traits = replace(traits, gate="head")
    part: dict[str, Any] = {
        "kind": "short_conv",
        "width": keys.whole("conv_dim_out", "conv_dim") or draft.hidden,
        "conv_tokens": keys.need("the convolution's reach", "conv_L_cache"),
    }
    if keys.yes("conv_bias"):
        part["bias"] = True
    _hybrid(keys, draft, traits, kinds, part, "conv")
    feed_forward(keys, draft, traits)
    if "ffn_hidden" in draft.fields and keys.yes("block_auto_adjust_ff_dim"):
        draft.fields["ffn_hidden"] = _adjusted(keys, draft.fields["ffn_hidden"])


def _adjusted(keys: Keys, width: int) -> int:
    """Two thirds of the stated width, times a factor, rounded up to a multiple."""
    factor = keys.raw("block_ffn_dim_multiplier")
    found = int(2 * width / 3)
    if isinstance(factor, int | float) and not isinstance(factor, bool):
        found = int(factor * found)
    multiple = keys.whole("block_multiple_of") or 1
    return -(-found // multiple) * multiple


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


def recurrent_gemma(keys: Keys, draft: Draft, traits: Traits) -> None:
    """RecurrentGemma: linear recurrent units, and every third layer attends to a window."""
    kinds = keys.raw("block_types", "_block_types")
    if not isinstance(kinds, list) or not kinds:
        kinds = ["recurrent", "recurrent", "attention"]
    heads = keys.need("the number of query heads", "num_attention_heads")
    part = {
        "kind": "linear_unit",
        "width": keys.whole("lru_width") or draft.hidden,
        "blocks": heads,
        "conv_tokens": keys.whole("conv1d_width") or 4,
    }
    named = {"recurrent": "recurrent", "attention": "window"}
    per_layer = [named.get(str(kinds[at % len(kinds)]), "recurrent") for at in range(draft.layers)]
    _hybrid(keys, draft, traits, per_layer, part, "recurrent")
    feed_forward(keys, draft, traits)
    draft.fields["ffn_hidden"] //= 2  # its gate and its value are halves of the stated width
