"""Hugging Face `config.json`: read the keys that decide a model's bytes and FLOPs.

Families that leave something unsaid (Falcon's two matrices, Qwen2's biases, Gemma's four norms) are
known by `model_type`; any other type is read by its usual keys, as a gated decoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from vsim.sim.inputs.model_faults import explain, show
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.model.model import Model
from vsim.traces.faults import Fault, InputError, refuse

# Each field with the keys that hold it, the usual one first; and what it says.
_KEYS = {
    "layers": (("num_hidden_layers", "n_layer", "n_layers", "num_layers"), "the number of layers"),
    "hidden": (("hidden_size", "n_embd", "d_model"), "the width of the residual stream"),
    "heads": (("num_attention_heads", "n_head", "n_heads"), "the number of query heads"),
    "kv_heads": (("num_key_value_heads", "num_kv_heads"), "the number of key and value heads"),
    "head_dim": (("head_dim",), "the width of a head"),
    "ffn_hidden": (("intermediate_size", "ffn_hidden_size", "n_inner"), "the FFN's inner width"),
    "vocabulary": (("vocab_size",), "the number of tokens known"),
}
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")

_TIED = {"gemma", "gemma2", "gemma3", "gemma3_text", "falcon", "gpt2", "gpt_bigcode", "opt",
         "bloom", "cohere", "cohere2"}  # fmt: skip
_UNGATED = {"falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "opt", "bloom", "mpt", "phi",
            "starcoder2", "nemotron"}  # fmt: skip
_QKV_BIAS = {"qwen2", "qwen2_moe", "gpt2", "gpt_bigcode", "gpt_neox", "opt", "bloom", "phi",
             "starcoder2"}  # fmt: skip
_QK_NORM = {"qwen3", "qwen3_moe", "gemma3", "gemma3_text"}
_FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text"}
_NORM_BIAS = _UNGATED - {"nemotron"}


def load_config(path: str | Path) -> Model:
    """Read a `config.json`; the model is named after its folder.

    Raises:
        InputError: with every key that is missing or wrong.
    """
    folder = Path(path).absolute().parent.name
    name = folder if folder and folder.isprintable() else "model"
    return parse_config(read_text(path), str(path), name)


def parse_config(text: str, file: str, name: str) -> Model:
    """Read the text of a `config.json`; `file` is the name that faults give."""
    try:
        config = json.loads(
            text,
            parse_constant=lambda word: _refuse_constant(file, word),
            object_pairs_hook=lambda pairs: _fields_once(file, pairs),
        )
    except json.JSONDecodeError as error:
        refuse(file, f"is not JSON here: {error.msg}", line=error.lineno, column=error.colno)
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        refuse(file, "is not a model's configuration; write a Hugging Face config.json")
    if not isinstance(config, dict):
        refuse(file, f"holds {show(config)}; write a group of keys, as Hugging Face does")
    # A model that also sees pictures keeps its decoder's keys in a group of their own.
    inner = config.get("text_config")
    if isinstance(inner, dict) and not any(key in config for key in _KEYS["layers"][0]):
        config = {**inner, "model_type": inner.get("model_type", config.get("model_type"))}
    reader = _Reader(config, file)
    fields = _fields(reader)
    if reader.faults:
        raise InputError(reader.faults)
    fields = {"name": name, "source": f"config.json ({reader.kind or 'no model_type'})", **fields}
    try:
        return Model.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise InputError(
            Fault(file, message, place=_key_of(place))
            for place, message, _ in explain(error, fields, Model)
        ) from None


def _refuse_constant(file: str, word: str) -> NoReturn:
    refuse(file, f"{word} is not a finite number; write an ordinary number")


def _fields_once(file: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that is written twice: which of the two counts is anybody's guess."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        refuse(file, "is written twice; keep one of them", place=ascii(twice)[1:-1][:200])
    return fields


def _key_of(place: Sequence[str | int]) -> str:
    """Name a field as config.json does, as far as it has a usual name."""
    if len(place) == 1 and place[0] in _KEYS:
        return _KEYS[str(place[0])][0][0]
    return ".".join(map(str, place))


class _Reader:
    """A configuration's keys; collects the faults of those that are missing or wrong."""

    def __init__(self, config: dict[str, Any], file: str) -> None:
        self.config = config
        self.file = file
        self.faults: list[Fault] = []
        kind = config.get("model_type")
        self.kind = kind if isinstance(kind, str) else ""

    def complain(self, key: str, message: str) -> None:
        self.faults.append(Fault(self.file, message, place=key))

    def find(self, keys: Sequence[str], *, least: int = 1) -> int | None:
        """The first of the keys that is there and not null; None if none is."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**40:
                message = f"{show(value)} is not a whole number from {least} to {2**40 - 1}"
                self.complain(key, message)
                return least
            return value
        return None

    def need(self, keys: Sequence[str], meaning: str) -> int:
        """As `find`, and a fault if there is none; returns 1 then, so that reading goes on."""
        value = self.find(keys)
        if value is None:
            others = f" (or {', '.join(keys[1:])})" if keys[1:] else ""
            self.complain(keys[0], f"is missing{others}; write {meaning}")
        return 1 if value is None else value

    def yes(self, key: str, default: bool = False) -> bool:
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.complain(key, f"{show(value)} is not true or false")
            return default
        return value


def _fields(reader: _Reader) -> dict[str, Any]:
    kind = reader.kind
    fields: dict[str, Any] = {
        field: reader.need(*_KEYS[field]) for field in ("layers", "hidden", "heads", "vocabulary")
    }
    layers, hidden, heads = fields["layers"], fields["hidden"], fields["heads"]
    fields["tied_embeddings"] = reader.yes("tie_word_embeddings", kind in _TIED)
    fields["gated_ffn"] = kind not in _UNGATED
    fields["qkv_bias"] = kind in _QKV_BIAS or reader.yes("attention_bias")
    fields["qk_norm"] = kind in _QK_NORM or reader.yes("use_qk_norm")
    fields["norm_bias"] = kind in _NORM_BIAS
    fields["norms_per_layer"] = 4 if kind in _FOUR_NORMS else _falcon_norms(reader)
    if reader.config.get("kv_lora_rank") is not None:
        fields |= _latent_attention(reader, heads)
    else:
        fields["kv_heads"] = _kv_heads(reader, heads)
        head_dim = reader.find(_KEYS["head_dim"][0])
        if head_dim is None and hidden % heads:
            message = f"is missing, and {heads} heads do not divide {hidden}; write a head's width"
            reader.complain("head_dim", message)
        fields["head_dim"] = head_dim or max(1, hidden // heads)
    moe = _moe(reader, layers)
    if moe is not None:
        fields["moe"] = moe
    if moe is None or moe["dense_layers"]:
        width = reader.find(_KEYS["ffn_hidden"][0])
        # These families leave the width out, and it is four times the residual stream's.
        if width is None and kind in _UNGATED:
            width = 4 * hidden
        fields["ffn_hidden"] = width or reader.need(*_KEYS["ffn_hidden"])
    window = _sliding_window(reader, layers)
    if window is not None:
        fields["sliding_window"] = window
    return fields


def _falcon_norms(reader: _Reader) -> int:
    """Falcon's attention and FFN in parallel share one norm, unless its new form has two."""
    if reader.kind != "falcon" or not reader.yes("parallel_attn", True):
        return 2
    two = reader.yes("new_decoder_architecture")
    return reader.find(("num_ln_in_parallel_attn",)) or (2 if two else 1)


def _kv_heads(reader: _Reader, heads: int) -> int:
    """Key and value heads: as many as query heads where nothing is said, one with multi_query."""
    if reader.kind == "falcon" and not reader.yes("new_decoder_architecture"):
        return 1 if reader.yes("multi_query", True) else heads
    if reader.kind == "gpt_bigcode" and reader.yes("multi_query", True):
        return 1
    return reader.find(_KEYS["kv_heads"][0]) or heads


def _latent_attention(reader: _Reader, heads: int) -> dict[str, Any]:
    latent: dict[str, Any] = {
        "kind": "mla",
        "kv_lora_rank": reader.need(("kv_lora_rank",), "the latent's width"),
        "qk_rope_head_dim": reader.need(("qk_rope_head_dim",), "the rotary part's width"),
        "qk_nope_head_dim": reader.need(("qk_nope_head_dim",), "the other part's width"),
        "v_head_dim": reader.need(("v_head_dim",), "the width of a head's value"),
    }
    query = reader.find(("q_lora_rank",))
    if query is not None:
        latent["q_lora_rank"] = query
    width = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
    return {"attention": latent, "kv_heads": heads, "head_dim": width}


def _moe(reader: _Reader, layers: int) -> dict[str, Any] | None:
    experts = reader.find(_EXPERTS, least=0)
    if experts is None or experts < 2:
        return None
    for key in ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq"):
        if reader.find((key,)) not in (None, 1):
            message = f"{reader.config[key]} is not supported; only every layer (1) is"
            reader.complain(key, message)
    first_dense = _first_dense(reader)
    width = reader.find(("moe_intermediate_size",))
    if width is None:
        width = reader.need(*_KEYS["ffn_hidden"])
    shared = reader.find(("n_shared_experts",), least=0) or 0
    shared_width = reader.find(("shared_expert_intermediate_size",), least=0) or 0
    if shared_width % width:
        message = f"{shared_width} is not a multiple of the experts' width {width}; only that is"
        reader.complain("shared_expert_intermediate_size", f"{message} supported")
    return {
        "experts": experts,
        "experts_per_token": reader.need(_EXPERTS_PER_TOKEN, "how many a token goes through"),
        "expert_hidden": width,
        "shared_experts": shared + shared_width // width,
        "dense_layers": min(first_dense, layers),
        "router_bias": reader.config.get("topk_method") == "noaux_tc",
    }


def _first_dense(reader: _Reader) -> int:
    """How many first layers have an ordinary FFN."""
    listed = reader.config.get("mlp_only_layers")
    if listed:
        if isinstance(listed, list) and listed == list(range(len(listed))):
            return len(listed)
        message = f"{show(listed)} is not supported; only the first layers, [0, 1, …], are"
        reader.complain("mlp_only_layers", message)
    return reader.find(("first_k_dense_replace",), least=0) or 0


def _sliding_window(reader: _Reader, layers: int) -> dict[str, int] | None:
    """Which layers see a window only; None where it would reach over the longest context anyway."""
    tokens = reader.find(("sliding_window",), least=0)
    longest = reader.find(("max_position_embeddings",))
    kinds = reader.config.get("layer_types")
    if not tokens or (longest is not None and tokens >= longest):
        return None
    if isinstance(kinds, list):
        near = kinds.count("sliding_attention")
    elif reader.kind.startswith(("qwen2", "qwen3")):
        first = reader.find(("max_window_layers",), least=0)
        windowed = reader.yes("use_sliding_window")
        near = max(0, layers - (layers if first is None else first)) if windowed else 0
    elif reader.kind == "gemma2":
        near = (layers + 1) // 2  # every other layer, from the first
    elif reader.kind.startswith("gemma3"):
        near = layers - layers // (reader.find(("sliding_window_pattern",)) or 6)
    else:
        near = layers
    return {"tokens": tokens, "layers": min(near, layers)} if near else None
