"""realloc, reserve, pool_trim: what the preloaded library offers, from Python.

They work in a process that runs under `vsim preload run`; `is_preloaded()` says whether it does.
Addresses are the device's, as `int`, of memory that cudaMalloc gave; they are freed as ever.
"""

import ctypes
from functools import cache

_SUCCESS, _INVALID_VALUE, _OUT_OF_MEMORY = 0, 1, 2


class NotPreloadedError(RuntimeError):
    """The library is not in this process, or does not manage its memory."""


def is_preloaded() -> bool:
    """Whether the library is in this process, in either mode."""
    return hasattr(_process(), "vsim_realloc")


def reserve(size_bytes: int, reserve_bytes: int) -> int:
    """Allocate on the current context's device, with addresses to grow into.

    Raises:
        NotPreloadedError: nothing manages memory here.
        MemoryError: the device has no more.
        ValueError: no bytes, or fewer addresses than bytes.
    """
    address = ctypes.c_ulonglong()
    _call("vsim_reserve", ctypes.byref(address), size_bytes, reserve_bytes)
    return address.value


def realloc(address: int, size_bytes: int) -> int:
    """Make a block larger or smaller and return where it is then; its bytes stay.

    Raises:
        NotPreloadedError: nothing manages memory here.
        MemoryError: the device has no more; the block is as it was.
        ValueError: no block begins at the address, or no bytes are asked for.
    """
    moved = ctypes.c_ulonglong(address)
    _call("vsim_realloc", ctypes.byref(moved), size_bytes)
    return moved.value


def pool_trim(keep_bytes: int = 0) -> None:
    """Give pooled memory back to the driver until each device keeps so much at most.

    Raises:
        NotPreloadedError: nothing manages memory here.
    """
    _call("vsim_pool_trim", keep_bytes)


@cache
def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _call(name: str, *arguments: object) -> None:
    if not is_preloaded():
        raise NotPreloadedError(
            "libvsim_preload.so is not in this process; start it with `vsim preload run`"
        )
    passed = [ctypes.c_size_t(each) if isinstance(each, int) else each for each in arguments]
    code = getattr(_process(), name)(*passed)
    if code == _OUT_OF_MEMORY:
        raise MemoryError(f"{name}: the device has no more memory")
    if code == _INVALID_VALUE:
        raise ValueError(f"{name}: {', '.join(map(str, arguments))} is not what it takes")
    if code != _SUCCESS:
        raise NotPreloadedError(
            f"{name}: the library does not manage this memory (code {code}); run with --mode "
            "manage, and with a current context on a device that has virtual memory management"
        )
