"""The precisions that a checkpoint declares: of its weights, part by part, and of its KV cache."""

import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys

# Modules of each role as checkpoints name them, below a layer.
_MODULES = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    "linear": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj"),
    "dense": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    "shared": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj",
               "mlp.shared_experts.down_proj"),
    "experts": ("mlp.experts.0.gate_proj", "mlp.experts.0.up_proj", "mlp.experts.0.down_proj"),
}  # fmt: skip
_WORDS = (
    ("shared", ("shared_expert",)),
    ("experts", ("experts", "block_sparse_moe")),
    ("linear", ("linear_attn", "mamba", "mixer.in_proj", "mixer.out_proj", "conv.")),
    ("attention", ("attn", "attention", "mixer.q_proj", "mixer.k_proj", "mixer.v_proj")),
    ("dense", ("mlp", "ffn", "feed_forward", "mixer.up_proj", "mixer.down_proj")),
)
_PREFIXES = ("model.layers.{}.", "model.language_model.layers.{}.", "layers.{}.",
             "language_model.model.layers.{}.", "backbone.layers.{}.")  # fmt: skip
_HEADS = ("lm_head", "language_model.lm_head", "head")
_ALGORITHMS: Mapping[str, dict[str, Any]] = {
    "FP8": {"precision": "fp8"},
    "FP8_PB_WO": {"precision": "fp8"},
    "FP8_PER_CHANNEL_PER_TOKEN": {"precision": "fp8"},
    "NVFP4": {"precision": "nvfp4"},
    "NVFP4_AWQ": {"precision": "nvfp4"},
    "W4A16_NVFP4": {"precision": "nvfp4"},
    "W4A8_NVFP4_FP8": {"precision": "nvfp4"},
    "MXFP4": {"precision": "mxfp4"},
    "W4A8_MXFP4_FP8": {"precision": "mxfp4"},
    "W4A16_AWQ": {"precision": "int4"},
    "W4A8_AWQ": {"precision": "int4"},
    "W8A16": {"precision": "int8"},
    "W8A8_SQ_PER_CHANNEL": {"precision": "int8"},
    "INT8_SQ": {"precision": "int8"},
}
_OF_GROUPS = ("", "modelopt", "compressed-tensors")
_BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4 + 20 / 128, "mxfp4": 4.25, "nvfp4": 4.5}
_ELSE = "remove quantization_config, and give precision.weights in the scenario"


def declared(keys: Keys, draft: Draft) -> dict[str, Any]:
    """The fields of `declared`; empty where the checkpoint says nothing of precisions."""
    config = keys.inner("quantization_config") or keys.inner("compression_config")
    keys.see("quantization_config", "compression_config")
    if config is None or not config.values:
        return {}
    found: dict[str, Any] = {}
    weights = _weights(config, keys, draft)
    if weights is not None:
        found["weights"] = weights
    kv = _kv(config)
    if kv is not None:
        found["kv"] = kv
    return found


def _weights(config: Keys, keys: Keys, draft: Draft) -> dict[str, Any] | None:
    method = (config.word("quant_method") or "").lower()
    algorithm = (config.word("quant_algo") or "").upper()
    if method == "mxfp4":
        return {"usual": {"precision": "bf16"}, "experts": {"precision": "mxfp4"}}
    layered = config.raw("quantized_layers")
    if algorithm in ("MIXED_PRECISION", "") and isinstance(layered, dict) and layered:
        return _layered(layered, "fp8" if method == "fp8" else "bf16", config, draft)
    stored = _stored(config, method, algorithm)
    if stored is None:
        return None
    found: dict[str, Any] = {"usual": stored}
    if keys.word("expert_dtype") == "fp4" and stored["precision"] == "fp8":
        found["experts"] = {"precision": "mxfp4"}
    return found | _exceptions(config, stored, draft)


def _stored(config: Keys, method: str, algorithm: str) -> dict[str, Any] | None:
    """How all quantised weights are stored."""
    if algorithm:
        known = _ALGORITHMS.get(algorithm)
        if known is None:
            config.complain("quant_algo", f"{show(algorithm)} is not known here; {_ELSE}")
        return None if known is None else dict(known)
    if method in ("fp8", "fbgemm_fp8", "finegrained_fp8"):
        return {"precision": "fp8"}
    if method in ("awq", "gptq", "auto-round", "intel/auto-round", "gptq_marlin", "awq_marlin"):
        bits, group = config.whole("bits", "w_bit") or 4, config.raw("group_size", "q_group_size")
        return _integers(bits, group, zero_point=True)
    if method in ("bitsandbytes", "bnb"):
        if config.yes("load_in_8bit", "_load_in_8bit"):
            return {"precision": "int8"}
        # A 32-bit scale for 64 weights, or an 8-bit one and a 32-bit one for 256 of those.
        double = config.yes("bnb_4bit_use_double_quant")
        return {"precision": "int4", "bits": 4 + (8 + 32 / 256) / 64 if double else 4 + 32 / 64}
    if method == "quark":
        return _quark(config)
    groups = config.raw("config_groups")
    if isinstance(groups, dict) and groups:
        return _of_groups(config, groups)
    if method in _OF_GROUPS and not config.has("bits"):
        return None  # only of the KV cache, or of nothing
    config.complain("quant_method", f"{show(method)} is not known here; {_ELSE}")
    return None


def _integers(bits: int, group: object, *, zero_point: bool) -> dict[str, Any]:
    """Weights of so many bits; a group shares a 16-bit scale and maybe a zero point."""
    precision = "int8" if bits == 8 else "int4"
    if type(group) is not int or group <= 0:
        return {"precision": precision, "bits": float(bits)}
    shared = 16 + (bits if zero_point else 0)
    found = bits + shared / group
    if found == _BITS[precision]:
        return {"precision": precision}
    return {"precision": precision, "bits": found}


def _of_groups(config: Keys, groups: dict[str, Any]) -> dict[str, Any] | None:
    """compressed-tensors, and ModelOpt in its form: the first group's weights."""
    first = next(iter(groups.values()))
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        config.complain("config_groups", "says nothing of weights")
        return None
    bits, group = weights.get("num_bits"), weights.get("group_size")
    if bits == 8:
        return {"precision": "fp8" if weights.get("type") == "float" else "int8"}
    if bits == 4 and weights.get("type") == "float":
        return {"precision": "mxfp4" if group == 32 else "nvfp4"}
    if bits == 4:
        return _integers(4, group, zero_point=weights.get("symmetric") is False)
    message = f"weights of {show(bits)} bits are not known here; {_ELSE}"
    config.complain("config_groups", message)
    return None


def _quark(config: Keys) -> dict[str, Any] | None:
    whole = config.raw("global_quant_config")
    weight = whole.get("weight") if isinstance(whole, dict) else None
    if isinstance(weight, list):
        weight = weight[0] if weight else None
    kind = str(weight.get("dtype")) if isinstance(weight, dict) else ""
    for start, precision in (("fp8", "fp8"), ("fp4", "mxfp4"), ("mxfp4", "mxfp4"), ("int8", "int8"),
                             ("int4", "int4"), ("uint4", "int4")):  # fmt: skip
        if kind.startswith(start):
            return {"precision": precision}
    config.complain("global_quant_config", f"weights of {show(kind)} are not known; {_ELSE}")
    return None


def _exceptions(config: Keys, stored: dict[str, Any], draft: Draft) -> dict[str, Any]:
    """Roles that stay in bf16 in all layers or some: these keep so many bits in the mean."""
    patterns: list[str] = []
    for key in ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "exclude",
                "exclude_layers", "llm_int8_skip_modules"):  # fmt: skip
        listed = config.raw(key)
        if isinstance(listed, list):
            patterns += [each for each in listed if isinstance(each, str)]
    if not patterns:
        return {}
    found: dict[str, Any] = {}
    for role, modules in _MODULES.items():
        names = [
            [prefix.format(layer) + module for prefix in _PREFIXES]
            for layer in range(draft.layers)
            for module in modules
        ]
        kept = sum(
            any(_matches(p, each) for p in patterns for each in each_of) for each_of in names
        )
        if kept == len(names):
            found[role] = {"precision": "bf16"}
        elif kept:
            bits = stored.get("bits", _BITS[stored["precision"]])
            share = kept / len(names)
            found[role] = stored | {"bits": bits * (1 - share) + 16 * share}
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a module: a regular expression, a glob, or a part of its name."""
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            return False
    if "*" in pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    return pattern in (name, name.rpartition(".")[2]) or name.startswith(f"{pattern}.")


def _layered(
    layers: dict[str, Any], rest: str, config: Keys, draft: Draft
) -> dict[str, Any] | None:
    """Algorithms that are listed module by module; what is not listed stays as the rest."""
    counts: dict[str, Counter[str]] = {}
    places: dict[str, set[str]] = {}
    head: dict[str, Any] | None = None
    for name, entry in layers.items():
        algorithm = str(entry.get("quant_algo")).upper() if isinstance(entry, dict) else ""
        known = _ALGORITHMS.get(algorithm)
        if known is None:
            config.complain("quantized_layers", f"{show(algorithm)} is not known here; {_ELSE}")
            return None
        if name in _HEADS:
            head = dict(known)
            continue
        role = next((role for role, words in _WORDS if any(w in name for w in words)), None)
        if role is None:
            continue
        counts.setdefault(role, Counter())[known["precision"]] += 1
        places.setdefault(role, set()).update(re.findall(r"\.(\d+)\.", name)[:1])
    found: dict[str, Any] = {"usual": {"precision": rest}}
    for role, kinds in counts.items():
        total = sum(kinds.values())
        bits = sum(_BITS[kind] * count for kind, count in kinds.items()) / total
        share = min(1.0, len(places[role]) / max(1, _layers_with(role, draft)))
        bits = bits * share + _BITS[rest] * (1 - share)
        most = kinds.most_common(1)[0][0]
        found[role] = {"precision": most} | ({} if bits == _BITS[most] else {"bits": bits})
    if head is not None:
        found["head"] = head
    return found


def _layers_with(role: str, draft: Draft) -> int:
    """How many layers have parts of a role."""
    kinds = {name: part.get("kind") for name, part in draft.parts.items()}
    attends = {"attention", "gqa", "mla", "compressed", "cross"}
    if role in ("experts", "shared", "dense"):
        own = "dense" if role == "dense" else "experts"
        return sum(
            any(name == own or (own == "dense" and kinds.get(name) == "dense")
                for name in text.split())
            for text in draft.ffns
        )  # fmt: skip
    found = 0
    for text in draft.mixers:
        attending = any(name in attends or kinds.get(name) in attends for name in text.split())
        found += attending == (role == "attention")
    return found


def _kv(config: Keys) -> str | None:
    """The KV cache's precision: its scheme's bits and type, or its algorithm's name."""
    named = config.raw("kv_cache_quant_algo")
    scheme = config.raw("kv_cache_scheme", "kv_cache_quant_config")
    if isinstance(scheme, str):
        named = scheme
    if isinstance(named, str):
        found = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}.get(named.upper())
        if found is None and named.upper() not in ("NONE", "AUTO", "BF16"):
            config.complain("kv_cache_quant_algo", f"{show(named)} is not known here; remove it")
        return found
    if not isinstance(scheme, dict):
        return None
    bits, kind = scheme.get("num_bits"), scheme.get("type")
    if bits == 8:
        return "fp8" if kind == "float" else "int8"
    if bits == 4:
        return "nvfp4" if kind == "float" else "int4"
    return None
