"""State: the arrays of one run, and the table of their addresses for the kernels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine import layout
from vsim.sim.engine.linking import call_addresses
from vsim.sim.engine.pointers import addresses
from vsim.sim.engine.topology import Topology
from vsim.sim.eviction.user import Holder
from vsim.traces.requests import Requests


@dataclass(eq=False)
class State:
    """All that changes during a run. Logs are replaced by longer copies when they are full.

    Args:
        arrays: flat arrays by name, in the order in which kernels take them.
        requests: the trace.
        topology: links and resources.
        tier_names: HBM first.
        capacity_pages: what each tier can hold; slots are reserved for what may ever be there.
        page_bytes: bytes of a page.
        holders: users' policies, kept alive.
    """

    arrays: dict[str, NDArray[Any]]
    requests: Requests
    topology: Topology
    tier_names: tuple[str, ...]
    capacity_pages: tuple[int, ...]
    page_bytes: int
    holders: list[Holder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take down where the arrays lie, and how long the logs are."""
        for name, dtype in layout.FIELDS:
            assert self.arrays[name].dtype == dtype, name
        control = self.control
        for room in ("step", "gap", "op"):
            control[f"{room}_room"] = self.arrays[room].size
        control["op_page_room"] = self.arrays["op_pages"].size
        self._table = addresses({name: self.arrays[name] for name, _ in layout.FIELDS})
        self.address = int(self._table.ctypes.data)
        control["address"] = self.address
        for name, address in call_addresses().items():
            control[name] = address

    def control_numbers(self) -> memoryview:
        """The control record as plain numbers in its fields' order, cheap to read one by one."""
        return self.arrays["c"].view(np.int64).data

    @property
    def control(self) -> Any:
        """The control record."""
        return self.arrays["c"][0]

    def grow_logs(self) -> None:
        """Double the logs that are nearly full."""
        control = self.control
        flows = int(control["flows"]) + int(control["out"])
        needs = {
            "step": int(control["steps"]) + 2,
            "gap": int(control["exceptions"]) + self.arrays["run"].size + 1,
        }
        if control["log_transfers"]:
            needs["op"] = int(control["operations"]) + flows + len(self.tier_names) + 3
            needs["op_pages"] = (
                int(control["operation_pages"]) + int(control["op_page_reserve"]) + 1
            )
        short = [name for name, need in needs.items() if self.arrays[name].size <= need]
        for name in short:
            old = self.arrays[name]
            new = np.zeros(max(2 * old.size, 2 * needs[name]), old.dtype)
            new[: old.size] = old
            self.arrays[name] = new
        if short:
            self.refresh()
