"""MachineFacts: what a measurement says about the machine that it was taken on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device, can_access, devices

_BUS_ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU as it was found. What NVML alone tells is None where there is no NVML.

    Args:
        name: as the driver says it: NVIDIA H200.
        memory_bytes: as the driver counts it.
        multiprocessors: how many.
        l2_bytes: the cache's size.
        capability: of the architecture: (9, 0) for Hopper.
        numa_node: of the host, nearest to the GPU; -1 where unknown.
        power_limit_w: at this moment.
        sm_max_mhz: the highest clock of the multiprocessors.
        memory_mhz: the highest clock of the memory.
    """

    name: str
    memory_bytes: int
    multiprocessors: int
    l2_bytes: int
    capability: tuple[int, int]
    numa_node: int
    power_limit_w: float | None = None
    sm_max_mhz: int | None = None
    memory_mhz: int | None = None


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """A machine as it was found.

    Args:
        date: of the measurement, UTC, YYYY-MM-DD.
        driver: its version, 580.82; "unknown" without NVML.
        cuda: what the driver speaks: 13.0.
        gpus: those that the process sees, in its own order.
        peers: pairs of them that reach each other's memory, lower one first.
    """

    date: str
    driver: str
    cuda: str
    gpus: tuple[GpuFacts, ...]
    peers: tuple[tuple[int, int], ...]

    @property
    def note(self) -> str:
        """What a machine file's figure says of its measurement: date, device, driver."""
        count = f"{len(self.gpus)} × " if len(self.gpus) > 1 else ""
        return f"{self.date}, {count}{self.gpus[0].name}, driver {self.driver}, CUDA {self.cuda}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        gpus = tuple(
            GpuFacts(**{**each, "capability": _pair(each["capability"])}) for each in found["gpus"]
        )
        peers = tuple(_pair(each) for each in found["peers"])
        return cls(found["date"], found["driver"], found["cuda"], gpus, peers)


def read_facts() -> MachineFacts:
    """Read the machine's facts. Raises NoDriver where there is none."""
    found = devices()
    version = int(call("cuDriverGetVersion"))
    nvml = _nvml()
    peers = tuple(
        (a, b)
        for a in range(len(found))
        for b in range(a + 1, len(found))
        if can_access(found[a], found[b]) and can_access(found[b], found[a])
    )
    return MachineFacts(
        time.strftime("%Y-%m-%d", time.gmtime()),
        _driver(nvml),
        f"{version // 1000}.{version % 1000 // 10}",
        tuple(_gpu(each, nvml) for each in found),
        peers,
    )


def bus_id(device: Device) -> str:
    """A device's PCI bus id, by which NVML knows it whatever order the process sees."""
    raw = call("cuDeviceGetPCIBusId", _BUS_ID_BYTES, device.ordinal)
    return bytes(raw).split(b"\0")[0].decode("ascii", "replace")


def _gpu(device: Device, nvml: Any) -> GpuFacts:
    power = sm_max = memory = None
    if nvml is not None:
        try:
            handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id(device).encode())
            power = nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3
            sm_max = int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
            memory = int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM))
        except nvml.NVMLError:
            pass  # a board may keep one of these to itself; the rest stays
    return GpuFacts(
        device.name,
        device.total_bytes,
        device.multiprocessors,
        device.l2_bytes,
        _pair(device.capability),
        device.numa_node,
        power,
        sm_max,
        memory,
    )


def _driver(nvml: Any) -> str:
    if nvml is None:
        return "unknown"
    try:
        said = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return "unknown"
    return said.decode() if isinstance(said, bytes) else str(said)


def _nvml() -> Any:
    """NVML's module, started; None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _pair(values: Sequence[int]) -> tuple[int, int]:
    one, other = values
    return int(one), int(other)
