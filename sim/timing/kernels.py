"""`Kernels`: how long each kernel takes on one GPU of a machine, whoever knows it.

`TableKernels` interpolates measured times; `ConstantKernels` takes a roofline with one efficiency
for arithmetic and one for memory, and floors. A step model asks either and never which it is; what
is rough about the times, `rough` says. Where the tables lack a kernel, the constants stand in.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike

from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.kernel_tables import KernelTables, read_kernel_tables
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.served import Served
from vsim.sim.timing.collectives import Collective, Exchange, Mode
from vsim.sim.timing.constant_kernels import ConstantKernels, constant_kernels
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.roofline import Floats, Peaks
from vsim.sim.timing.table_kernels import TableKernels


class Kernels(Protocol):
    """Times of kernels on one GPU, nanoseconds, and the bounds that they can't beat.

    Every number of tokens, requests, pairs or bytes may be an array; the result has its shape.
    """

    @property
    def peaks(self) -> Peaks:
        """The GPU's peaks, which the bounds are made of."""

    @property
    def source(self) -> str:
        """Where the times are from, in a few words."""

    @property
    def rough(self) -> Sequence[str]:
        """Kernels whose times are from constants and not from tables."""

    def product_ns(self, precision: str, m: ArrayLike, n: int, k: int) -> Floats:
        """A matrix product: `products.product_ns`."""

    def decode_attention_ns(
        self,
        kv_precision: str,
        batch: ArrayLike,
        context_tokens_mean: ArrayLike,
        shape: HeadShape,
    ) -> Floats:
        """Attention of decoding requests: `decode_attention.decode_attention_ns`."""

    def prefill_attention_ns(
        self, kv_precision: str, new_tokens: ArrayLike, pairs: ArrayLike, shape: HeadShape
    ) -> Floats:
        """Attention of prompts and chunks: `prefill_attention.prefill_attention_ns`."""

    def latent_product_ns(
        self, precision: str, tokens: ArrayLike, heads: int, inputs: int, outputs: int
    ) -> Floats:
        """A product of a matrix a head: `latent_attention.latent_product_ns`."""

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        shape: ExpertShape,
        choosing: ArrayLike | None = None,
    ) -> Floats:
        """Routed experts: `experts.independent_ns`."""

    def collective_ns(self, collective: Collective, gpus: int, size_bytes: ArrayLike) -> Floats:
        """An exchange among so many GPUs: `collectives.collective_ns`."""

    def expert_exchange_ns(
        self,
        direction: Exchange,
        tokens: ArrayLike,
        hidden: int,
        experts_per_token: int,
        expert_parallel: int,
        mode: Mode = "low_latency",
    ) -> Floats:
        """Tokens to their experts' GPUs, or back: `collectives.expert_exchange_ns`."""


def kernels_of(machine: Machine, stack: Stack | None = None) -> Kernels:
    """A machine's kernels: its tables for a serving stack, else its constants.

    Args:
        machine: whose; its table files are read.
        stack: which serving stack's tables; those of the first one listed where it has none of
            this stack, or none is named.

    Raises:
        InputError: a table file is missing or wrong.
    """
    constants = constant_kernels(machine)
    if not machine.kernels:
        return constants
    entry = next((each for each in machine.kernels if each.stack == stack), machine.kernels[0])
    path = Path(entry.file)
    return _table_kernels(path, changed_ns(path), constants, entry.served)


@lru_cache(maxsize=32)
def _table_kernels(
    path: Path, changed: int, constants: ConstantKernels, served: Served | None
) -> TableKernels:
    """Those of a file beside a machine's constants, which keep what they were asked for."""
    return TableKernels(_tables(path, changed), constants, served)


@lru_cache(maxsize=32)
def _tables(path: Path, changed: int) -> KernelTables:
    """Read a file of tables once, as long as it does not change."""
    return read_kernel_tables(path)


def changed_ns(path: Path) -> int:
    """When a file was last changed; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it says what is wrong
