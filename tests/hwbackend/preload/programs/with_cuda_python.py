"""A program of cuda-python's: memory taken, copied, grown and given back; says what it saw."""

import sys

import numpy as np
from cuda.bindings import driver

from vsim.hwbackend.preload import growing

MIB = 1 << 20


def do(result):
    code, *rest = result
    assert code == driver.CUresult.CUDA_SUCCESS, code
    return rest[0] if len(rest) == 1 else rest


def main() -> None:
    do(driver.cuInit(0))
    do(driver.cuCtxSetCurrent(do(driver.cuDevicePrimaryCtxRetain(0))))
    there = do(driver.cuMemGetInfo())[0]
    small, large = do(driver.cuMemAlloc(3000)), do(driver.cuMemAlloc(5 * MIB))
    given = np.arange(3000 // 8)
    do(driver.cuMemcpyHtoD(small, given.ctypes.data, 3000))
    do(driver.cuMemcpyDtoD(large, small, 3000))
    found = np.zeros_like(given)
    do(driver.cuMemcpyDtoH(found.ctypes.data, large, 3000))
    assert (found == given).all()
    base, size = do(driver.cuMemGetAddressRange(int(large) + 100))
    assert (int(base), size) == (int(large), 5 * MIB)
    if sys.argv[1] == "manage":
        grown = growing.realloc(int(large), 40 * MIB)
        found[:] = 0
        do(driver.cuMemcpyDtoH(found.ctypes.data, driver.CUdeviceptr(grown), 3000))
        assert (found == given).all()
        large = driver.CUdeviceptr(grown)
        room = growing.reserve(2 * MIB, 64 * MIB)
        assert growing.realloc(room, 64 * MIB) == room
        do(driver.cuMemFree(driver.CUdeviceptr(room)))
        for wrong in (lambda: growing.realloc(12345, 100), lambda: growing.reserve(100, 99)):
            try:
                wrong()
            except ValueError:
                continue
            raise AssertionError
        try:
            growing.realloc(int(large), 1 << 50)
            raise AssertionError
        except MemoryError:
            pass
    else:
        try:
            growing.pool_trim()
            raise AssertionError
        except growing.NotPreloadedError as error:
            print(str(error).split(";")[0])
    do(driver.cuMemFree(small))
    do(driver.cuMemFree(large))
    assert do(driver.cuMemGetInfo())[0] == there
    if sys.argv[1] == "manage":
        growing.pool_trim()
    print("done")


if __name__ == "__main__":
    main()
