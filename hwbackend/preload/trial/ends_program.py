"""Memory that ends with what it was made in: contexts reset, destroyed and released, mapped chunks.

By the driver's own functions, through ctypes, so that no runtime stands between. Prints a digest of
what was read back, and what `cuMemGetInfo` says is used at each stage, in bytes above the first.
"""

import ctypes
import hashlib
import json
from typing import Final

MIB: Final = 1 << 20
CHUNK: Final = 4 * MIB
_READ_WRITE: Final = 3


class Driver:
    """libcuda as a C program sees it; state: what was read back."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self.read = hashlib.sha256()
        self.do("cuInit", ctypes.c_uint(0))

    def has(self, name: str) -> bool:
        """Whether the driver exports a function."""
        return hasattr(self._cuda, name)

    def do(self, name: str, *words: object) -> None:
        """Call a function; an error ends the program."""
        code = getattr(self._cuda, name)(*words)
        if code:
            raise SystemExit(f"{name} failed: {code}")

    def used(self) -> int:
        """Bytes of the current context's device that are not free."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.do("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def primary(self) -> ctypes.c_void_p:
        """Device 0's primary context, held once more and made current."""
        context = ctypes.c_void_p()
        self.do("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.do("cuCtxSetCurrent", context)
        return context

    def take(self, size: int, value: int) -> ctypes.c_uint64:
        """A block, filled and read back."""
        block = ctypes.c_uint64()
        self.do("cuMemAlloc_v2", ctypes.byref(block), ctypes.c_size_t(size))
        self._fill(block, size, value)
        return block

    def free(self, block: ctypes.c_uint64) -> None:
        """Give a block back."""
        self.do("cuMemFree_v2", block)

    def map_and_unmap(self) -> tuple[int, int, bool]:
        """Release a chunk while it is mapped, and hold it again by its address, as NCCL does.

        Returns the bytes used while it is mapped and after, and whether its handle is the same.
        """
        at, handle, again = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        size, none = ctypes.c_size_t(CHUNK), ctypes.c_uint64(0)
        prop = (ctypes.c_int * 8)(1, 0, 1, 0)  # pinned memory of device 0
        access = (ctypes.c_int * 3)(1, 0, _READ_WRITE)
        self.do("cuMemAddressReserve", ctypes.byref(at), size, none, none, none)
        self.do("cuMemCreate", ctypes.byref(handle), size, prop, none)
        self.do("cuMemMap", at, size, none, handle, none)
        self.do("cuMemSetAccess", at, size, access, ctypes.c_size_t(1))
        self.do("cuMemRelease", handle)
        self.do("cuMemRetainAllocationHandle", ctypes.byref(again), ctypes.c_void_p(at.value))
        self._fill(at, CHUNK, 11)
        self.do("cuMemRelease", again)
        mapped = self.used()
        self.do("cuMemUnmap", at, size)
        unmapped = self.used()
        self.do("cuMemAddressFree", at, size)
        return mapped, unmapped, again.value == handle.value

    def _fill(self, at: ctypes.c_uint64, size: int, value: int) -> None:
        self.do("cuMemsetD8_v2", at, ctypes.c_ubyte(value), ctypes.c_size_t(size))
        found = ctypes.create_string_buffer(size)
        self.do("cuMemcpyDtoH_v2", found, at, ctypes.c_size_t(size))
        self.read.update(found.raw)


def main() -> None:
    """Take memory and end what it is in, each way once."""
    driver = Driver()
    driver.primary()
    driver.free(driver.take(1000, 1))
    before, used = driver.used(), {}
    driver.take(30 * MIB, 2)
    driver.take(50 * MIB, 3)
    used["two blocks"] = driver.used() - before
    mapped, unmapped, same = driver.map_and_unmap()
    used["a chunk mapped"], used["and unmapped"] = mapped - before, unmapped - before
    own = driver.has("cuCtxCreate_v2")
    if own:
        context = ctypes.c_void_p()
        driver.do("cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), 0)
        driver.take(70 * MIB, 5)
        driver.do("cuCtxDestroy_v2", context)
    driver.do("cuDevicePrimaryCtxReset_v2", 0)
    driver.primary()
    used["reset"] = driver.used() - before
    driver.take(90 * MIB, 7)
    used["a block after it"] = driver.used() - before
    driver.do("cuDevicePrimaryCtxRelease_v2", 0)
    driver.do("cuDevicePrimaryCtxRelease_v2", 0)  # the reset left the first hold
    print(
        json.dumps({"digest": driver.read.hexdigest()[:24], "used": used, "own": own, "same": same})
    )


if __name__ == "__main__":
    main()
