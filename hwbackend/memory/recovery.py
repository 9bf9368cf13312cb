"""retry_after_draining: what is done when memory runs out before anybody is told."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from vsim.hwbackend.cuda.errors import CudaError, OutOfMemory
from vsim.hwbackend.cuda.held import do_all
from vsim.hwbackend.memory.chunks import ChunkPool

Result = TypeVar("Result")


def retry_after_draining(
    action: Callable[[], Result],
    pools: Iterable[ChunkPool],
    finish: Callable[[], None] | None = None,
) -> Result:
    """Do something; if memory runs out, give back what nobody uses and do it once more.

    Args:
        action: takes memory, all that it needs or none.
        pools: whose free chunks can go.
        finish: waits for what is still on its way to a pool, such as a fenced unmap.

    Raises:
        OutOfMemory: it ran out again; the message says what is held where.
    """
    pools = tuple(pools)
    try:
        return action()
    except OutOfMemory:
        if finish is not None:
            finish()
    free = sum(pool.free_bytes for pool in pools)
    with suppress(CudaError):  # what it could give back may be enough; else the next try says more
        do_all([pool.drain for pool in pools])
    drained = free - sum(pool.free_bytes for pool in pools)
    try:
        return action()
    except OutOfMemory as error:
        held = "; ".join(str(pool) for pool in pools)
        detail = f"{error.detail} (after {drained:,} bytes were given back; held: {held})"
        raise OutOfMemory(error.call, error.code, error.name, detail) from None
