"""Check and time page copies on the GPU that is here: `python -m vsim.hwbackend.copies.trial`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.copies.pages import PageCopies
from vsim.hwbackend.cuda.buffers import download, fill, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.places import device_place, place_of
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.slots import Slots, TierSlots
from vsim.traces.faults import InputError

CHUNK_BYTES: Final = 64 << 20
REPEATS: Final = 7
BLOCKS: Final = (16, 32, 66, 132, 264)
Move = Callable[[Stream, NDArray[np.int64], NDArray[np.int64]], int]


def stream_us(work: Callable[[], object], stream: Stream) -> float:
    """Return the median microseconds of what `work` puts on a stream."""
    found = []
    with Event(timing=True) as before, Event(timing=True) as after:
        work()
        for _ in range(REPEATS):
            before.record(stream)
            work()
            after.record(stream)
            after.synchronize()
            found.append(after.us_since(before))
    return median(found)


def is_right(copies: PageCopies, slots: Slots, stream: Stream, count: int) -> bool:
    """Copy random pages from the last tier to the first, both ways, and compare."""
    size, random = copies.page_bytes, np.random.default_rng(0)
    first, last = (slots.first_slot(tier.name) for tier in (slots.tiers[0], slots.tiers[-1]))
    data = random.integers(0, 2**32, (count, size // 4), np.uint32)
    sources = slots.addresses(last + random.permutation(count).astype(np.int64))
    targets = slots.addresses(first + random.permutation(count).astype(np.int64))
    for address, page in zip(sources, data, strict=True):
        upload(int(address), page, stream)
    for move in (copies.by_engine, copies.by_kernel):
        for address in targets:
            fill(int(address), 0, size, stream)
        move(stream, sources, targets)
        for address, page in zip(targets, data, strict=True):
            if not np.array_equal(download(np.empty_like(page), int(address), stream), page):
                return False
    return True


def run(given: argparse.Namespace) -> bool:
    """Check and time what the arguments say; return whether all was right."""
    other = place_of(given.place) if given.place else device_place(0)
    with ExitStack() as held:
        if other.kind == "device" and other.number:
            held.enter_context(Context(other.number))  # its memory is there once it has one
        context = held.enter_context(Context(0))
        stream = held.enter_context(Stream())
        device = context.device
        print(f"{device.name}, {device.place} and {other}; GB/s")
        print("page KiB        in: engine  kernel 16, 32, 66, 132, 264 blocks       out: likewise")
        for kib in given.sizes_kib:
            page_bytes, count = kib << 10, (given.total_mib << 10) // kib
            tiers = [TierSlots("near", device.place, count), TierSlots("far", other, count)]
            with (
                Slots(page_bytes, tiers, CHUNK_BYTES, [device]) as slots,
                PageCopies(context, page_bytes) as copies,
            ):
                if given.check and not is_right(copies, slots, stream, min(count, 300)):
                    print(f"pages of {kib} KiB: a copy differs from its source")
                    return False
                order = np.random.default_rng(1).permutation(count).astype(np.int64)
                near, far = slots.addresses(order), slots.addresses(count + order[::-1])
                ways: list[Move] = [copies.by_engine]
                ways += [partial(copies.by_kernel, blocks=n) for n in BLOCKS]
                row = [
                    stream_us(partial(move, stream, *pair), stream)
                    for pair in ((far, near), (near, far))
                    for move in ways
                ]
                moved = count * page_bytes
                print(f"{kib:8}" + " ".join(f"{moved / us / 1e3:8.1f}" for us in row), flush=True)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line: 0 all is right, 1 it is not, 2 the arguments or no GPU."""
    parser = argparse.ArgumentParser(prog="vsim.hwbackend.copies.trial", description=__doc__)
    add = parser.add_argument
    add("--place", default="", help="the other side, as host:0; else the GPU itself")
    add("--sizes-kib", type=sizes_of, default="64,256,2048,16384", help="of pages")
    add("--total-mib", type=int, default=512, help="bytes moved each time")
    add("--check", action="store_true", help="compare what arrives first")
    try:
        return 0 if run(parser.parse_args(arguments)) else 1
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def sizes_of(text: str) -> list[int]:
    """Read `64,2048`."""
    return [int(one) for one in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
