"""Decoders some of whose layers keep a state, whatever their mixers."""

from typing import Any

from vsim.sim.model.reading.attention import (
    RECURRENT,
    grouped_attention,
    heads_of,
)
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.plain import read_heads
from vsim.sim.model.reading.traits import Traits


def state_bytes(keys: Keys) -> dict[str, int]:
    """Bytes of a number of a state, where the file says float32; else the model's own 16 bits."""
    kind = keys.word("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    return {"state_bytes": 4} if kind == "float32" else {}


def hybrid(
    keys: Keys, draft: Draft, traits: Traits, kinds: list[str], part: dict[str, Any], name: str
) -> None:
    """Attention in some layers, a part that keeps a state in the others."""
    heads_of(keys, draft, read_heads(keys, draft, traits))
    named = grouped_attention(keys, draft, traits, kinds)
    recurrent = draft.part(name, part)
    draft.mixers = [recurrent if each in RECURRENT else each for each in named]
    if all(each in RECURRENT for each in kinds):
        for field in ("heads", "kv_heads", "head_dim"):
            draft.fields.pop(field, None)
