"""The precisions that a checkpoint declares: of its weights, part by part, and of its KV cache."""

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.storing import (
    ALGORITHMS,
    BITS,
    ELSE,
    GROUPED,
    integers,
    of_quark,
    of_scheme,
    stored,
)

# Modules of each role as checkpoints name them, below a layer; spellings of one stand together.
_MODULES = {
    "attention": tuple((f"self_attn.{each}_proj", f"mixer.{each}_proj") for each in "qkvo"),
    "linear": (
        ("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkvz", "mixer.in_proj", "mamba.in_proj"),
        ("linear_attn.in_proj_z", "linear_attn.in_proj_qkvz", "mixer.in_proj", "mamba.in_proj"),
        ("linear_attn.out_proj", "mixer.out_proj", "mamba.out_proj"),
    ),
    "dense": tuple(
        (f"mlp.{each}_proj", f"mixer.{each}_proj", f"feed_forward.{each}_proj")
        for each in ("gate", "up", "down")
    ),
    "shared": tuple(
        tuple(f"{place}.{each}_proj" for place in ("mlp.shared_experts", "mlp.shared_expert",
                                                   "mixer.shared_experts"))
        for each in ("gate", "up", "down")
    ),
    "experts": tuple(
        (f"mlp.experts.0.{each}_proj", f"mixer.experts.0.{each}_proj",
         f"block_sparse_moe.experts.0.{w}")
        for each, w in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
    ),
}  # fmt: skip
_WORDS = (
    ("shared", ("shared_expert",)),
    ("experts", ("experts", "block_sparse_moe")),
    ("linear", ("linear_attn", "mamba", "mixer.in_proj", "mixer.out_proj", "conv.")),
    ("attention", ("attn", "attention", "mixer.q_proj", "mixer.k_proj", "mixer.v_proj")),
    ("dense", ("mlp", "ffn", "feed_forward", "mixer.up_proj", "mixer.down_proj")),
)
_PREFIXES = ("model.layers.{}.", "model.language_model.layers.{}.", "layers.{}.",
             "language_model.model.layers.{}.", "language_model.layers.{}.",
             "backbone.layers.{}.")  # fmt: skip
_HEADS = ("lm_head", "language_model.lm_head", "head")
_BF16: dict[str, Any] = {"precision": "bf16"}
_Rule: TypeAlias = tuple[str, dict[str, Any]]


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
    rules = [(pattern, _BF16) for pattern in _ignored(config)]
    groups = config.raw("config_groups")
    if not algorithm and isinstance(groups, dict) and groups:
        usual, own = _of_groups(config, groups)
        rules += own
    else:
        usual = stored(config, method, algorithm)
        rules += _own_bits(config, method)
    if usual is None:
        return None
    found: dict[str, Any] = {"usual": usual}
    if keys.word("expert_dtype") == "fp4" and usual["precision"] == "fp8":
        found["experts"] = {"precision": "mxfp4"}
    if method in ("exl2", "exl3") and config.has("head_bits"):
        found["head"] = {"precision": "int4", "bits": float(config.whole("head_bits") or 16)}
    return found | _by_role(rules, usual, draft)


def _ignored(config: Keys) -> list[str]:
    """Patterns of modules that stay in bf16."""
    patterns: list[str] = []
    for key in ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "exclude",
                "exclude_layers", "llm_int8_skip_modules", "skip_modules"):  # fmt: skip
        listed = config.raw(key)
        if isinstance(listed, list):
            patterns += [each for each in listed if isinstance(each, str)]
    return patterns


def _of_groups(config: Keys, groups: dict[str, Any]) -> tuple[dict[str, Any] | None, list[_Rule]]:
    """How modules are stored that no group names, and the rules of those that one does.

    A group's targets are classes of modules, which stand for all others, or patterns of names.
    """
    usual: dict[str, Any] | None = None
    rules: list[_Rule] = []
    for group in groups.values():
        found = of_scheme(config, group)
        if found is None:
            return None, []
        targets = group.get("targets")
        named = [each for each in targets if isinstance(each, str)] if targets else []
        names = [each for each in named if each.startswith("re:") or "." in each or "*" in each]
        rules += [(each, found) for each in names]
        if len(names) < len(named) or not named:
            usual = usual or found
    return usual or _BF16, rules


def _own_bits(config: Keys, method: str) -> list[_Rule]:
    """Modules with bits of their own, as some methods list them by name or pattern."""
    rules: list[_Rule] = []
    key = {"gptq": "dynamic", "quark": "layer_quant_config"}.get(method, "extra_config")
    listed = config.raw(key) if method in ("quark", *GROUPED) else None
    for pattern, entry in listed.items() if isinstance(listed, dict) else ():
        if method == "quark":
            own = of_quark(config, key, entry)
        elif key == "dynamic" and pattern.startswith("-:"):
            own = _BF16
        else:
            own = _overridden(config, entry)
        if own is not None:
            regex = key == "dynamic"
            rules.append((f"re:{re.sub('^[-+]:', '', pattern)}" if regex else pattern, own))
    return rules


def _overridden(config: Keys, entry: object) -> dict[str, Any] | None:
    """What an entry says of bits and groups, or else the whole does."""
    own = entry if isinstance(entry, dict) else {}
    bits = own.get("bits", config.whole("bits") or 4)
    group = own.get("group_size", config.raw("group_size"))
    return integers(bits, group, shared=16 + bits) if type(bits) is int else None


def _by_role(rules: list[_Rule], usual: dict[str, Any], draft: Draft) -> dict[str, Any]:
    """Roles some of whose modules are stored by a rule: these keep so many bits in the mean.

    The first rule that names a module counts.
    """
    found: dict[str, Any] = {}
    for role, modules in _MODULES.items() if rules else ():
        kinds = [
            next(
                (own for pattern, own in rules if any(_matches(pattern, each) for each in names)),
                usual,
            )
            for layer in _places(role, draft)
            for names in (
                [prefix.format(layer) + each for prefix in _PREFIXES for each in spellings]
                for spellings in modules
            )
        ]
        if all(each == usual for each in kinds):
            continue
        if all(each == kinds[0] for each in kinds):
            found[role] = kinds[0]
            continue
        bits = sum(each.get("bits", BITS[each["precision"]]) for each in kinds) / len(kinds)
        most = Counter(each["precision"] for each in kinds if each != _BF16).most_common(1)[0][0]
        found[role] = {"precision": most, "bits": bits}
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
    return f".{pattern}." in f".{name}."


def _layered(
    layers: dict[str, Any], rest: str, config: Keys, draft: Draft
) -> dict[str, Any] | None:
    """Algorithms that are listed module by module; what is not listed stays as the rest."""
    counts: dict[str, Counter[str]] = {}
    places: dict[str, set[str]] = {}
    head: dict[str, Any] | None = None
    for name, entry in layers.items():
        algorithm = str(entry.get("quant_algo")).upper() if isinstance(entry, dict) else ""
        known = ALGORITHMS.get(algorithm)
        if known is None:
            config.complain("quantized_layers", f"{show(algorithm)} is not known here; {ELSE}")
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
        bits = sum(BITS[kind] * count for kind, count in kinds.items()) / total
        share = min(1.0, len(places[role]) / max(1, len(_places(role, draft))))
        bits = bits * share + BITS[rest] * (1 - share)
        most = kinds.most_common(1)[0][0]
        found[role] = {"precision": most} | ({} if bits == BITS[most] else {"bits": bits})
    if head is not None:
        found["head"] = head
    return found


def _places(role: str, draft: Draft) -> list[int]:
    """The layers that have parts of a role."""
    kinds = {name: str(part.get("kind")) for name, part in draft.parts.items()}
    kinds |= {"attention": "gqa", "dense": "dense", "experts": "moe"}
    of_role = {
        "attention": ("gqa", "mla", "compressed", "cross"), "dense": ("dense", "linear"),
        "shared": ("moe",), "experts": ("moe",),
    }  # fmt: skip
    beside = {each for kinds in of_role.values() for each in kinds}
    return [
        at
        for at, layer in enumerate(zip(draft.mixers, draft.ffns, strict=True))
        if any(
            kinds[name] in of_role[role] if role in of_role else kinds[name] not in beside
            for name in " ".join(layer).split()
        )
    ]


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
    if any("_proj" in each for each in scheme):  # Quark's, by the modules that make keys and values
        return "fp8" if re.search(r"'dtype': 'fp8", str(scheme)) else None
    bits, kind = scheme.get("num_bits"), scheme.get("type")
    if bits == 8:
        return "fp8" if kind == "float" else "int8"
    if bits == 4:
        return "nvfp4" if kind == "float" else "int4"
    return None
