"""Tables small enough to work out by hand, and a GPU with round peaks."""

import numpy as np

from vsim.sim.machine.kernel_tables import Curves, KernelTables, curves, kernel_tables
from vsim.sim.timing.roofline import Peaks

# A byte and a thousand FLOPs take a picosecond.
PEAKS = Peaks(1e12, 1e15, 2e15, 2e15)


def made(
    kernel: str,
    shapes: list[list[int]],
    first: list[int],
    second: list[int],
    ns: object,
    *,
    precision: str = "bf16",
    variant: str = "",
) -> Curves:
    """Curves of times in ns, [S][A][B]; NaN where nothing was measured."""
    return curves(
        kernel,
        precision,
        variant,
        np.array(shapes),
        np.array(first, dtype=float),
        np.array(second, dtype=float),
        np.log(np.array(ns, dtype=float)),
    )


def tables(*found: Curves) -> KernelTables:
    """Tables of these curves."""
    return kernel_tables("t.arrow", {"stack": "vllm", "device": "a test's GPU"}, found)
