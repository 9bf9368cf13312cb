"""A small model whose one layer has given parts, so that each number can be counted by hand."""

import json
from typing import Any

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.model.model import Model

HIDDEN = 8
VOCABULARY = 10
# The embedding is the LM head; two norms in the layer and one behind it.
REST = VOCABULARY * HIDDEN + 3 * HIDDEN


def model(fields: dict[str, Any]) -> Model:
    """A model file's fields, read as a file is."""
    return parse_yaml(json.dumps(fields), "m.yaml", Model)


def with_parts(parts: dict[str, Any], *layers: str, **fields: Any) -> Model:
    """A model of so many layers, each with the parts that it names."""
    base = {
        "name": "m",
        "layers": len(layers),
        "hidden": HIDDEN,
        "vocabulary": VOCABULARY,
        "tied_embeddings": True,
        "parts": parts,
        "pattern": [{"layers": list(layers)}],
    }
    return model(base | fields)


def one(**part: Any) -> Model:
    """A model of one layer that has one part."""
    return with_parts({"it": part}, "it")


def weights_of(**part: Any) -> int:
    """Weights of a part, and of nothing else."""
    return one(**part).parameters - REST
