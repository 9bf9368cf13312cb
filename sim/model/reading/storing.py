"""How methods of quantisation store a weight: its precision, and its bits with scales."""

from collections.abc import Mapping
from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.keys import Keys

ALGORITHMS: Mapping[str, dict[str, Any]] = {
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
"""Those of ModelOpt."""
BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4 + 20 / 128, "mxfp4": 4.25, "nvfp4": 4.5}
"""Bits of a weight, where no others are given."""
ELSE = "remove quantization_config, and give precision.weights in the scenario"
GROUPED = ("awq", "gptq", "auto-round", "intel/auto-round", "gptq_marlin", "awq_marlin")
_FIXED: Mapping[str, dict[str, Any]] = {
    "fp8": {"precision": "fp8"},
    "fbgemm_fp8": {"precision": "fp8"},
    "finegrained_fp8": {"precision": "fp8"},
    "w8a8_fp8": {"precision": "fp8"},
    "mxfp8": {"precision": "fp8", "bits": 8 + 8 / 32},
    "eetq": {"precision": "int8"},
    "w8a8_int8": {"precision": "int8"},
    # Four weights of three values in a byte, activations in int8 (arXiv 2402.17764).
    "bitnet": {"precision": "int8", "bits": 2.0},
}
_OF_GROUPS = ("", "modelopt", "compressed-tensors")


def stored(config: Keys, method: str, algorithm: str) -> dict[str, Any] | None:
    """How all quantised weights are stored, or nearly all; None: none are, or it is a fault."""
    if algorithm:
        known = ALGORITHMS.get(algorithm)
        if known is None:
            config.complain("quant_algo", f"{show(algorithm)} is not known here; {ELSE}")
        return None if known is None else dict(known)
    if method in _FIXED:
        return dict(_FIXED[method])
    if method in GROUPED:
        bits, group = config.whole("bits", "w_bit") or 4, config.raw("group_size", "q_group_size")
        return integers(bits, group, shared=16 + bits)
    if method in ("bitsandbytes", "bnb"):
        if config.yes("load_in_8bit", "_load_in_8bit"):
            return {"precision": "int8"}
        # A 32-bit scale for 64 weights, or an 8-bit one and a 32-bit one for 256 of those.
        double = config.yes("bnb_4bit_use_double_quant")
        return {"precision": "int4", "bits": 4 + (8 + 32 / 256) / 64 if double else 4 + 32 / 64}
    if method == "quark":
        whole = config.raw("global_quant_config")
        return of_quark(config, "global_quant_config", whole)
    found = _named(config, method)
    if found is not None:
        return found
    if method in _OF_GROUPS and not config.has("bits"):
        return None  # only of the KV cache, or of nothing
    config.complain("quant_method", f"{show(method)} is not known here; {ELSE}")
    return None


def _named(config: Keys, method: str) -> dict[str, Any] | None:
    """Methods that name bits or a type of number in a key of their own."""
    if method in ("exl2", "exl3"):  # in the mean, over all products but the head
        bits = config.raw("bits")
        whole = isinstance(bits, int | float) and not isinstance(bits, bool) and bits > 0
        return {"precision": "int4", "bits": float(bits)} if whole else None
    if method == "hqq":
        inner = config.raw("quant_config")
        params = inner.get("weight_quant_params") if isinstance(inner, dict) else None
        bits = params.get("nbits") if isinstance(params, dict) else None
        if type(bits) is int and isinstance(params, dict):
            return integers(bits, params.get("group_size"), shared=32)
        return None
    if method == "qqq":
        return integers(config.whole("wbits") or 4, config.raw("group_size"), shared=16)
    if method == "fp_quant":
        number = config.word("forward_dtype") or "mxfp4"
        return {"precision": number} if number in ("mxfp4", "nvfp4") else None
    if method == "quanto":
        return _by_type(config.word("weights") or "", group=128)
    if method == "torchao":
        kind, group = config.raw("quant_type"), None
        if isinstance(kind, dict):
            kind = kind.get("default")
        if isinstance(kind, dict):
            data, kind = kind.get("_data"), kind.get("_type")
            group = data.get("group_size") if isinstance(data, dict) else None
        arguments = config.raw("quant_type_kwargs")
        if group is None and isinstance(arguments, dict):
            group = arguments.get("group_size")
        return _by_type(str(kind).lower().replace("_", ""), group=group or 128)
    return None


def _by_type(kind: str, group: object) -> dict[str, Any] | None:
    """From a name with the number's type in it; that of weights stands last."""
    places = {name: kind.rfind(name) for name in ("int8", "int4", "int2", "float8")}
    name = max(places, key=lambda each: places[each])
    if places[name] < 0:
        return None
    if name in ("int8", "float8"):
        return {"precision": "int8" if name == "int8" else "fp8"}
    return integers(int(name[-1]), group, shared=32)


def integers(bits: int, group: object, *, shared: int) -> dict[str, Any]:
    """Weights of so many bits; those of a group share the bits of a scale and maybe a zero."""
    if bits == 16:
        return {"precision": "bf16"}
    precision = "int8" if bits == 8 else "int4"
    if type(group) is not int or group <= 0:
        return {"precision": precision, "bits": float(bits)}
    found = bits + shared / group
    if found == BITS[precision]:
        return {"precision": precision}
    return {"precision": precision, "bits": found}


def of_scheme(config: Keys, scheme: object) -> dict[str, Any] | None:
    """compressed-tensors, and ModelOpt in its form: what a group of targets says of weights."""
    weights = scheme.get("weights") if isinstance(scheme, dict) else None
    if not isinstance(weights, dict):
        config.complain("config_groups", "says nothing of weights")
        return None
    bits, group = weights.get("num_bits"), weights.get("group_size")
    if bits == 8 and weights.get("type") == "float" and group == 32:
        return {"precision": "fp8", "bits": 8 + 8 / 32}
    if bits == 8:
        return {"precision": "fp8" if weights.get("type") == "float" else "int8"}
    if bits == 4 and weights.get("type") == "float":
        return {"precision": "mxfp4" if group == 32 else "nvfp4"}
    if bits == 4:
        return integers(4, group, shared=16 + (4 if weights.get("symmetric") is False else 0))
    message = f"weights of {show(bits)} bits are not known here; {ELSE}"
    config.complain("config_groups", message)
    return None


def of_quark(config: Keys, key: str, entry: object) -> dict[str, Any] | None:
    """Quark's: what an entry says of weights."""
    weight = entry.get("weight") if isinstance(entry, dict) else None
    if isinstance(weight, list):
        weight = weight[0] if weight else None
    kind = str(weight.get("dtype")) if isinstance(weight, dict) else ""
    for start, precision in (("fp8", "fp8"), ("fp4", "mxfp4"), ("mxfp4", "mxfp4"), ("int8", "int8"),
                             ("int4", "int4"), ("uint4", "int4")):  # fmt: skip
        if kind.startswith(start):
            return {"precision": precision}
    config.complain(key, f"weights of {show(kind)} are not known; {ELSE}")
    return None
