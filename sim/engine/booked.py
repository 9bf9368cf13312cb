"""BookedBackend: a backend that only takes time, and the engine's records of what it does."""

import math

import numpy as np

from vsim.sim.engine.backend import Backend, Completion, Operation
from vsim.sim.engine.entry import enter_begin_step, enter_settle, enter_start_flow
from vsim.sim.engine.layout import NEVER
from vsim.sim.engine.state import State


class BookedBackend:
    """Runs the engine on a backend that knows nothing of it, such as a GPU. Stateful.

    The engine keeps records of the transfers under way and of the step, which the simulated backend
    writes as it goes. Here they are written from the operations and their completions. The engine's
    time is that of the last completion. What a rule asks of the future (whether loading a prefix
    takes longer than computing it) is answered by the machine's model, as a server would.

    Args:
        state: the engine's arrays.
        carrier: takes the operations, and the time.
    """

    def __init__(self, state: State, carrier: Backend) -> None:
        self._state = state
        self._carrier = carrier
        self._now = 0
        self._numbers: dict[int, int] = {}
        self._unsettled = False

    def now_ns(self) -> int:
        """Return the time of the last completion."""
        return self._now

    def submit(self, operation: Operation) -> None:
        """Note an operation and hand it on."""
        if operation.kind == "copy":
            tiers = len(self._state.tier_names)
            path = operation.source_tier * tiers + operation.target_tier
            first, pages = int(operation.targets[0]), len(operation.targets)
            self._numbers[operation.serial] = int(self._state.control["flow_serial"])
            enter_start_flow(
                self._now, path, first, pages, operation.size_bytes, self._state.address
            )
            self._unsettled = True
        elif operation.kind == "step":
            enter_begin_step(self._now, self._state.address)
            self._unsettled = True
        self._carrier.submit(operation)

    def wait(self) -> Completion | None:
        """Wait for the carrier, and note what finished."""
        if self._unsettled and self._state.control["flows"] > 0:
            enter_settle(self._now, self._state.address)
        self._unsettled = False
        done = self._carrier.wait()
        if done is None:
            return None
        self._now = done.at_ns
        if done.kind == "copy":
            self._arrive([self._numbers.pop(serial) for serial in done.serials])
        elif done.kind == "step" and done.began_ns >= 0:
            control = self._state.control
            began = max(done.began_ns, int(control["step_start"]))
            control["step_fixed_end"] = min(began, self._now)
        return done

    def close(self) -> None:
        """Close the carrier."""
        self._carrier.close()

    def _arrive(self, numbers: list[int]) -> None:
        """Move transfers from those under way to those that have come, in order of submission."""
        arrays, control = self._state.arrays, self._state.control
        count = int(control["flows"])
        flows, targets = arrays["f"][:count].copy(), arrays["target"][:count].copy()
        came = np.isin(flows["serial"], numbers)
        done, left = flows[came], flows[~came]
        done["done"] = self._now
        arrays["done"][: len(done)] = done
        arrays["f"][: len(left)] = left
        arrays["target"][: len(left)] = targets[~came]
        control["flows"], control["done"] = len(left), len(done)
        control["flow_events"] += 1
        for path in np.unique(done["path"]).tolist():
            arrays["p"][path]["active"] -= int((done["path"] == path).sum())
            others = targets[~came][left["path"] == path]
            arrays["pr"][path]["target"] = others.min(initial=math.inf)
        if not len(left):
            control["next_flow"] = NEVER
        self._unsettled = True
