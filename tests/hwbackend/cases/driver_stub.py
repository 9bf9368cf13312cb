"""A driver that computes nothing and knows its memory: every address that work names is checked.

It stands in for `cuda.bindings.driver` below `vsim.hwbackend.cuda.calls`. Time passes by a tick an
event. Work that is captured is checked when its graph is made, like any other.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

from vsim.hwbackend.cuda import calls

TICK_US = 10.0
_ATTRIBUTES = {
    "MULTIPROCESSOR_COUNT": 132, "L2_CACHE_SIZE": 50 << 20, "COMPUTE_CAPABILITY_MAJOR": 9,
    "COMPUTE_CAPABILITY_MINOR": 0, "HOST_NUMA_ID": 0, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 232448,
}  # fmt: skip


_FIRST_ADDRESS, _HOST_ADDRESSES = 1 << 40, 1 << 46


class StubDriver:
    """Holds what was taken and not given back. `log` has the name of every call.

    Args:
        gpus: how many there are.
        fails: what a call is to end with instead, by its name and how often it was called before.
    """

    def __init__(
        self, gpus: int = 2, fails: Callable[[str, int], str | None] | None = None
    ) -> None:
        self.gpus = gpus
        self.log: list[str] = []
        self.copies: list[tuple[int, int, int]] = []
        self.launches = 0
        self._fails = fails
        self._calls: Counter[str] = Counter()
        self._next = _FIRST_ADDRESS
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

        before = self._calls[name]
        self._calls[name] += 1
        self.log.append(name)
        failure = self._fails(name, before) if self._fails else None
        if failure is not None:
            return (getattr(driver.CUresult, failure),)
        found = getattr(self, "_" + _snake(name.removeprefix("cu")), None)
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

    def _device_get_count(self) -> int:
        return self.gpus

    def _driver_get_version(self) -> int:
        return 13000

    def _device_get_name(self, size: int, ordinal: int) -> bytes:
        return b"NVIDIA H200\0"

    def _device_get_pcibus_id(self, size: int, ordinal: int) -> bytes:
        return b"0000:01:00.0\0"

    def _device_total_mem(self, ordinal: int) -> int:
        return 141 << 30

    def _device_get_attribute(self, attribute: Any, ordinal: int) -> int:
        return _ATTRIBUTES[attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]

    def _device_can_access_peer(self, reader: int, owner: int) -> int:
        return 1

    def _device_primary_ctx_retain(self, ordinal: int) -> int:
        return ordinal + 1

    def _ctx_get_current(self) -> int:
        return 1

    def _mem_get_info(self) -> tuple[int, int]:
        return 140 << 30, 141 << 30

    def _mem_get_allocation_granularity(self, *_: Any) -> int:
        return 2 << 20

    def _mem_alloc(self, size: int) -> int:
        at = self._room(size)
        self._memory[at] = size
        return at

    def _mem_free(self, at: Any) -> None:
        del self._memory[int(at)]

    def _mem_create(self, size: int, *_: Any) -> int:
        self._serial += 1
        self._chunks[self._serial] = size
        return self._serial

    def _mem_release(self, handle: int) -> None:
        del self._chunks[handle]

    def _mem_address_reserve(self, size: int, *_: Any) -> int:
        at = self._room(size)
        self._reserved[at] = size
        return at

    def _mem_address_free(self, at: Any, size: int) -> None:
        assert self._reserved.pop(int(at)) == size

    def _mem_map(self, at: int, size: int, offset: int, handle: int, flags: int) -> None:
        assert self._chunks[handle] == size
        assert at not in self._mapped
        self._mapped[at] = (size, handle)

    def _mem_set_access(self, at: int, size: int, *_: Any) -> None:
        end = at + size
        while at < end:
            here = self._mapped[at][0]
            self._memory[at] = here
            at += here

    def _mem_unmap(self, at: int, size: int) -> None:
        end = at + size
        while at < end:
            here, _ = self._mapped.pop(at)
            del self._memory[at]
            at += here

    def _memcpy_async(self, target: int, source: int, size: int, stream: Any) -> None:
        for address in (target, source):
            ours = _FIRST_ADDRESS <= address < _HOST_ADDRESSES  # a heap may lie below these too
            assert not ours or self.reachable(address, size), f"{address:#x} + {size:,}"
        self.copies.append((target, source, size))

    def _memset_d8_async(self, at: int, byte: int, size: int, stream: Any) -> None:
        assert self.reachable(at, size)

    def _stream_create(self, *_: Any) -> int:
        return self._take()

    def _stream_destroy(self, stream: int) -> None:
        self._held.remove(int(stream))

    def _stream_end_capture(self, stream: int) -> int:
        return self._take()

    def _graph_destroy(self, graph: int) -> None:
        self._held.remove(graph)

    def _graph_instantiate(self, graph: int, *_: Any) -> int:
        return self._take()

    def _graph_exec_destroy(self, graph: int) -> None:
        self._held.remove(graph)

    def _event_create(self, *_: Any) -> int:
        return self._take()

    def _event_destroy(self, event: int) -> None:
        self._held.remove(int(event))

    def _event_record(self, event: int, stream: Any) -> None:
        self._now_us += TICK_US
        self._times[int(event)] = self._now_us

    def _event_elapsed_time(self, earlier: int, later: int) -> float:
        return 1e-3 * (self._times[int(later)] - self._times[int(earlier)])

    def _module_load_data(self, code: bytes) -> int:
        return self._take()

    def _module_unload(self, module: int) -> None:
        self._held.remove(module)

    def _module_get_function(self, module: int, name: bytes) -> int:
        return 1

    def _func_get_attribute(self, *_: Any) -> int:
        return 64

    def _occupancy_max_active_blocks_per_multiprocessor(self, *_: Any) -> int:
        return 2

    def _launch_kernel(self, *_: Any) -> None:
        self.launches += 1

    _launch_kernel_ex = _launch_kernel


def _snake(name: str) -> str:
    """MemAlloc as mem_alloc."""
    return re.sub("(?<=[a-z0-9])[A-Z]", lambda found: "_" + found[0], name).lower()


def stand_in(monkeypatch: Any, driver: StubDriver) -> StubDriver:
    """Put a stub in the driver's place for one test."""
    monkeypatch.setattr(calls, "_outcome", driver.outcome)
    return driver
