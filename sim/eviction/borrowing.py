"""`kernel_borrowing`: a kernel that borrows its arrays, so that calls count no references.

numba counts references around each call that passes an array, with atomic instructions that take
longer than most operations on a queue.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

import vsim.sim.compiled  # noqa: F401 - it chooses numba's cache folder, before any decorator runs

F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F, **options: Any) -> F:
    # No C wrapper: it takes a fifth of the time to compile, and nothing calls it.
    njit: Any = numba.njit  # its stub leaves out the options that begin with an underscore
    return cast(
        F,
        njit(cache=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True, **options)(
            function
        ),
    )


def kernel_borrowing(function: F) -> F:
    """As `kernel`, for a function that neither makes an array nor keeps one."""
    return _compiled(function)


def kernel_borrowing_inline(function: F) -> F:
    """As `kernel_borrowing`, and ask LLVM to inline it at every call."""
    return _compiled(function, forceinline=True)


@kernel_borrowing_inline
def wide(value: Any) -> int:
    """Widen an integer to int64: numba compiles a function again for every width that it meets."""
    return np.int64(value)  # type: ignore[return-value]  # int64 is what an int is in kernels
