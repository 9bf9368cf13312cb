"""A kernel that others call gives them its code; only what Python calls becomes machine code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, kernel


@borrowing_inline
def _square(value: int) -> int:
    return value * value


@borrowing_kernel
def _sum_of_squares(values: Any) -> int:
    total = 0
    for value in values:
        total += _square(value)
    return total


@kernel
def _running(values: Any) -> Any:
    sums = np.empty_like(values)
    for end in range(len(values)):
        sums[end] = _sum_of_squares(values[: end + 1])
    return sums


@kernel
def _at_most(value: int, most: int) -> int:
    if value > most:
        raise ValueError("too large")
    return value


@kernel
def _all_at_most(values: Any, most: int) -> int:
    total = 0
    for value in values:
        total += _at_most(value, most)
    return total


def test_what_a_kernel_calls_is_compiled_for_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: Any = _running
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    running.enable_caching()  # where no run before this one has left its code
    values = np.arange(1, 5)
    assert _running(values).tolist() == [1, 5, 14, 30]
    callee: Any = _sum_of_squares
    assert len(callee.inner.overloads) == 1
    assert len(callee.overloads) == 0  # nothing that Python could enter
    (code,) = callee.inner.overloads.values()
    assert code.library.get_pointer_to_function(code.fndesc.mangled_name) == 0
    assert _sum_of_squares(values) == 30  # until Python does
    assert len(callee.overloads) == 1


def test_an_exception_of_a_kernel_s_kernel_reaches_python() -> None:
    assert _all_at_most(np.array([1, 2]), 3) == 3
    with pytest.raises(ValueError, match="too large"):
        _all_at_most(np.array([1, 4]), 3)
