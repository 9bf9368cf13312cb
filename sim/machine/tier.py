"""Tier: a memory of a machine, and the links that lead from one to another."""

from typing import Literal

from vsim.sim.inputs.words import Word
from vsim.sim.inputs.yaml_input import Bandwidth, Bytes, DurationNs
from vsim.sim.machine.quantity import Part, Quantity

TierKind = Literal["hbm", "peer", "lpddr", "host", "cxl", "nvme", "network"]


class Tier(Part):
    """A memory. The hbm tier is one GPU's; every other tier is the whole machine's."""

    name: Word
    """The name that links and scenarios use."""
    kind: TierKind
    """What it is; VMM calls cost by kind."""
    capacity: Quantity[Bytes]
    """Its size."""
    read: Quantity[Bandwidth]
    """How fast it is read."""
    write: Quantity[Bandwidth]
    """How fast it is written."""
    latency: Quantity[DurationNs]
    """Time of the first byte of an access, in the memory itself."""
    attend_in_place: bool
    """Whether a kernel can read pages where they are, without a promotion."""
    page_granularity: Quantity[Bytes]
    """A mapped page is a whole number of these; a copied page may have any size."""


class Group(Part):
    """A resource that several links share, such as a PCIe root or a memory controller."""

    name: Word
    """The name that links use."""
    bandwidth: Quantity[Bandwidth]
    """What all transfers of its links, in both directions together, can have at once."""


class Link(Part):
    """A channel between two tiers, for the whole machine."""

    source: Word
    """The tier that `bandwidth` leads away from."""
    target: Word
    """The tier that `bandwidth` leads to."""
    bandwidth: Quantity[Bandwidth]
    """From source to target."""
    reverse_bandwidth: Quantity[Bandwidth]
    """From target to source."""
    latency: Quantity[DurationNs]
    """Time before a transfer's first byte arrives, in either direction."""
    group: Word | None = None
    """The group whose bandwidth this link shares with others."""

    @property
    def name(self) -> str:
        """The link's name in results: `host-hbm`."""
        return f"{self.source}-{self.target}"
