"""What the classes of models take for keys that a configuration leaves out."""

import json
from pathlib import Path
from typing import Any


def class_defaults() -> dict[str, dict[str, Any]]:
    """Each model_type's defaults, of the keys that bear on sizes (transformers 5.24).

    Those that follow from other keys, as a head's width from the residual stream's, are not in it.
    """
    text = (Path(__file__).parent / "class_defaults.json").read_text()
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found
