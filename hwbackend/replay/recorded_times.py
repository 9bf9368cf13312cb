"""RecordedTimes: a backend on which each operation of a plan takes as long as was predicted."""

import heapq

from vsim.hwbackend.replay.plan import Plan
from vsim.sim.engine.backend import Completion, Operation

_ORDER = {"timer": 0, "copy": 1, "step": 2}


class RecordedTimes:
    """What a plan is carried out on where there is no GPU. Stateful: it has a clock.

    Args:
        plan: whose operations are submitted.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._now = 0
        self._under_way: list[tuple[int, int, int]] = []
        self._began: dict[int, int] = {}

    def now_ns(self) -> int:
        """Return the time."""
        return self._now

    def submit(self, operation: Operation) -> None:
        """Start an operation of the plan."""
        planned = self._plan.operations[operation.serial]
        end = self._now + planned.end_ns - planned.submit_ns
        self._began[operation.serial] = self._now + planned.began_ns - planned.submit_ns
        heapq.heappush(self._under_way, (end, _ORDER[operation.kind], operation.serial))

    def wait(self) -> Completion | None:
        """Go on to whatever ends next."""
        if not self._under_way:
            return None
        self._now, order, serial = heapq.heappop(self._under_way)
        if order == _ORDER["step"]:
            return Completion("step", (serial,), self._now, self._began.pop(serial))
        serials = [serial]
        while self._under_way and self._under_way[0][:2] == (self._now, order):
            serials.append(heapq.heappop(self._under_way)[2])
        return Completion("copy", tuple(serials), self._now)

    def close(self) -> None:
        """Nothing is held outside this object."""
