"""Equal groups: what KV takes where an engine cuts its layers into groups of one size.

vLLM's hybrid cache manager (0.25, `get_kv_cache_groups`; its design document, case 3) gives every
group as many layers, so that one pool of equal blocks serves all: as many as the kind that has the
fewest, or the most where that is less than 1.25 times the fewest. The last group of a kind is
padded with layers that there are not. A kind then takes a page for each of its groups.

    62 layers, of which 10 see everything and 52 a window: groups of 10, one and six; a page of the
    window takes 60 layers' room

Blocks of a kind whose layers take less have more tokens, so that nothing is lost by that. States
are left as they are: there the manager makes blocks longer until a state fills one; and so is what
keeps one entry for several tokens.
"""

import math
from dataclasses import replace

from vsim.sim.model.kv_groups import KvGroup

_ALMOST_EQUAL = 1.25


def equal_layers(groups: tuple[KvGroup, ...]) -> int:
    """Layers of each group; 0 where they are not made equal."""
    if len(groups) < 2 or any(
        group.kind in ("state", "fixed") or group.tokens_per_entry > 1 for group in groups
    ):
        return 0
    counts = [group.layers for group in groups]
    fewest, most = min(counts), max(counts)
    return most if most < _ALMOST_EQUAL * fewest else fewest


def layer_bytes(groups: tuple[KvGroup, ...]) -> int:
    """Bytes of one token in one layer, of the kind whose layers take most; one copy."""
    return max(math.ceil(group.entry_bytes / group.layers) for group in groups)


def equal_groups(groups: tuple[KvGroup, ...]) -> tuple[KvGroup, ...]:
    """The same groups with what their padding takes."""
    layers = equal_layers(groups)
    if not layers:
        return groups
    padded = (-(-group.layers // layers) * layers for group in groups)
    return tuple(
        replace(group, entry_bytes=-(-group.entry_bytes * count // group.layers))
        for group, count in zip(groups, padded, strict=True)
    )
