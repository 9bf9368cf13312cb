"""cuda-python, which finds the driver by dlopen, dlsym and cuGetProcAddress; Python's offers."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.hwbackend.preload.building import PROGRAMS, Bench

from vsim.hwbackend.preload.balance import balance
from vsim.hwbackend.preload.events import Op, read_events

PROGRAM = PROGRAMS / "with_cuda_python.py"


@pytest.mark.parametrize("mode", ["record", "manage"])
def test_cuda_python_is_recorded_and_managed(bench: Bench, mode: str, tmp_path: Path) -> None:
    done = bench.run([sys.executable, PROGRAM, mode], mode, log=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
    (log,) = read_events(tmp_path)
    found = balance(log)
    assert (found.live_bytes, found.unseen_frees) == (0, 0)
    mib = 1 << 20
    if mode == "record":
        assert found.taken_bytes == 3000 + 5 * mib
    else:
        # 5 MiB grown to 40, 2 grown to 64: each step counts as taken anew; one growth failed.
        assert found.taken_bytes == 3000 + (5 + 40 + 2 + 64) * mib
        assert found.peak_bytes == 3000 + (40 + 64) * mib
        mapped = log.events[log.events["op"] == Op.GATHER]
        assert np.isin([2 * mib, 64 * mib, 40 * mib], mapped["bytes"]).all()


def test_without_the_library_python_is_told_to_start_with_it(bench: Bench) -> None:
    done = bench.run([sys.executable, PROGRAM, "plain"], None)
    assert done.stdout == "libvsim_preload.so is not in this process\ndone\n", done.stderr
