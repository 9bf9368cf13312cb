"""`kernel`: compile a function with numba and keep the machine code for the next run.

numba notices a change in a function's own file only, not in the files of the functions it calls.
So the cache folder's name holds a hash of every kernel source: any change starts a fresh one.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config

_KEPT_DAYS = 30

F = TypeVar("F", bound=Callable[..., object])


def _sources_hash() -> str:
    """Hash all kernel sources of this package, with numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        text = path.read_bytes()
        if b"kernel" in text or b"np.dtype(" in text:
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(text)
    return digest.hexdigest()[:16]


def _remove_unused(base: str) -> None:
    """Remove the caches of other versions of the kernels that no run has used for a month."""
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if time.time() - os.stat(path).st_mtime > _KEPT_DAYS * 86_400:
            shutil.rmtree(path, ignore_errors=True)


def _cache_folder() -> str:
    """Choose a folder that can be written: the user's cache, else a temporary one."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "vsim", "kernels", _sources_hash())
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder)
            _remove_unused(os.path.dirname(folder))
        os.utime(folder)  # so that it counts as used
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return tempfile.mkdtemp(prefix="vsim-kernels-")


# numba reads its cache folder when a function is decorated, so it is set before the first one.
if not os.environ.get("NUMBA_CACHE_DIR"):
    setattr(config, "CACHE_DIR", _cache_folder())  # noqa: B010 - numba adds it at run time


# `_nrt` is not in numba's type stubs.
_BORROWING = MappingProxyType(
    {"cache": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
)


def kernel(function: F) -> F:
    """Compile `function` in nopython mode at its first call and cache the result on disk."""
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))


def borrowing_kernel(function: F) -> F:
    """As `kernel`, for a function that neither makes an array nor keeps one.

    numba counts references around each call that passes an array, with atomic instructions that
    take longer than most operations on a queue. This leaves the counting out.
    """
    return cast(F, numba.njit(**_BORROWING)(function))  # type: ignore[call-overload]  # see there


def borrowing_inline(function: F) -> F:
    """As `borrowing_kernel`, and make LLVM inline it at every call: for the smallest functions.

    Kernels alone call it: Python can't.
    """
    options = {"forceinline": True, "no_cpython_wrapper": True, **_BORROWING}
    inline = numba.njit(**options)  # type: ignore[call-overload]  # see there
    return cast(F, inline(function))


@borrowing_inline
def wide(value: Any) -> int:
    """Widen an integer to int64: numba compiles a function again for every width that it meets."""
    return np.int64(value)  # type: ignore[return-value]  # int64 is what an int is in kernels
