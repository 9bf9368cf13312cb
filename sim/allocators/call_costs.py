"""CallCosts: what an allocator's calls of the driver cost on a machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field

from vsim.sim.allocators.device import PAGE_BYTES, Call
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bytes, DurationNs, load_yaml
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.vmm import VmmCall, vmm_cost_ns
from vsim.traces.faults import refuse


class RuntimeRow(BaseModel):
    """One size of an allocation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Bytes
    """Of the allocation."""
    malloc: DurationNs
    """cudaMalloc."""
    free: DurationNs
    """cudaFree, which also waits until nothing of the GPU's is under way."""


class RuntimeCalls(BaseModel):
    """What cudaMalloc and cudaFree cost: a straight line through two sizes or more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["datasheet", "measurement", "assumption"]
    """Where the rows are from."""
    note: Text
    """When and on what."""
    rows: tuple[RuntimeRow, ...] = Field(min_length=2, max_length=1000)
    """By size, ascending."""

    def cost_ns(self, call: Literal["malloc", "free"], size: int) -> float:
        """The cost of one call: linear in bytes between two rows, and beyond the last one.

        Below the smallest row it stays: the driver gives 2 MiB at least.
        """
        rows = self.rows
        if size <= rows[0].size:
            return float(getattr(rows[0], call))
        upper = next((i for i, row in enumerate(rows) if row.size >= size), len(rows) - 1)
        low, high = rows[upper - 1], rows[upper]
        first, last = float(getattr(low, call)), float(getattr(high, call))
        return first + (last - first) * (size - low.size) / (high.size - low.size)


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Costs of the driver's calls, and of copies within HBM.

    Args:
        machine: whose `vmm` rows and memory bandwidth count.
        runtime: cudaMalloc and cudaFree; measured on one GPU and taken for all.
    """

    machine: Machine
    runtime: RuntimeCalls

    @classmethod
    def of(cls, machine: Machine) -> Self:
        """The costs on a machine. Raises InputError where it has no VMM rows of HBM."""
        if not any(row.kind == "hbm" for row in machine.vmm):
            refuse("--machine", f"'{machine.name}' has no vmm rows of hbm; name one that has")
        return cls(machine, load_yaml(Path(__file__).parent / "runtime_calls.yaml", RuntimeCalls))

    def call_ns(self, call: Call, kind: str = "hbm") -> float:
        """One call: its name, the bytes of a piece, and pieces side by side; the memory's kind."""
        name, size, count = call
        if name == "cudaMalloc":
            return self.runtime.cost_ns("malloc", size)
        if name == "cudaFree":
            return self.runtime.cost_ns("free", size)
        if name == "copy":
            return self.copy_ns(size)
        if name == "reserve":
            size = PAGE_BYTES  # a range costs what it costs, however long it is
        return vmm_cost_ns(self.machine.vmm, kind, cast(VmmCall, name), size, count)

    def total_ns(
        self, calls: Mapping[Call, int], names: Iterable[str] | None = None, kind: str = "hbm"
    ) -> int:
        """All calls together, or those of some names, rounded up once.

        Raises:
            InputError: the machine has no rows for this kind of memory.
        """
        if calls and not any(row.kind == kind for row in self.machine.vmm):
            refuse("--machine", f"'{self.machine.name}' has no vmm rows of {kind}; name another")
        wanted = None if names is None else set(names)
        total = sum(
            self.call_ns(call, kind) * count
            for call, count in sorted(calls.items())
            if wanted is None or call[0] in wanted
        )
        return -int(-total // 1)

    def copy_ns(self, size: int) -> float:
        """A copy within HBM, which reads and writes every byte."""
        hbm = self.machine.hbm
        share = self.machine.gpu.hbm_efficiency.value
        read, write = float(hbm.read.value), float(hbm.write.value)
        return 1e9 * size * (1 / read + 1 / write) / share
