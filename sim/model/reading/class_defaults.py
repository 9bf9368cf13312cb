"""What the classes of models take for keys that a configuration leaves out."""

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def class_keys(kind: str) -> frozenset[str]:
    """Keys of a model_type's class that are named like a layer's: those that its reading knows.

    What a file has beyond them came later than the class, or from elsewhere.
    """
    found: dict[str, list[str]] = json.loads((_HERE / "class_keys.json").read_text())
    return frozenset(found.get(kind, ()))


def class_defaults() -> dict[str, dict[str, Any]]:
    """Each model_type's defaults, of the keys that bear on sizes (transformers 5.24).

    Those that follow from other keys, as a head's width from the residual stream's, are not in it.
    """
    found: dict[str, dict[str, Any]] = json.loads((_HERE / "class_defaults.json").read_text())
    return found
