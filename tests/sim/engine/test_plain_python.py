"""The kernels' own source, run as plain Python, gives what the compiled engine gives, exactly."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.plain_table import PlainElements
from vsim.sim.engine.run import run_engine

from .conftest import assert_same
from .worlds import PREFILL_FIRST, draw_any_world

ROOT = Path(__file__).parents[3]
SEEDS = some((*range(1000, 1030), *range(PREFILL_FIRST, PREFILL_FIRST + 8)), 16)
RUN = """
import pickle, sys
from tests.sim.engine.worlds import draw_any_world
from vsim.sim.engine.entry import enter_advance
from vsim.sim.engine.run import run_engine

assert type(enter_advance).__name__ == "function", "this is compiled"
results = [run_engine(draw_any_world(int(seed)).state()) for seed in sys.argv[2:]]
with open(sys.argv[1], "wb") as file:
    pickle.dump(results, file)
"""


def test_worlds_come_out_the_same_without_compilation(tmp_path: Path) -> None:
    target = tmp_path / "results"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", RUN, str(target), *map(str, SEEDS)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for seed, plain in zip(SEEDS, pickle.loads(target.read_bytes()), strict=True):
        compiled = run_engine(draw_any_world(seed).state())
        assert_same(plain, compiled)
        assert plain.counters == compiled.counters


def test_plain_access_outside_an_array_is_an_error() -> None:
    elements = PlainElements(np.arange(3))
    assert elements[2] == 2
    for index in (-1, 3):
        with pytest.raises(IndexError, match="outside an array of 3"):
            elements[index]
        with pytest.raises(IndexError, match="outside an array of 3"):
            elements[index] = 1
