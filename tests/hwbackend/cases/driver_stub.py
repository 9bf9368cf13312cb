"""A driver that computes nothing and knows its memory: every address that work names is checked.

It stands in for `cuda.bindings.driver` below `vsim.hwbackend.cuda.calls`. Time passes by a tick an
event. Work that is captured is checked when its graph is made, like any other.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from vsim.hwbackend.cuda import calls

TICK_US = 10.0
_ATTRIBUTES = {
    "MULTIPROCESSOR_COUNT": 132, "L2_CACHE_SIZE": 50 << 20, "COMPUTE_CAPABILITY_MAJOR": 9,
    "COMPUTE_CAPABILITY_MINOR": 0, "HOST_NUMA_ID": 0, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 232448,
}  # fmt: skip


class StubDriver:
    """Holds what was taken and not given back. `log` has the name of every call.

    Args:
        gpus: how many there are.
        fails: what a call is to end with instead, by its name and how often it was called before.
    """

    def __init__(self, gpus: int = 2, fails: Callable[[str, int], str | None] | None = None) -> None:
        self.gpus = gpus
        self.log: list[str] = []
        self.copies: list[tuple[int, int, int]] = []
        self.launches = 0
        self._fails = fails
        self._next = 1 << 40
        self._serial = 0
        self._now_us = 0.0
        self._memory: dict[int, int] = {}  # begin of what can be used, its bytes
        self._mapped: dict[int, tuple[int, int]] = {}
        self._reserved: dict[int, int] = {}
        self._chunks: dict[int, int] = {}
        self._held: set[int] = set()
        self._times: dict[int, float] = {}

    @property
    def held(self) -> int:
        """Things that were taken and not given back."""
        return sum(map(len, (self._memory, self._reserved, self._chunks, self._held)))

    def outcome(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Carry out a call."""
        from cuda.bindings import driver

        before = self.log.count(name) if self._fails else 0
        self.log.append(name)
        failure = self._fails(name, before) if self._fails else None
        if failure is not None:
            return (getattr(driver.CUresult, failure),)
        found = getattr(self, f"_{name}", None)
        made = () if found is None else found(*arguments)
        values = made if isinstance(made, tuple) else (made,)
        return (driver.CUresult.CUDA_SUCCESS, *values)

    def reachable(self, address: int, size: int) -> bool:
        """Whether memory lies under all of a range."""
        begins = sorted(self._memory)
        while size > 0:
            at = bisect_right(begins, address) - 1
            if at < 0:
                return False
            left = begins[at] + self._memory[begins[at]] - address
            if left <= 0:
                return False
            address, size = address + left, size - left
        return True

    def _take(self) -> int:
        self._serial += 1
        self._held.add(self._serial)
        return self._serial

    def _room(self, size: int) -> int:
        at, self._next = self._next, self._next + -(-size // (2 << 20)) * (2 << 20) + (2 << 20)
        return at

    def _cuDeviceGetCount(self) -> int:
        return self.gpus

    def _cuDriverGetVersion(self) -> int:
        return 13000

    def _cuDeviceGetName(self, size: int, ordinal: int) -> bytes:
        return b"NVIDIA H200\0"

    def _cuDeviceGetPCIBusId(self, size: int, ordinal: int) -> bytes:
        return b"0000:01:00.0\0"

    def _cuDeviceTotalMem(self, ordinal: int) -> int:
        return 141 << 30

    def _cuDeviceGetAttribute(self, attribute: Any, ordinal: int) -> int:
        return _ATTRIBUTES[attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]

    def _cuDeviceCanAccessPeer(self, reader: int, owner: int) -> int:
        return 1

    def _cuDevicePrimaryCtxRetain(self, ordinal: int) -> int:
        return ordinal + 1

    def _cuMemGetInfo(self) -> tuple[int, int]:
        return 140 << 30, 141 << 30

    def _cuMemGetAllocationGranularity(self, *_: Any) -> int:
        return 2 << 20

    def _cuMemAlloc(self, size: int) -> int:
        at = self._room(size)
        self._memory[at] = size
        return at

    def _cuMemFree(self, at: Any) -> None:
        del self._memory[int(at)]

    def _cuMemCreate(self, size: int, *_: Any) -> int:
        self._serial += 1
        self._chunks[self._serial] = size
        return self._serial

    def _cuMemRelease(self, handle: int) -> None:
        del self._chunks[handle]

    def _cuMemAddressReserve(self, size: int, *_: Any) -> int:
        at = self._room(size)
        self._reserved[at] = size
        return at

    def _cuMemAddressFree(self, at: Any, size: int) -> None:
        assert self._reserved.pop(int(at)) == size

    def _cuMemMap(self, at: int, size: int, offset: int, handle: int, flags: int) -> None:
        assert self._chunks[handle] == size
        assert at not in self._mapped
        self._mapped[at] = (size, handle)

    def _cuMemSetAccess(self, at: int, size: int, *_: Any) -> None:
        end = at + size
        while at < end:
            here = self._mapped[at][0]
            self._memory[at] = here
            at += here

    def _cuMemUnmap(self, at: int, size: int) -> None:
        end = at + size
        while at < end:
            here, _ = self._mapped.pop(at)
            del self._memory[at]
            at += here

    def _cuMemcpyAsync(self, target: int, source: int, size: int, stream: Any) -> None:
        for address in (target, source):
            assert address > 1 << 46 or self.reachable(address, size), f"{address:#x} + {size:,}"
        self.copies.append((target, source, size))

    def _cuMemsetD8Async(self, at: int, byte: int, size: int, stream: Any) -> None:
        assert self.reachable(at, size)

    def _cuStreamCreate(self, *_: Any) -> int:
        return self._take()

    def _cuStreamDestroy(self, stream: int) -> None:
        self._held.remove(int(stream))

    def _cuStreamEndCapture(self, stream: int) -> int:
        return self._take()

    def _cuGraphDestroy(self, graph: int) -> None:
        self._held.remove(graph)

    def _cuGraphInstantiate(self, graph: int, *_: Any) -> int:
        return self._take()

    def _cuGraphExecDestroy(self, graph: int) -> None:
        self._held.remove(graph)

    def _cuEventCreate(self, *_: Any) -> int:
        return self._take()

    def _cuEventDestroy(self, event: int) -> None:
        self._held.remove(int(event))

    def _cuEventRecord(self, event: int, stream: Any) -> None:
        self._now_us += TICK_US
        self._times[int(event)] = self._now_us

    def _cuEventElapsedTime(self, earlier: int, later: int) -> float:
        return 1e-3 * (self._times[int(later)] - self._times[int(earlier)])

    def _cuModuleLoadData(self, code: bytes) -> int:
        return self._take()

    def _cuModuleUnload(self, module: int) -> None:
        self._held.remove(module)

    def _cuModuleGetFunction(self, module: int, name: bytes) -> int:
        return 1

    def _cuFuncGetAttribute(self, *_: Any) -> int:
        return 64

    def _cuOccupancyMaxActiveBlocksPerMultiprocessor(self, *_: Any) -> int:  # noqa: N802
        return 2

    def _cuLaunchKernel(self, *_: Any) -> None:
        self.launches += 1

    _cuLaunchKernelEx = _cuLaunchKernel


def stand_in(monkeypatch: Any, driver: StubDriver) -> StubDriver:
    """Put a stub in the driver's place for one test."""
    monkeypatch.setattr(calls, "_outcome", driver.outcome)
    return driver
