"""page_rates: a machine whose links, and disk, are as fast as copies of one page after another are.

A replay moves pages by a copy each: their slots lie in two orders, so that they seldom are
neighbours on both sides. A link's bandwidth is that of one large copy; the machine's table of
copies says what each piece costs beside its bytes, and how much longer it takes beside steps: a
replay's copies start with one, and steps follow each other.
"""

from typing import Any, Final

from vsim.sim.machine.copies import CopyRow, find_copy_row
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.quantity import Quantity
from vsim.sim.machine.tier import Link, Tier

_DISK: Final = "nvme"
MANY: Final = 64
"""Pages of a copy, as conversations that are moved have them."""


def by_pages(machine: Machine, page_bytes: int) -> Machine:
    """The same machine with links at the rate of pages; those without measured copies stay.

    Between HBM and a disk there are two links, and the disk is slower than either: its own rates
    are those of pages then.

    Args:
        machine: whose.
        page_bytes: of a page, the size of every copy.
    """
    links = tuple(_link(machine, link, page_bytes) for link in machine.links)
    tiers = tuple(_tier(machine, tier, page_bytes) for tier in machine.tiers)
    return machine.model_copy(update={"links": links, "tiers": tiers})


def _link(machine: Machine, link: Link, page_bytes: int) -> Link:
    kinds = machine.tier(link.source).kind, machine.tier(link.target).kind
    changed: dict[str, Any] = {}
    for field, ends in (("bandwidth", kinds), ("reverse_bandwidth", kinds[::-1])):
        row = find_copy_row(machine.copies, *ends, "engine")
        if row is not None:
            changed[field] = _by_page(getattr(link, field), row, page_bytes)
    return link.model_copy(update=changed) if changed else link


def _tier(machine: Machine, tier: Tier, page_bytes: int) -> Tier:
    if tier.kind != _DISK:
        return tier
    changed: dict[str, Any] = {}
    for field, ends in (("read", (_DISK, "hbm")), ("write", ("hbm", _DISK))):
        row = find_copy_row(machine.copies, *ends, "engine")
        if row is not None:
            changed[field] = _by_page(getattr(tier, field), row, page_bytes)
    return tier.model_copy(update=changed) if changed else tier


def _by_page(quantity: Quantity[int], row: CopyRow, page_bytes: int) -> Quantity[int]:
    bytes_s = page_bytes / row.bandwidth
    share = bytes_s / (bytes_s + row.each_ns(page_bytes, MANY) / 1e9) / row.beside_step
    return quantity.model_copy(update={"value": quantity.value * share})
