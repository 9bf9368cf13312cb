"""State: the arrays of one run, and the table of their addresses for the kernels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine import layout
from vsim.sim.engine.linking import call_addresses
from vsim.sim.engine.page_keys import PageKeys
from vsim.sim.engine.pointers import addresses
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.topology import Topology
from vsim.sim.eviction.user import Holder
from vsim.sim.timing.kv_pages import KvPages
from vsim.traces.requests import Requests


@dataclass(eq=False)
class State:
    """All that changes during a run, in arrays of one size; what it logs goes to `log` in batches.

    Args:
        arrays: flat arrays by name, in the order in which kernels take them.
        requests: the trace.
        topology: links and resources.
        tier_names: HBM first.
        capacity_units: what each tier can hold; slots are reserved for what may ever be there.
        pages: the pages of each KV group.
        holders: users' policies, kept alive.
        keys: of the prompts' pages.
        log: takes what is logged; it keeps all of it unless it was made otherwise.
    """

    arrays: dict[str, NDArray[Any]]
    requests: Requests
    topology: Topology
    tier_names: tuple[str, ...]
    capacity_units: tuple[int, ...]
    pages: KvPages
    holders: list[Holder] = field(default_factory=list)
    keys: PageKeys | None = None
    log: RunLog = field(default_factory=RunLog)

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

    def take_log(self) -> None:
        """Hand what was logged to `log`, as far as the room for it is nearly used up."""
        self.log.take(self.arrays, self.tier_names)
