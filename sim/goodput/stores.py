"""Stores: pages that were written to a tier below HBM, and how many of them were never loaded.

From the log of transfers, whose rows name the slots that a copy read, then those that it wrote. A
slot that is written from above begins a store; a later copy from it upwards loads it; the next
write to the slot, or the end of the run, ends it. Copies of one moment keep the log's order.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vsim.traces.arrow_arrays import coded, elements, lists

_STORE: Final = 0
_LOAD: Final = 1

Int64s = NDArray[np.int64]


class Stores(BaseModel):
    """What became of the pages written to a tier from above.

    Args:
        tier: its name.
        pages: that were written there.
        never_loaded: of them, that nothing was loaded from until they were gone, or the run ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: str
    pages: int
    never_loaded: int


def stores_of(operations: pa.Table, tiers: Sequence[str]) -> tuple[Stores, ...]:
    """Follow every store of a run.

    Args:
        operations: the log of transfers.
        tiers: names of the tiers, HBM first.
    """
    kinds, words = coded(operations.column("kind"))
    copy = words.index("copy") if "copy" in words else len(words)
    table = operations.filter(pa.array(kinds == copy))
    source, target = (_places(table, name, tiers) for name in ("source_tier", "target_tier"))
    offsets, flat = lists(table.column("pages"))
    slots = elements(flat)
    return tuple(_of_tier(at, tiers, source, target, slots, offsets) for at in range(1, len(tiers)))


def _places(table: pa.Table, column: str, tiers: Sequence[str]) -> Int64s:
    """int64[n]: the place of each copy's tier in the hierarchy."""
    codes, words = coded(table.column(column))
    places = np.array([tiers.index(word) for word in words if word is not None], np.int64)
    return places[codes] if codes.size else np.empty(0, np.int64)


def _of_tier(
    tier: int, tiers: Sequence[str], source: Int64s, target: Int64s, flat: Int64s, offsets: Int64s
) -> Stores:
    slots: list[Int64s] = []
    kinds: list[Int64s] = []
    for row in np.flatnonzero((target == tier) | (source == tier)):
        half = int(offsets[row] + offsets[row + 1]) // 2
        if target[row] == tier and source[row] < tier:
            slots.append(flat[half : offsets[row + 1]])
            kinds.append(np.full(slots[-1].size, _STORE))
        elif source[row] == tier and target[row] < tier:
            slots.append(flat[offsets[row] : half])
            kinds.append(np.full(slots[-1].size, _LOAD))
    if not slots:
        return Stores(tier=tiers[tier], pages=0, never_loaded=0)
    slot, kind = np.concatenate(slots), np.concatenate(kinds)
    order = np.argsort(slot, kind="stable")  # each slot's events together, in the log's order
    slot, kind = slot[order], kind[order]
    stores = np.flatnonzero(kind == _STORE)
    following = np.minimum(stores + 1, slot.size - 1)
    loaded = (following > stores) & (slot[following] == slot[stores]) & (kind[following] == _LOAD)
    never = int(np.count_nonzero(~loaded))
    return Stores(tier=tiers[tier], pages=stores.size, never_loaded=never)
