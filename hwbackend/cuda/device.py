"""Device: a GPU as the driver describes it."""

from dataclasses import dataclass
from typing import Final

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.errors import CudaError, NoDriver
from vsim.hwbackend.cuda.places import Place, device_place, host_place

_NAME_BYTES: Final = 256
_NO_DEVICE: Final = 100


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Args:
        ordinal: its number in this process.
    """

    ordinal: int

    @property
    def name(self) -> str:
        """As the driver says it: NVIDIA H200."""
        raw = call("cuDeviceGetName", _NAME_BYTES, self.ordinal)
        return bytes(raw).split(b"\0")[0].decode("utf-8", "replace")

    @property
    def total_bytes(self) -> int:
        """Its memory."""
        return int(call("cuDeviceTotalMem", self.ordinal))

    @property
    def multiprocessors(self) -> int:
        """How many."""
        return self.attribute("MULTIPROCESSOR_COUNT")

    @property
    def l2_bytes(self) -> int:
        """Its cache."""
        return self.attribute("L2_CACHE_SIZE")

    @property
    def shared_bytes(self) -> int:
        """Shared memory that one block may take at most."""
        return self.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")

    @property
    def capability(self) -> tuple[int, int]:
        """Of its architecture: (9, 0) for Hopper."""
        return (
            self.attribute("COMPUTE_CAPABILITY_MAJOR"),
            self.attribute("COMPUTE_CAPABILITY_MINOR"),
        )

    @property
    def numa_node(self) -> int:
        """Of the host, nearest to it; -1 where unknown."""
        return self.attribute("HOST_NUMA_ID")

    @property
    def place(self) -> Place:
        """Its memory."""
        return device_place(self.ordinal)

    @property
    def host(self) -> Place:
        """The host's memory nearest to it."""
        return host_place(max(self.numa_node, 0))

    def attribute(self, name: str) -> int:
        """One attribute, by its name in the driver less CU_DEVICE_ATTRIBUTE_."""
        from cuda.bindings import driver

        wanted = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call("cuDeviceGetAttribute", wanted, self.ordinal, detail=name))


def devices() -> tuple[Device, ...]:
    """All GPUs of this process.

    Raises:
        NoDriver: there is no driver, or it knows of no GPU.
    """
    try:
        call("cuInit", 0)
    except CudaError as error:
        if error.code == _NO_DEVICE:
            raise NoDriver("the NVIDIA driver here knows of no GPU") from None
        raise
    count = int(call("cuDeviceGetCount"))
    if count == 0:
        raise NoDriver("the NVIDIA driver here knows of no GPU")
    return tuple(Device(ordinal) for ordinal in range(count))


def can_access(reader: Device, owner: Device) -> bool:
    """Whether a GPU can read and write another one's memory."""
    if reader == owner:
        return True
    return bool(call("cuDeviceCanAccessPeer", reader.ordinal, owner.ordinal))


def granularity(place: Place) -> int:
    """Bytes of which every chunk there is a multiple."""
    from cuda.bindings import driver

    least = driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
    return int(call("cuMemGetAllocationGranularity", place.properties(), least, detail=str(place)))
