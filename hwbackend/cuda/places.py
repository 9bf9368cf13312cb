"""Place: where physical memory can be."""

from dataclasses import dataclass
from typing import Any, Literal

from vsim.traces.faults import refuse

DEVICE, HOST = "device", "host"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A GPU's memory, or that of a host's NUMA node: `device:0`, `host:0`."""

    kind: Literal["device", "host"]
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"

    def properties(self) -> Any:
        """What the driver calls an allocation there."""
        from cuda.bindings import driver

        made = driver.CUmemAllocationProp()
        made.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        made.location.type = (
            driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
            if self.kind == DEVICE
            else driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST_NUMA
        )
        made.location.id = self.number
        return made


def place_of(text: str) -> Place:
    """Read a place as it is written."""
    kind, _, number = text.partition(":")
    if kind not in (DEVICE, HOST) or not (number.isascii() and number.isdigit()):
        refuse("place", f"is {text[:40]!r}; write device:0 or host:0")
    return Place("device" if kind == DEVICE else "host", int(number))


def device_place(number: int) -> Place:
    """The memory of a GPU."""
    return Place("device", number)


def host_place(number: int) -> Place:
    """The memory of a NUMA node."""
    return Place("host", number)
