"""Hugging Face `config.json`: the keys that decide a model's bytes and FLOPs, whatever its family.

What a family leaves unsaid is in `reading/`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vsim.sim.inputs.model_faults import explain, show
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.model.model import Model
from vsim.sim.model.reading.apart import weights_apart
from vsim.sim.model.reading.config import read_fields
from vsim.sim.model.reading.encoders import refusal
from vsim.traces.faults import Fault, InputError, refuse

_KEYS = {"layers": "num_hidden_layers", "hidden": "hidden_size", "heads": "num_attention_heads",
         "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "vocabulary": "vocab_size",
         "ffn_hidden": "intermediate_size"}  # fmt: skip
"""Each field with the key that usually holds it."""


def load_config(path: str | Path) -> Model:
    """Read a `config.json`; the model is named after its folder, or after a file of another name.

    Raises:
        InputError: with every key that is missing or wrong.
    """
    folder = Path(path).absolute().parent
    stem = Path(path).stem
    named = folder.name if stem == "config" else stem
    name = named if named and named.isprintable() else "model"
    beside = folder / "hf_quant_config.json"
    quantisation = read_text(beside) if beside.is_file() else None
    return parse_config(read_text(path), str(path), name, quantisation)


def parse_config(text: str, file: str, name: str, quantisation: str | None = None) -> Model:
    """Read the text of a `config.json`.

    Args:
        text: of the file.
        file: the name that faults give.
        name: the model's.
        quantisation: text of the `hf_quant_config.json` beside it, where ModelOpt says what the
            file itself may leave out.
    """
    config = _group(text, file)
    if quantisation is not None and "quantization_config" not in config:
        found = _group(quantisation, "hf_quant_config.json").get("quantization")
        if isinstance(found, dict):
            config["quantization_config"] = found
    why = refusal(config)
    if why is not None:
        refuse(file, why, place="model_type")
    fields, keys = read_fields(config, file)
    if keys.faults:
        raise InputError(keys.faults)
    fields = {"name": name, "source": f"config.json ({keys.kind or 'no model_type'})", **fields}
    try:
        model = Model.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise InputError(
            Fault(file, message, place=_key_of(place))
            for place, message, _ in explain(error, fields, Model)
        ) from None
    beside = weights_apart(keys, model)
    if keys.faults:
        raise InputError(keys.faults)
    return model.model_copy(update={"apart": beside}) if beside else model


def _group(text: str, file: str) -> dict[str, Any]:
    """Read JSON that is a group of keys."""
    try:
        config = json.loads(
            text,
            parse_constant=lambda word: _constant(file, word),
            object_pairs_hook=lambda pairs: _fields_once(file, pairs),
        )
    except json.JSONDecodeError as error:
        refuse(file, f"is not JSON here: {error.msg}", line=error.lineno, column=error.colno)
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        refuse(file, "is not a model's configuration; write a Hugging Face config.json")
    if not isinstance(config, dict):
        refuse(file, f"holds {show(config)}; write a group of keys, as Hugging Face does")
    return config


def _constant(file: str, word: str) -> float:
    """Take infinities, which published files give as limits; no size may be one."""
    if word == "NaN":
        refuse(file, f"{word} is not a finite number; write an ordinary number")
    return float(word)


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
        return _KEYS[str(place[0])]
    return ".".join(map(str, place))
