"""The precisions that a checkpoint declares."""

from typing import Any

from vsim.sim.model.reading.keys import Keys


def declared(keys: Keys) -> dict[str, Any]:
    """Its weights' and its KV cache's precision; empty where it says nothing."""
    keys.see("quantization_config")
    return {}
