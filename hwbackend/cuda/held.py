"""Held: what of the driver's is taken and has to be given back."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from vsim.hwbackend.cuda.errors import CudaError


class Held:
    """Something that is held until `close`, which a with-statement calls.

    An error of the block comes out of it even if closing fails as well: that is noted in it, as it
    mostly follows from the first. What a failed `close` could not give back is still held: a second
    one tries again.
    """

    def close(self) -> object:
        """Give it back. A second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            close_after(error, self.close)


def close_after(error: BaseException, close: Callable[[], object]) -> None:
    """Close something because of an error; if that fails too, note it in the error."""
    try:
        close()
    except CudaError as second:
        error.add_note(f"and then {second}")


def do_all(actions: Iterable[Callable[[], object]]) -> None:
    """Do everything, even if some of it fails.

    Raises:
        CudaError: the first one; of those after it one is noted in it, and how many there were.
    """
    failed: list[CudaError] = []
    stopped: BaseException | None = None
    for action in actions:
        try:
            action()
        except CudaError as error:
            failed.append(error)
        except BaseException as error:  # noqa: BLE001  # a signal waits until all is back
            stopped = stopped or error
    if stopped is not None:
        raise stopped
    if not failed:
        return
    first, *others = failed
    if others:
        more = f" ({len(others) - 1:,} more)" if len(others) > 1 else ""
        first.add_note(f"and then {others[0]}{more}")
    raise first
