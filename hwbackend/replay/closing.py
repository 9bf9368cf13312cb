"""closing, close_current: what gives things back at the end of a block, whatever ended it."""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import close_after


def closing(close: Callable[[], object]) -> Callable[..., None]:
    """Close at the end of a block; an error in that hides none that ended the block."""

    def ended(
        kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            close()
        else:
            close_after(error, close)

    return ended


def close_current(context: Context, close: Callable[[], object]) -> Callable[[], None]:
    """Close with a GPU's context current, as far as the GPU is still there."""

    def closed() -> None:
        with suppress(CudaError):
            context.make_current()
        close()

    return closed
