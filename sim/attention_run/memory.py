"""`Memory`: what HBM and the tier under it take for a step's bytes, from the machine's figures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.engine.topology import Topology
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.sim.timing.step_cost import StepCost

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Two tiers that a step reads at once.

    Attributes:
        hbm_read_bytes_per_s: HBM, as fast as attention reads it.
        slow_read_bytes_per_s: of the slower tier, or of the link to it if that is less.
        up_s_per_byte, down_s_per_byte: float64[resources], what a byte read from the slower tier,
            and one written to it, takes of each of its resources: its own memory, each direction
            of a link on the way, what links share. HBM's own time is counted apart.
        waits: a and b of the slower tier, see `vsim.sim.timing.attend`: shares of its time, and of
            HBM's, by which HBM's part of a step's read, and its own, get longer.
    """

    hbm_read_bytes_per_s: float
    slow_read_bytes_per_s: float
    up_s_per_byte: Floats
    down_s_per_byte: Floats
    waits: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def of(net: Topology, cost: StepCost) -> "Memory":
        """Take them from a topology of two tiers, HBM first."""
        paths, attend = 4, 4 + 1
        below_hbm = net.use[paths] == 0  # what reading HBM itself does not take
        token_s = cost.curves.prefill_context_ns / 1e9
        return Memory(
            hbm_read_bytes_per_s=cost.kv_read_bytes_per_token / token_s,
            slow_read_bytes_per_s=float(net.read_bytes_per_s[1]),
            up_s_per_byte=net.use[attend][below_hbm],
            down_s_per_byte=net.use[1][below_hbm],
            waits=(float(net.hbm_waits[1]), float(net.waits[1])),
        )

    def slow_s(self, up_bytes: Int64s, down_bytes: Int64s) -> Floats:
        """float64[T]: the time of the busiest resource, when both ways run at once."""
        taken = np.multiply.outer(up_bytes, self.up_s_per_byte)
        taken += np.multiply.outer(down_bytes, self.down_s_per_byte)
        busiest: Floats = taken.max(axis=1)
        return busiest

    def beside(self, hbm_s: Floats, slow_s: Floats) -> Floats:
        """float64[2, T]: what both parts take beside each other, from what they take alone."""
        parts = [
            alone + np.where(alone > 0, wait * other, 0.0)
            for alone, other, wait in zip((hbm_s, slow_s), (slow_s, hbm_s), self.waits, strict=True)
        ]
        return np.stack(parts)

    @property
    def duplex(self) -> bool:
        """Whether writes to the slower tier do not slow the reads down that limit it.

        False only if one resource carries both and limits both, so that the time of the slower
        tier is at least (up + down) / slow_read_bytes_per_s. True is always safe for a bound.
        """
        slowest = self.up_s_per_byte == self.up_s_per_byte.max()
        return not bool((self.down_s_per_byte >= self.up_s_per_byte)[slowest].any())

    def two_tiers(self, *, hbm_pages: int, exclusive: bool, norm: float) -> TwoTiers:
        """The same memory as placement policies and the bound see it.

        Args:
            hbm_pages: pages that HBM holds.
            exclusive: whether a page is in one tier only.
            norm: p of the step time.
        """
        return TwoTiers(
            hbm_bytes_per_s=self.hbm_read_bytes_per_s,
            slow_bytes_per_s=self.slow_read_bytes_per_s,
            hbm_pages=hbm_pages,
            exclusive=exclusive,
            duplex=self.duplex,
            norm=norm,
        )
