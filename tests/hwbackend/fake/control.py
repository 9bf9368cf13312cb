"""Fake: what a test can ask of the fake driver, and tell it to do."""

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

KINDS = (
    "context", "stream", "event", "module", "graph", "graph_exec", "chunk", "buffer", "pinned",
    "range", "mapping",
)  # fmt: skip
OUT_OF_MEMORY, INVALID_VALUE, ILLEGAL_ADDRESS, LAUNCH_FAILED, UNKNOWN = 2, 1, 700, 719, 999

_ON_LAUNCH = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint,
    ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch that was done.

    Args:
        name: the kernel's.
        grid: blocks.
        block: threads.
        shared_bytes: dynamic shared memory.
        attributes: how many launch attributes it had.
        arguments: the bytes of each.
    """

    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int
    attributes: int
    arguments: tuple[bytes, ...]


class Fake:
    """The driver that this process has loaded, as `fake_...` functions of the library."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        for name, result in (
            ("fake_call_count", ctypes.c_size_t), ("fake_call_name", ctypes.c_char_p),
            ("fake_fail", ctypes.c_bool), ("fake_failures_left", ctypes.c_size_t),
            ("fake_live", ctypes.c_long), ("fake_used", ctypes.c_size_t),
            ("fake_hazards", ctypes.c_size_t), ("fake_pending", ctypes.c_size_t),
            ("fake_works_done", ctypes.c_uint64), ("fake_launch_count", ctypes.c_size_t),
            ("fake_launch_name", ctypes.c_char_p),
            ("fake_launch_extent", ctypes.POINTER(ctypes.c_uint)),
            ("fake_launch_arguments", ctypes.c_size_t), ("fake_launch_size", ctypes.c_size_t),
            ("fake_launch_argument", ctypes.c_void_p),
        ):  # fmt: skip
            getattr(self._library, name).restype = result
        self._callback: object = None

    def reset(self) -> None:
        """Make everything as it was when the library was loaded."""
        self._library.fake_reset()
        self._callback = None

    # What is alive

    def live(self) -> dict[str, int]:
        """Everything that was taken and not given back, by kind; empty where there is nothing."""
        counts = {kind: self._library.fake_live(kind.encode()) for kind in KINDS}
        return {kind: count for kind, count in counts.items() if count}

    def used(self, place: str) -> int:
        """Bytes taken of a place, `device:0` or `host:1`."""
        return int(self._library.fake_used(*_place(place)))

    def pending(self) -> int:
        """Pieces of work that nothing has waited for."""
        return int(self._library.fake_pending())

    def hazards(self) -> int:
        """Pieces of work still queued when memory that they use was unmapped or given back."""
        return int(self._library.fake_hazards())

    # What happened

    def calls(self, since: int = 0) -> list[str]:
        """Names of the driver's functions called, in order, from a `call_count` on."""
        count = self.call_count()
        return [
            self._library.fake_call_name(ctypes.c_size_t(at)).decode() for at in range(since, count)
        ]

    def call_count(self) -> int:
        """How many calls there were."""
        return int(self._library.fake_call_count())

    def calls_by_name(self, since: int = 0) -> Counter[str]:
        """How often each function was called."""
        return Counter(self.calls(since))

    def launches(self) -> list[Launch]:
        """Launches that were done, in order."""
        return [self._launch(at) for at in range(self._library.fake_launch_count())]

    # What shall happen

    def fail(self, function: str, nth: int = 1, code: int = UNKNOWN) -> None:
        """Let the nth call of a function from now on fail once; "" is any function."""
        if not self._library.fake_fail(function.encode(), ctypes.c_long(nth), code):
            raise ValueError(f"no room for one more failure, of {function}")

    def failures_left(self) -> int:
        """How many failures that were asked for did not come yet."""
        return int(self._library.fake_failures_left())

    def lose_device_at(self, nth: int = 1) -> None:
        """Let the nth call from now on and all after it fail with ILLEGAL_ADDRESS."""
        self._library.fake_lose_device_at(ctypes.c_long(nth))

    def heal(self) -> None:
        """Let nothing fail any more that was asked to, and a lost device work again."""
        self._library.fake_heal()

    def limit(self, place: str, total_bytes: int) -> None:
        """Give a place so much memory in all."""
        self._library.fake_limit(*_place(place), ctypes.c_size_t(total_bytes))

    def on_launch(
        self, work: Callable[[str, tuple[int, ...], tuple[int, ...], list[int]], None]
    ) -> None:
        """Have a function called when a launch's turn comes.

        Args:
            work: takes the kernel's name, grid, block and the addresses of its arguments; memory
                of the fake can be read and written at its addresses (ctypes, `from_address`).
        """

        def called(name: bytes, extent: object, shared: int, arguments: object, count: int) -> None:
            dims = tuple(extent[i] for i in range(6))  # type: ignore[index]
            work(name.decode(), dims[:3], dims[3:], [arguments[i] for i in range(count)])  # type: ignore[index]

        self._callback = _ON_LAUNCH(called)
        self._library.fake_on_launch(self._callback)

    def _launch(self, at: int) -> Launch:
        library, index = self._library, ctypes.c_size_t(at)
        extent = library.fake_launch_extent(index)
        arguments = [
            ctypes.string_at(
                library.fake_launch_argument(index, ctypes.c_size_t(which)),
                library.fake_launch_size(index, ctypes.c_size_t(which)),
            )
            for which in range(library.fake_launch_arguments(index))
        ]
        return Launch(
            library.fake_launch_name(index).decode(), tuple(extent[:3]), tuple(extent[3:6]),
            library.fake_launch_shared(index), library.fake_launch_attributes(index),
            tuple(arguments),
        )  # fmt: skip


def _place(text: str) -> tuple[int, int]:
    kind, number = text.split(":")
    return ("device", "host").index(kind), int(number)
