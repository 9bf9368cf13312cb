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
from numba.core import config, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering

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
_BORROWING = MappingProxyType({"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True})


class _Inner(JITCodeLibrary):
    """The code of one kernel for those that call it: linked into theirs, and no more.

    numba itself optimises every function with all that it calls and makes machine code of it,
    though a caller takes in its code and does both again: most of a compilation was that.
    """

    def finalize(self) -> None:
        """Take in what it calls."""
        for library in dict.fromkeys(self._linking_libraries):
            if hasattr(library, "_reload_init"):  # not in numba 0.61
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: nothing of it has an address."""
        return 0

    @property
    def codegen(self) -> Any:
        """What numba asks to fill the function's environment, which has no address either."""
        return _WithoutEnvironments(self._codegen)


class _WithoutEnvironments:
    """A code generator; only code that Python's objects go through reads environments."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing."""


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]  # numba's own
class _InnerLowering(NativeLowering):
    _name = "vsim_inner_lowering"

    def run_pass(self, state: Any) -> bool:
        library: Any = _Inner
        state.library = library(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))  # type: ignore[no-untyped-call]  # numba's own


class _InnerCompiler(CompilerBase):
    """numba's own pipeline, with another library to put the code in."""

    def define_pipelines(self) -> list[Any]:
        passes: Any = DefaultPassBuilder
        pipeline = passes.define_nopython_pipeline(self.state)
        steps = [step for step, _ in pipeline.passes]
        at = steps.index(NativeLowering)
        pipeline.passes[at] = (_InnerLowering, pipeline.passes[at][1])
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]


class _Kernel(CPUDispatcher):
    """A compiled function: Python calls it as any other, and kernels call `inner` in its place."""

    inner: Any

    @property
    def _numba_type_(self) -> Any:
        return types.Dispatcher(self.inner)


def _compiled(function: F, **options: Any) -> F:
    compiled: Any = numba.njit(cache=True, **options)(function)
    if isinstance(compiled, CPUDispatcher):  # the function itself where compilation is off
        inside = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        outer: Any = compiled
        outer.__class__ = _Kernel
        outer.inner = numba.njit(pipeline_class=_InnerCompiler, **inside)(function)
    return cast(F, compiled)


def kernel(function: F) -> F:
    """Compile `function` in nopython mode at its first call and cache the result on disk."""
    return _compiled(function, error_model="numpy")


def borrowing_kernel(function: F) -> F:
    """As `kernel`, for a function that neither makes an array nor keeps one.

    numba counts references around each call that passes an array, with atomic instructions that
    take longer than most operations on a queue. This leaves the counting out.
    """
    return _compiled(function, **_BORROWING)


def borrowing_inline(function: F) -> F:
    """As `borrowing_kernel`, and make LLVM inline it at every call: for the smallest functions."""
    return _compiled(function, forceinline=True, **_BORROWING)


@borrowing_inline
def wide(value: Any) -> int:
    """Widen an integer to int64: numba compiles a function again for every width that it meets."""
    return np.int64(value)  # type: ignore[return-value]  # int64 is what an int is in kernels
