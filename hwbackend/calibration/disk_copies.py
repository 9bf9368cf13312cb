"""Copies between HBM and a disk, piece by piece through pinned buffers, as a replay does them."""

import os
import time
from contextlib import ExitStack

import numpy as np

from vsim.hwbackend.calibration.bench import HBM, Bench
from vsim.hwbackend.measuring.gpus import AbsentError
from vsim.hwbackend.memory.files import PageFile
from vsim.hwbackend.memory.staging import disk_staging
from vsim.traces.gpu_samples import Point, Sampled

_SEED = 20261127
_MOST_REPEATS = 5
"""A disk takes longer than memory does, and a shared one's times differ from minute to minute."""


def measure_disk(bench: Bench, point: Point, repeats: int, *, writes: bool) -> Sampled:
    """Time copies by the host's clock, microseconds of all that a point counts.

    The file is written before it is read: a file system answers for what it never wrote without
    its disk.

    Args:
        bench: whose `disk` is a folder on the disk.
        point: size and number of the pieces, which lie in another order on either side.
        repeats: samples at most.
        writes: to the disk, or from it.

    Raises:
        AbsentError: no folder was named.
        InputError: the disk takes no direct reads and writes, or has no room.
    """
    if bench.disk is None:
        raise AbsentError("no disk was named; write --disk FOLDER")
    size, count = point["bytes"], point["count"]
    memory = bench.memory(HBM, 2 * size * count)
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(count).tolist()
    pieces = [(place * size, memory + 2 * size * at) for at, place in enumerate(order)]
    with ExitStack() as held:
        path = bench.disk / f".vsim-calibration-{os.getpid()}"
        file = held.enter_context(PageFile(path, size * count))
        staging, stream = held.enter_context(disk_staging()), bench.main

        def moved_us(*, writes: bool) -> float:
            began = time.monotonic_ns()
            for at, address in pieces:
                if writes:
                    staging.store(file, at, address, size, stream)
                else:
                    staging.load(address, file, at, size, stream)
            stream.synchronize()
            return (time.monotonic_ns() - began) / 1e3

        moved_us(writes=True)
        taken = [moved_us(writes=writes) for _ in range(min(repeats, _MOST_REPEATS))]
    return Sampled(point, size * count, tuple(taken))
