"""Experts: how many, how wide, in which layers, under every spelling in use."""

from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.traits import Traits

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts",
           "num_routed_experts", "moe_num_routed_experts")  # fmt: skip
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts",
             "experts_per_token", "moe_top_k", "num_selected_experts",
             "n_activated_experts")  # fmt: skip
WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "moe_inter_dim")
SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_experts_intermediate_size",
                "moe_shared_expert_intermediate_size", "share_expert_dim",
                "shared_intermediate_size")  # fmt: skip
FFN_WIDTH = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "d_inner",
             "block_ff_dim", "hidden_dim", "inter_dim")  # fmt: skip
_DENSE = {"dense", "mlp", "ffn"}
_SPARSE = {"sparse", "moe", "hash_moe", "expert", "experts"}


def experts(keys: Keys, traits: Traits) -> dict[str, Any] | None:
    """The experts of a layer that has them; None where there are none."""
    count = keys.whole(*EXPERTS, least=0)
    if count is None or count < 2:
        keys.see(*PER_TOKEN, *WIDTH, *SHARED, *SHARED_WIDTH)
        return None
    width = keys.whole(*WIDTH)
    if width is None:
        width = keys.need("the FFN's inner width", *FFN_WIDTH)
    found: dict[str, Any] = {
        "experts": count,
        "experts_per_token": keys.need("how many a token goes through", *PER_TOKEN),
        "expert_hidden": width,
    }
    found |= _shared(keys, width)
    if _router_bias(keys) or traits.router_bias:
        found["router_bias"] = True
    if traits.expert_bias:
        found["bias"] = True
    if traits.shared_gate and (found.get("shared_experts") or found.get("shared_hidden")):
        found["shared_gate"] = True
    inner = keys.whole("moe_latent_size", "routed_expert_hidden_size")
    if inner is not None:
        found["latent"] = inner
        if keys.yes("latent_moe_use_norm"):
            found["latent_norm"] = True
    return found


def _shared(keys: Keys, width: int) -> dict[str, int]:
    """Shared experts: so many of the routed ones' width, or so wide together."""
    count = keys.whole(*SHARED, least=0)
    wide = keys.whole(*SHARED_WIDTH, least=0)
    if wide and count != 0:
        each, rest = divmod(wide, width)
        return {"shared_experts": each} if not rest else {"shared_hidden": wide}
    return {"shared_experts": count or 0}


def _router_bias(keys: Keys) -> bool:
    keys.see("use_routing_bias", "use_expert_bias", "moe_router_enable_expert_bias")
    named = keys.word("topk_method") == "noaux_tc"
    return named or any(
        keys.yes(key)
        for key in (
            "use_routing_bias",
            "use_expert_bias",
            "moe_router_enable_expert_bias",
            "use_moe_router_bias",
        )
    )


def expert_layers(keys: Keys, draft: Draft, traits: Traits) -> list[bool]:
    """Which layers have experts."""
    layers = draft.layers
    listed = _listed(keys, layers)
    if listed is not None:
        return listed
    first = keys.whole("first_k_dense_replace", "num_dense_layers", "n_dense_layers", least=0) or 0
    start = keys.whole("moe_layer_start_index", least=0)
    end = keys.whole("moe_layer_end_index", least=-1)
    step = keys.whole("moe_layer_interval", least=1) or 1
    if start is not None or end is not None:
        low, high = start or 0, layers - 1 if end in (None, -1) else int(end or 0)
        return [low <= at <= high and (at + 1) % step == 0 for at in range(layers)]
    period = keys.whole("expert_layer_period")
    if period is not None:
        offset = keys.whole("expert_layer_offset", least=0) or 0
        return [at % period == offset for at in range(layers)]
    step = keys.whole("decoder_sparse_step", "interleave_moe_layer_step", "moe_every_n_layers") or 1
    rhythm = keys.whole("moe_layer_freq", "moe_layer_frequency") or 1
    found = [at >= first and (at + 1) % step == 0 for at in range(layers)]
    if traits.rhythm_from_first:
        found = [each and at % rhythm == 0 for at, each in enumerate(found)]
    else:
        found = [each and (at + 1) % rhythm == 0 for at, each in enumerate(found)]
    only = keys.numbers("mlp_only_layers") or []
    return [each and at not in only for at, each in enumerate(found)]


def _listed(keys: Keys, layers: int) -> list[bool] | None:
    """Layers with experts, where the file lists them."""
    keys.see("mlp_layer_types", "moe_layer_freq", "moe_layers", "moe_layers_enum")
    kinds = keys.each(layers, "mlp_layer_types") if keys.has("mlp_layer_types") else None
    if kinds is not None:
        for kind in kinds:
            if kind not in _DENSE | _SPARSE:
                message = f"{show(kind)} is a kind of FFN that is not known here"
                keys.complain("mlp_layer_types", f"{message}; write dense or sparse")
                return None
        keys.see("first_k_dense_replace", "num_dense_layers")
        return [kind in _SPARSE for kind in kinds]
    if isinstance(keys.values.get("moe_layer_freq"), list):
        rhythm = keys.each(layers, "moe_layer_freq")
        keys.see("first_k_dense_replace", "num_dense_layers")
        return None if rhythm is None else [bool(each) for each in rhythm]
    named = keys.values.get("moe_layers_enum")
    if isinstance(named, str):
        places = {int(each) for each in named.split(",") if each.strip().isdigit()}
        return [at in places for at in range(layers)]
    chosen = keys.values.get("moe_layers")
    if isinstance(chosen, list):
        keys.see("interleave_moe_layer_step")
        return [at in chosen for at in range(layers)]
    return None
