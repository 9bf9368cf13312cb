"""Contents: what each page holds, written there after each step and looked at after each copy."""

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.replay.disk import read_page
from vsim.hwbackend.replay.page_names import PageNames, own_name
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.sim.engine.backend import Operation

_WORD_BYTES = 4


class WrongPageError(RuntimeError):
    """A page does not hold what the engine says that it holds."""


class Contents:
    """Follows what was written and copied, and holds the pages' bytes against it. Stateful.

    After a step each page with new tokens is filled with two words, which follow from its name: one
    in its first half, the other behind. So a page that was not copied, not whole, or to another
    place, is found. A batch may only name pages whose name is that of the request's own page.

    Args:
        names: what a request's pages are called; pages that are shared have one name. None where
            the trace is not known: a page is then named after who wrote it, and only copies are
            looked at.
        page_tokens: tokens of a page.
    """

    def __init__(self, names: PageNames | None, page_tokens: int) -> None:
        self.checked = 0
        """Pages that were looked at."""
        self._names = names
        self._page_tokens = page_tokens
        self._held: dict[int, int] = {}

    def stepped(self, operation: Operation, room: PageRoom, stream: Stream) -> None:
        """Hold a step's batch against what was written before, and write its own pages."""
        batch = operation.batch
        assert batch is not None
        for i, row in enumerate(batch.rows.tolist()):
            before = int(batch.context_tokens[i] - batch.new_tokens[i])
            slots = batch.indices[batch.indptr[i] : batch.indptr[i + 1]].tolist()
            first_new = before // self._page_tokens
            for page, slot in enumerate(slots):
                name = own_name(row, page) if self._names is None else self._names.of(row, page)
                if self._names is None and page < first_new:
                    continue
                if page < first_new and self._held.get(slot) != name:
                    found = self._held.get(slot)
                    raise WrongPageError(
                        f"request {row} attends to slot {slot} as its page {page}, named {name}; "
                        f"it holds {'nothing' if found is None else found}"
                    )
                if page >= first_new:
                    self._held[slot] = name
                    self._write(slot, name, room, stream)
        stream.synchronize()

    def copied(self, operation: Operation, room: PageRoom, stream: Stream) -> None:
        """Look at the pages of a copy that has ended."""
        pairs = zip(operation.sources.tolist(), operation.targets.tolist(), strict=True)
        for source, target in pairs:
            if source in self._held:
                self._held[target] = self._held[source]
                self._look(target, room, stream)

    def look_at_all(self, room: PageRoom, stream: Stream) -> None:
        """Look at every page that was ever written."""
        for slot in self._held:
            self._look(slot, room, stream)

    def _write(self, slot: int, name: int, room: PageRoom, stream: Stream) -> None:
        address = int(room.addresses(np.array([slot]))[0])
        half = room.slot_bytes // _WORD_BYTES // 2
        rest = room.slot_bytes // _WORD_BYTES - half
        first, second = words_of(name)
        handle = stream.driver_handle
        call("cuMemsetD32Async", address, first, half, handle, detail=f"page in slot {slot}")
        call("cuMemsetD32Async", address + half * _WORD_BYTES, second, rest, handle)

    def _look(self, slot: int, room: PageRoom, stream: Stream) -> None:
        found = read_page(room, slot, stream)
        name = self._held[slot]
        wrong = found != page_of(name, len(found))
        self.checked += 1
        if wrong.any():
            raise WrongPageError(
                f"slot {slot} should hold page {name}; {int(wrong.sum()):,} of its "
                f"{len(found):,} words are others, the first at byte "
                f"{int(wrong.argmax()) * _WORD_BYTES:,}"
            )


_BF16_NEAR_ONE = 0x3F003F00  # with what is left free: numbers from 0.5 to 2 of either sign
_BF16_FREE = 0x80FF80FF


def words_of(name: int) -> tuple[int, int]:
    """The two words of a page's name, by the finaliser of MurmurHash3 (Appleby), 64 bits.

    Each is two bf16 numbers near 1, so that attention over them has a meaning.
    """
    mixed = (name + 0x9E3779B97F4A7C15) & (1 << 64) - 1
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = ((mixed ^ mixed >> 33) * factor) & (1 << 64) - 1
    mixed ^= mixed >> 33
    words = mixed >> 32, mixed & (1 << 32) - 1
    return words[0] & _BF16_FREE | _BF16_NEAR_ONE, words[1] & _BF16_FREE | _BF16_NEAR_ONE


def page_of(name: int, words: int) -> NDArray[np.uint32]:
    """What a page of so many words holds."""
    first, second = words_of(name)
    page = np.full(words, second, np.uint32)
    page[: words // 2] = first
    return page
