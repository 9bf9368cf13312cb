"""KernelFile: where the measured times of a serving stack's kernels are."""

from typing import Literal

from vsim.sim.inputs.words import Text, Word
from vsim.sim.machine.quantity import Part, Source
from vsim.sim.machine.served import Served

Stack = Literal["vllm", "sglang", "trtllm", "vsim"]


class KernelFile(Part):
    """Measured times of kernels under one serving stack, which a step's time is added up from."""

    stack: Stack
    """Whose kernels were timed."""
    file: Word
    """An Arrow file that `vsim calibrate` wrote; a relative path starts at this file's folder."""
    source: Source
    """Where the times are from."""
    note: Text = ""
    """When and on what they were measured."""
    served: Served | None = None
    """What they take within a server's steps where the file's times, of kernels alone, are off;
    left out: as in the file."""
