"""python3 -m vsim.hwbackend.memory.trial: random mappings on a real GPU, every page checked.

Maps, grows, remaps and unmaps chunks of the GPU, of a peer where there is one and of the host at
random, never waiting for more than an operation's own fence; each page holds a pattern of its own,
which must be there after each move. At the end all memory must be back. Needs no PyTorch, and of
vsim's dependencies only NumPy and cuda-python.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import PinnedBuffer, copy
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import can_access, devices, granularity
from vsim.hwbackend.cuda.errors import CudaError, OutOfMemory
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.traces.faults import InputError

_ROOM: Final = 12  # chunks of a range: small, so that runs meet and borders are hit
_STEPS: Final = 10  # operations of a sequence
_MOST_AT_ONCE: Final = 4  # chunks
_WARM_UP: Final = 20  # sequences before the free memory is read: the driver keeps what it made
_WORD: Final = 4


class WrongBytesError(RuntimeError):
    """A page does not hold what was written there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial did.

    Args:
        chunk_bytes: of each page.
        done: how often each operation was done, and pages checked.
        moved: pages moved, by where from and where to.
        lost_bytes: free memory of each GPU that did not come back.
        seconds: how long it took.
    """

    chunk_bytes: int
    done: Counter[str]
    moved: Counter[tuple[Place, Place]]
    lost_bytes: dict[Place, int]
    seconds: float


class Trial(Held):
    """Ranges and pools on one GPU, and what its pages should hold. Holds memory until closed.

    Args:
        reader: the GPU that reads and writes, whose context is current.
        places: where chunks may be.
        chunk_bytes: of each.
    """

    def __init__(self, reader: Context, places: Sequence[Place], chunk_bytes: int) -> None:
        self.done: Counter[str] = Counter()
        self.moved: Counter[tuple[Place, Place]] = Counter()
        self._reader, self._bytes = reader.device, chunk_bytes
        self._written = 0
        with ExitStack() as undo:
            self._pools = {
                place: undo.enter_context(ChunkPool(place, chunk_bytes)) for place in places
            }
            self._stream = undo.enter_context(Stream())
            self._fence = undo.enter_context(Event())
            self._seen = undo.enter_context(PinnedBuffer(chunk_bytes))
            self._staging = undo.enter_context(AddressRange(1, chunk_bytes, [self._reader]))
            self._held = undo.pop_all()

    def close(self) -> None:
        """Give everything back."""
        self._held.close()

    def sequence(self, draw: np.random.Generator) -> None:
        """Do one random sequence of operations in a range of its own."""
        pages: list[int | None] = [None] * _ROOM
        with AddressRange(_ROOM, self._bytes, [self._reader]) as there:
            try:
                for _ in range(_STEPS):
                    self._step(there, pages, draw)
                self._check(there, pages, [at for at, word in enumerate(pages) if word is not None])
            except BaseException:
                with suppress(CudaError):
                    self._stream.synchronize()  # the range goes, and what it holds
                raise
            for chunk in there.close():
                self._pools[chunk.place].give(chunk)
        if draw.integers(4) == 0:
            self._pools[self._any_place(draw)].drain()
            self.done["drain"] += 1

    def exhaust(self, place: Place, chunk_bytes: int) -> None:
        """Ask for more than a place can have: it must be refused and everything be given back."""
        count = devices()[place.number].total_bytes // chunk_bytes + 1
        with ChunkPool(place, chunk_bytes) as pool:
            try:
                taken = pool.take_all(count)
            except OutOfMemory:
                self.done["refused for want of memory"] += 1
                return
            for chunk in taken:
                pool.give(chunk)
            raise WrongBytesError(f"{place} gave {count * chunk_bytes:,} bytes, more than it has")

    def _step(
        self, there: AddressRange, pages: list[int | None], draw: np.random.Generator
    ) -> None:
        mapped = [at for at, word in enumerate(pages) if word is not None]
        free = [at for at, word in enumerate(pages) if word is None]
        what = draw.choice(["map", "map", "grow", "remap", "remap", "unmap", "write"])
        if free and what == "map":
            at = int(draw.choice(free))
            self._map(there, pages, at, self._run(pages, at, draw), draw)
        elif _end(pages) < _ROOM and what == "grow":
            at = _end(pages)
            self._map(there, pages, at, self._run(pages, at, draw), draw)
        elif mapped and what == "remap":
            self._remap(there, pages, int(draw.choice(mapped)), draw)
        elif mapped and what == "unmap":
            self._unmap(there, pages, int(draw.choice(mapped)), draw)
        elif mapped and what == "write":
            self._write(there, pages, int(draw.choice(mapped)))
            self.done["write"] += 1
        left = [at for at, word in enumerate(pages) if word is not None]
        if left:
            self._check(there, pages, [int(draw.choice(left))])  # mostly one that was left alone

    def _run(self, pages: Sequence[int | None], at: int, draw: np.random.Generator) -> int:
        """Some of the pages from one on that are mapped like it, or free like it."""
        most = 1
        while (
            most < _MOST_AT_ONCE
            and at + most < _ROOM
            and (pages[at + most] is None) == (pages[at] is None)
        ):
            most += 1
        return int(draw.integers(1, most + 1))

    def _map(
        self, there: AddressRange, pages: list[int | None], at: int, count: int,
        draw: np.random.Generator,
    ) -> None:  # fmt: skip
        chunks = [self._pools[self._any_place(draw)].take() for _ in range(count)]
        if at == _end(pages) and draw.integers(2):
            there.grow(chunks)
            self.done["grow"] += 1
        else:
            there.map(at, chunks)
            self.done["map"] += 1
        for index in range(at, at + count):
            self._write(there, pages, index)
        self._check(there, pages, range(at, at + count))

    def _remap(
        self, there: AddressRange, pages: list[int | None], at: int, draw: np.random.Generator
    ) -> None:
        """Move a page: copy it into another chunk, and put that one under its address."""
        fresh = self._pools[self._any_place(draw)].take()
        self._staging.map(0, [fresh])
        copy(self._staging.address(0), there.address(at), self._bytes, self._stream)
        self._fence.record(self._stream)
        self._staging.unmap(0, 1, self._fence)
        old = there.remap(at, fresh, self._fence)
        self._pools[old.place].give(old)
        self.moved[old.place, fresh.place] += 1
        self.done["remap"] += 1
        self._check(there, pages, [at])

    def _unmap(
        self, there: AddressRange, pages: list[int | None], at: int, draw: np.random.Generator
    ) -> None:
        count = self._run(pages, at, draw)
        self._fence.record(self._stream)
        for chunk in there.unmap(at, count, self._fence):
            self._pools[chunk.place].give(chunk)
        pages[at : at + count] = [None] * count
        self.done["unmap"] += 1

    def _any_place(self, draw: np.random.Generator) -> Place:
        places = list(self._pools)
        return places[int(draw.integers(len(places)))]

    def _write(self, there: AddressRange, pages: list[int | None], at: int) -> None:
        """Fill a page: a word of its own, and in the latter half its complement."""
        self._written += 1
        word = (self._written * 2_654_435_761) & 0xFFFF_FFFF  # spreads over all bits (Knuth)
        half = self._bytes // _WORD // 2
        detail = f"{self._bytes // 2:,} bytes"
        for first, value in ((0, word), (half, ~word & 0xFFFF_FFFF)):
            address = there.address(at) + first * _WORD
            call(
                "cuMemsetD32Async", address, value, half, self._stream.driver_handle, detail=detail
            )
        pages[at] = word

    def _check(
        self, there: AddressRange, pages: Sequence[int | None], indices: Sequence[int]
    ) -> None:
        """Copy pages down and compare every word."""
        seen = self._seen.array(np.uint32)
        half = len(seen) // 2
        for at in indices:
            word = pages[at]
            assert word is not None
            copy(self._seen.address, there.address(at), self._bytes, self._stream)
            self._stream.synchronize()
            _must_be(seen[:half], word, at, there)
            _must_be(seen[half:], ~word & 0xFFFF_FFFF, at, there)
            self.done["pages checked"] += 1


def _end(pages: Sequence[int | None]) -> int:
    """Behind the last page that is mapped."""
    return max((at + 1 for at, word in enumerate(pages) if word is not None), default=0)


def _must_be(seen: NDArray[np.uint32], word: int, at: int, there: AddressRange) -> None:
    wrong = np.flatnonzero(seen != np.uint32(word))
    if len(wrong):
        chunk = there.chunk(at)
        place = chunk.place if chunk is not None else "nowhere"
        raise WrongBytesError(
            f"page {at} on {place}: {len(wrong):,} of {len(seen):,} words are wrong, the first "
            f"{int(seen[wrong[0]]):#010x} at word {int(wrong[0]):,} where {word:#010x} was written"
        )


def run(sequences: int, seed: int, device: int, chunk_bytes: int) -> Outcome:
    """Run a trial.

    Raises:
        WrongBytesError: a page held other bytes than were written.
        CudaError: a call failed that should not.
    """
    begin = time.monotonic()
    with ExitStack() as held:
        reader = held.enter_context(Context(device))
        others = [each for each in devices() if each != reader.device]
        peers = [each for each in others if can_access(reader.device, each)][:1]
        contexts = [reader, *(held.enter_context(Context(peer)) for peer in peers)]
        reader.make_current()
        places = [reader.device.place, *(peer.place for peer in peers), reader.device.host]
        least = max(granularity(place) for place in places)
        size = -(-chunk_bytes // least) * least
        with Trial(reader, places, size) as warm_up:
            for number in range(_WARM_UP):
                warm_up.sequence(np.random.Generator(np.random.PCG64([seed, 0, number])))
            warm_up.exhaust(reader.device.place, 1 << 31)
        before = {each.device.place: each.free_bytes() for each in contexts}
        reader.make_current()
        with Trial(reader, places, size) as trial:
            for number in range(sequences):
                try:
                    trial.sequence(np.random.Generator(np.random.PCG64([seed, 1, number])))
                except (WrongBytesError, CudaError) as error:
                    error.add_note(f"in sequence {number} of seed {seed}")
                    raise
            trial.exhaust(reader.device.place, 1 << 31)
        lost = {
            each.device.place: before[each.device.place] - each.free_bytes() for each in contexts
        }
    return Outcome(size, trial.done, trial.moved, lost, time.monotonic() - begin)


def table(outcome: Outcome) -> str:
    """What was done, as lines."""
    rows = [("a page", f"{outcome.chunk_bytes:,} bytes")]
    rows += [(name, f"{count:,}") for name, count in sorted(outcome.done.items())]
    rows += [
        (f"moved {source} to {target}", f"{count:,}")
        for (source, target), count in sorted(outcome.moved.items())
    ]
    rows += [(f"not given back by {place}", f"{lost:,} bytes")
             for place, lost in outcome.lost_bytes.items()]  # fmt: skip
    rows.append(("time", f"{outcome.seconds:.1f} s"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>14}" for name, value in rows)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line: 0 all is right, 1 it is not, 2 there is no GPU."""
    parser = argparse.ArgumentParser(prog="vsim.hwbackend.memory.trial", description=__doc__)
    for option, standard, least, meaning in (
        ("--sequences", 1000, 1, "how many random sequences"),
        ("--seed", 0, 0, "of the random operations"),
        ("--device", 0, 0, "the GPU that reads and writes"),
        ("--chunk-bytes", 1 << 21, 1, "of a page, rounded up to what the driver maps"),
    ):
        shown = f"{meaning} (default: {standard})"
        parser.add_argument(option, type=_at_least(least), default=standard, help=shown)
    given = parser.parse_args(arguments)
    try:
        outcome = run(given.sequences, given.seed, given.device, given.chunk_bytes)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except (WrongBytesError, CudaError) as error:
        print("\n  ".join([f"fault: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 1
    print(table(outcome))
    if any(outcome.lost_bytes.values()):
        print("fault: not all memory came back", file=sys.stderr)
        return 1
    print("every page held what was written there, and all memory is back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
