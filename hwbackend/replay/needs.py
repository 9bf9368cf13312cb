"""`needs`: the memory that a replay takes on its devices, said before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsim.hwbackend.replay.source import Source

CHUNK_BYTES = 2 << 20
"""Physical memory comes in chunks of this size; a tier's slots fill whole ones."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one place.

    Args:
        tier: whose.
        pages: page slots there.
        kv_bytes: that they take, in whole chunks.
        weight_bytes: of the model.
        buffer_bytes: of activations, plans and workspaces; 0 where no GPU is asked for.
    """

    tier: str
    pages: int
    kv_bytes: int
    weight_bytes: int
    buffer_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.kv_bytes + self.weight_bytes + self.buffer_bytes

    def as_json(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {name: getattr(self, name) for name in self.__slots__} | {"bytes": self.bytes}


def needs(source: Source, slots: Sequence[int], work_bytes: int = 0) -> list[Need]:
    """List what each tier takes.

    Args:
        source: what is replayed.
        slots: page slots of each tier: those that a plan touches, or all that an engine has.
        work_bytes: what steps take of the GPU, weights included; 0 where there is none.
    """
    found = []
    for number, (tier, pages) in enumerate(zip(source.plan.tiers, slots, strict=True)):
        share_bytes = -(-source.plan.page_bytes // source.gpus)  # of a page on each GPU
        chunks = source.gpus * -(-pages * share_bytes // CHUNK_BYTES)
        weights = source.weight_bytes if number == 0 else 0
        buffers = max(work_bytes - weights, 0) if number == 0 else 0
        found.append(Need(tier, pages, chunks * CHUNK_BYTES, weights, buffers))
    return found
