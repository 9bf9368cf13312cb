"""Clearing: memory of a GPU that was released is cleared, and page tables wait for that."""

from pydantic import Field

from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bandwidth, DurationNs
from vsim.sim.machine.quantity import Part, Source


class Clearing(Part):
    """How a GPU's driver clears what was released, in the background, before it is taken again.

    Released bytes are cleared `first` + bytes / `bandwidth` after the first of them was released.
    Page tables are written by the engine that clears: until then each chunk's set_access waits for
    the engine's next turn. Seen on 2 x H200 with driver 580.159.04 on 2026-11-27: `first` 0.08 ms,
    417 GB/s, and turns of 1.006 ms; another H200 and an H100 let nothing wait. No run reads it,
    since a simulated server keeps its chunks; it is for replay on a GPU and the cases it is judged
    by.
    """

    bandwidth: Bandwidth
    """At which released bytes are cleared."""
    first: DurationNs
    """Before they are."""
    turn: DurationNs
    """That one set_access waits at most."""
    source: Source
    """Where the figures are from."""
    note: Text = Field(min_length=1)
    """A measurement's date, device and driver; the reason of an assumption."""

    def cleared_ns(self, released_bytes: int) -> float:
        """Time from the first release of so many bytes to their end."""
        return self.first + released_bytes / self.bandwidth * 1e9 if released_bytes else 0.0

    def access_ns(self, alone_ns: float, chunks: int, pending_ns: float) -> float:
        """Time of a set_access over chunks while memory is cleared.

        Args:
            alone_ns: what it takes while none is.
            chunks: side by side; each waits for a turn at most, and those after the end for none.
            pending_ns: until all is cleared.
        """
        turns = min(max(pending_ns, 0.0) / self.turn, chunks)
        return turns * self.turn + alone_ns * (1 - turns / chunks)
