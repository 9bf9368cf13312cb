"""`Kernels`: how long each kernel takes on one GPU of a machine, whoever knows it.

`TableKernels` interpolates measured times; `ConstantKernels` takes a roofline with one efficiency
for arithmetic and one for memory, and floors. A step model asks either and never which it is; what
is rough about the times, `rough` says. Where the tables lack a kernel, the constants stand in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.machine.kernel_tables import KernelTables, read_kernel_tables
from vsim.sim.machine.machine import Machine, Stack
from vsim.sim.timing.collectives import COLLECTIVES, collective_ns, expert_exchange_ns
from vsim.sim.timing.decode_attention import (
    decode_attention_bound,
    decode_attention_ns,
    decode_attention_surface,
)
from vsim.sim.timing.efficiency import Surface
from vsim.sim.timing.experts import DISTRIBUTIONS, experts_bound, experts_ns, experts_surface
from vsim.sim.timing.prefill_attention import (
    prefill_attention_bound,
    prefill_attention_ns,
    prefill_attention_surface,
)
from vsim.sim.timing.products import product_bound, product_ns, product_surface
from vsim.sim.timing.roofline import Bound, Floats, Peaks
from vsim.traces.schema import KERNELS


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
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """Attention of decoding requests: `decode_attention.decode_attention_ns`."""

    def prefill_attention_ns(
        self,
        kv_precision: str,
        new_tokens: ArrayLike,
        pairs: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """Attention of prompts and chunks: `prefill_attention.prefill_attention_ns`."""

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        hidden: int,
        intermediate: int,
        experts_per_token: int,
        experts: int,
        tensor: int = 1,
        expert_parallel: int = 1,
        distribution: str = DISTRIBUTIONS[0],
    ) -> Floats:
        """Routed experts: `experts.experts_ns`."""

    def all_reduce_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """Sum a buffer of so many bytes over GPUs."""

    def all_gather_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """Gather parts into a buffer of so many bytes on each GPU."""

    def reduce_scatter_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """Sum buffers of so many bytes and leave each GPU a part."""

    def all_to_all_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """Deal a buffer of so many bytes on each GPU out to all."""

    def expert_dispatch_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """Send each GPU's tokens to their experts' GPUs."""

    def expert_combine_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """Bring the experts' results back to each GPU's tokens."""


@dataclass(frozen=True, slots=True)
class ConstantKernels:
    """Times by constants: floor + max(bytes / (B · e_B), FLOPs / (F · e_F)).

    Args:
        peaks: the GPU's.
        flops_efficiency: share of the peak rate.
        hbm_efficiency: share of the memory's bandwidth.
        link_bytes_per_s: between GPUs, of one in one direction; 0 where there is no link.
        link_latency_ns: of a message between two GPUs.
        product_floor_ns: the least a product takes.
        attention_floor_ns: the least an attention takes.
        experts_floor_ns: the least a layer's experts take.
    """

    peaks: Peaks
    flops_efficiency: float
    hbm_efficiency: float
    link_bytes_per_s: float = 0.0
    link_latency_ns: float = 0.0
    # What tables of Hopper and Blackwell show: 1.8 to 5 us, 7 to 10 us, 14 to 24 us.
    product_floor_ns: float = 3_000.0
    attention_floor_ns: float = 9_000.0
    experts_floor_ns: float = 20_000.0

    @property
    def source(self) -> str:
        """Where the times are from."""
        return (
            f"constants: {self.flops_efficiency:g} of the arithmetic's peak,"
            f" {self.hbm_efficiency:g} of the memory's"
        )

    @property
    def rough(self) -> Sequence[str]:
        """All of them."""
        return KERNELS

    def product_ns(self, precision: str, m: ArrayLike, n: int, k: int) -> Floats:
        """See `Kernels`."""
        bound = product_bound(self.peaks, precision, m, n, k)
        return self._time(bound, self.product_floor_ns, m)

    def decode_attention_ns(
        self,
        kv_precision: str,
        batch: ArrayLike,
        context_tokens_mean: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """See `Kernels`."""
        bound = decode_attention_bound(
            self.peaks, kv_precision, batch, context_tokens_mean, heads, kv_heads, head_dim, window
        )
        return self._time(bound, self.attention_floor_ns, batch)

    def prefill_attention_ns(
        self,
        kv_precision: str,
        new_tokens: ArrayLike,
        pairs: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """See `Kernels`."""
        bound = prefill_attention_bound(
            self.peaks, kv_precision, new_tokens, pairs, heads, kv_heads, head_dim, window
        )
        return self._time(bound, self.attention_floor_ns, new_tokens)

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        hidden: int,
        intermediate: int,
        experts_per_token: int,
        experts: int,
        tensor: int = 1,
        expert_parallel: int = 1,
        distribution: str = DISTRIBUTIONS[0],
    ) -> Floats:
        """See `Kernels`; tokens are taken to spread evenly."""
        bound = experts_bound(
            self.peaks, precision, tokens, hidden, intermediate, experts_per_token, experts,
            tensor, expert_parallel,
        )  # fmt: skip
        return self._time(bound, self.experts_floor_ns, tokens)

    def all_reduce_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`: a reduce-scatter and an all-gather."""
        return self._sent(gpus, np.asarray(size_bytes) * 2.0 * (gpus - 1) / gpus, messages=2)

    def all_gather_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`: all but a GPU's own part comes in."""
        return self._sent(gpus, np.asarray(size_bytes) * (gpus - 1) / gpus)

    def reduce_scatter_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`: all but a GPU's own part goes out."""
        return self._sent(gpus, np.asarray(size_bytes) * (gpus - 1) / gpus)

    def all_to_all_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`: all but a GPU's own part goes out."""
        return self._sent(gpus, np.asarray(size_bytes) * (gpus - 1) / gpus)

    def expert_dispatch_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """See `Kernels`: each token goes once to each GPU that has one of its experts."""
        near = expert_parallel * (1 - (1 - 1 / expert_parallel) ** experts_per_token)
        copies = near * (expert_parallel - 1) / expert_parallel
        return self._sent(expert_parallel, np.asarray(tokens) * (2.0 * hidden * copies))

    def expert_combine_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """See `Kernels`: as many bytes as a dispatch."""
        return self.expert_dispatch_ns(tokens, hidden, experts_per_token, expert_parallel, mode)

    def _time(self, bound: Bound, floor_ns: float, work: ArrayLike) -> Floats:
        busy = np.maximum(
            bound.bytes_ns / self.hbm_efficiency, bound.flops_ns / self.flops_efficiency
        )
        return np.where(np.asarray(work) > 0, floor_ns + busy, 0.0)

    def _sent(self, gpus: int, sent_bytes: ArrayLike, messages: int = 1) -> Floats:
        count = np.asarray(sent_bytes, dtype=np.float64)
        if gpus == 1:
            return np.zeros(count.shape)
        if not self.link_bytes_per_s:
            raise LookupError("the machine has no link between GPUs")
        time = messages * self.link_latency_ns + count / self.link_bytes_per_s * 1e9
        return np.where(count > 0, time, 0.0)


@dataclass(frozen=True, slots=True)
class TableKernels:
    """Times from measured tables, and from constants for kernels that these lack.

    It keeps the efficiencies of shapes that it was asked for, and changes in nothing else.

    Args:
        tables: what was measured.
        peaks: the GPU's; a table's efficiencies are taken against them.
        constants: for kernels that were not measured.
    """

    tables: KernelTables
    peaks: Peaks
    constants: ConstantKernels
    _lacking: frozenset[str] = field(init=False)
    _known: dict[tuple[object, ...], Surface] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        lacking = frozenset(name for name in KERNELS if not self.tables.has(name))
        object.__setattr__(self, "_lacking", lacking)

    @property
    def source(self) -> str:
        """Where the times are from."""
        about = self.tables.metadata
        return f"tables of {about.get('device', '?')} under {about.get('versions', '?')}"

    @property
    def rough(self) -> Sequence[str]:
        """Those that the tables lack."""
        return tuple(name for name in KERNELS if name in self._lacking)

    def product_ns(self, precision: str, m: ArrayLike, n: int, k: int) -> Floats:
        """See `Kernels`."""
        if "products" in self._lacking:
            return self.constants.product_ns(precision, m, n, k)
        known = self._surface(product_surface, precision, n, k)
        return product_ns(self.tables, self.peaks, precision, m, n, k, known)

    def decode_attention_ns(
        self,
        kv_precision: str,
        batch: ArrayLike,
        context_tokens_mean: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """See `Kernels`."""
        asked = kv_precision, batch, context_tokens_mean, heads, kv_heads, head_dim, window
        if "decode_attention" in self._lacking:
            return self.constants.decode_attention_ns(*asked)
        known = self._surface(
            decode_attention_surface, kv_precision, heads, kv_heads, head_dim, window
        )
        return decode_attention_ns(self.tables, self.peaks, *asked, known)

    def prefill_attention_ns(
        self,
        kv_precision: str,
        new_tokens: ArrayLike,
        pairs: ArrayLike,
        heads: int,
        kv_heads: int,
        head_dim: int,
        window: int = 0,
    ) -> Floats:
        """See `Kernels`."""
        asked = kv_precision, new_tokens, pairs, heads, kv_heads, head_dim, window
        if "prefill_attention" in self._lacking:
            return self.constants.prefill_attention_ns(*asked)
        known = self._surface(
            prefill_attention_surface, kv_precision, heads, kv_heads, head_dim, window
        )
        return prefill_attention_ns(self.tables, self.peaks, *asked, known)

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        hidden: int,
        intermediate: int,
        experts_per_token: int,
        experts: int,
        tensor: int = 1,
        expert_parallel: int = 1,
        distribution: str = DISTRIBUTIONS[0],
    ) -> Floats:
        """See `Kernels`."""
        shape = (
            hidden, intermediate, experts_per_token, experts, tensor, expert_parallel, distribution
        )  # fmt: skip
        if "experts" in self._lacking:
            return self.constants.experts_ns(precision, tokens, *shape)
        known = self._surface(experts_surface, precision, *shape)
        return experts_ns(self.tables, self.peaks, precision, tokens, *shape, known)

    def all_reduce_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`."""
        return self._collective("all_reduce", gpus, size_bytes)

    def all_gather_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`."""
        return self._collective("all_gather", gpus, size_bytes)

    def reduce_scatter_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`."""
        return self._collective("reduce_scatter", gpus, size_bytes)

    def all_to_all_ns(self, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`."""
        return self._collective("all_to_all", gpus, size_bytes)

    def expert_dispatch_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """See `Kernels`."""
        asked = tokens, hidden, experts_per_token, expert_parallel, mode
        if "expert_dispatch" in self._lacking:
            return self.constants.expert_dispatch_ns(*asked)
        return expert_exchange_ns(self.tables, "expert_dispatch", *asked)

    def expert_combine_ns(
        self, tokens: ArrayLike, hidden: int, experts_per_token: int, expert_parallel: int,
        mode: str = "low_latency",
    ) -> Floats:  # fmt: skip
        """See `Kernels`."""
        asked = tokens, hidden, experts_per_token, expert_parallel, mode
        if "expert_combine" in self._lacking:
            return self.constants.expert_combine_ns(*asked)
        return expert_exchange_ns(self.tables, "expert_combine", *asked)

    def _surface(self, make: Callable[..., Surface], *asked: object) -> Surface:
        key = (make, *asked)
        if key not in self._known:
            self._known[key] = make(self.tables, self.peaks, *asked)
        return self._known[key]

    def _collective(self, name: str, gpus: int, size_bytes: ArrayLike) -> Floats:
        assert name in COLLECTIVES
        if name in self._lacking:
            times: Floats = getattr(self.constants, f"{name}_ns")(gpus, size_bytes)
            return times
        return collective_ns(self.tables, name, gpus, size_bytes)


def constant_kernels(machine: Machine) -> ConstantKernels:
    """A machine's kernels by its constants alone."""
    link = machine.gpu_link
    return ConstantKernels(
        Peaks.of(machine),
        machine.gpu.flops_efficiency.value,
        machine.gpu.hbm_efficiency.value,
        link.bandwidth.value if link else 0.0,
        float(link.latency.value) if link else 0.0,
    )


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
    return TableKernels(_tables(path, _changed(path)), constants.peaks, constants)


@lru_cache(maxsize=32)
def _tables(path: Path, changed: int) -> KernelTables:
    """Read a file of tables once, as long as it does not change."""
    return read_kernel_tables(path)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it says what is wrong
