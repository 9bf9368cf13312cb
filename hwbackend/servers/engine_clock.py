"""A clock in vLLM's engine process: what its one thread does in each step, and each transfer.

`play --clock FOLDER` starts it. vLLM 0.25.1's engine schedules, launches and takes in tokens on one
thread when it has one GPU; each of these calls is timed, by the wall and by the thread's own
processor time: where both are equal the thread waits for nobody. Some 20 us a step are its own.

What a step takes on the GPU is marked on its stream: when it comes to a step, when it has its
layers behind it, and when its tokens are drawn.
"""

import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "schedule": ("tokens", "new", "preempted", "longest"),
    "execute": ("requests",),
    "sample": (),
    "update": (),
    "output": (),
    "loop": (),
    "transfer": ("is_store", "bytes"),
}
"""Calls, and what a row says of one behind start, end and the thread's processor time (ns)."""
Values = Callable[[Any, Any, tuple[Any, ...]], tuple[int, ...]]
Mark = Callable[[], Any]
"""Marks where the GPU's stream is, as an event that says how many ms another came after it."""


class EngineClock:
    """Rows of each kind of call, and the GPU's marks, from `start` to `stop`.

    Args:
        mark: marks the GPU's stream; without one it is not timed.
    """

    def __init__(self, mark: Mark | None = None) -> None:
        self.rows: dict[str, list[tuple[int, ...]]] = {name: [] for name in COLUMNS}
        self.on = False
        self._mark = mark
        self._first: Any = None
        self._marks: list[list[Any]] = []

    def time(self, owner: type, method: str, kind: str, values: Values) -> None:
        """Time a method of a class from now on, while the clock runs."""
        original, clock = getattr(owner, method), self

        def timed(itself: Any, *rest: Any, **named: Any) -> Any:
            if not clock.on:
                return original(itself, *rest, **named)
            start, worked = time.monotonic_ns(), time.thread_time_ns()
            clock._mark_before(kind)
            result = original(itself, *rest, **named)
            clock._mark_behind(kind)
            worked, end = time.thread_time_ns() - worked, time.monotonic_ns()
            clock.rows[kind].append((start, end, worked, *values(itself, result, rest)))
            return result

        setattr(owner, method, timed)

    def start(self) -> None:
        """Forget what was timed, and time."""
        for rows in self.rows.values():
            rows.clear()
        self._marks.clear()
        self._first = None if self._mark is None else self._mark()
        self.on = True

    def stop(self, path: Path) -> int:
        """Write what was timed since `start`; returns how many calls."""
        self.on = False
        kept = {"columns": COLUMNS, "rows": self.rows, "gpu_us": self._gpu_us()}
        with gzip.open(path, "wt", compresslevel=4) as file:
            json.dump(kept, file, separators=(",", ":"))
        return sum(map(len, self.rows.values()))

    def _mark_before(self, kind: str) -> None:
        if self._mark is not None and kind == "execute":
            self._marks.append([self._mark()])

    def _mark_behind(self, kind: str) -> None:
        if self._mark is not None and kind in ("execute", "sample") and self._marks:
            self._marks[-1].append(self._mark())

    def _gpu_us(self) -> list[list[int]]:
        """Each call of `execute`'s marks, since `start`: before, behind, and behind `sample`."""
        if self._marks:
            self._marks[-1][-1].synchronize()
        return [[round(1e3 * self._first.elapsed_time(m)) for m in row] for row in self._marks]


def _scheduled(_: Any, output: Any, __: tuple[Any, ...]) -> tuple[int, ...]:
    return (
        output.total_num_scheduled_tokens,
        len(output.scheduled_new_reqs),
        len(output.preempted_req_ids or ()),
        max(output.num_scheduled_tokens.values(), default=0),
    )


def _executed(_: Any, __: Any, arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return (len(arguments[0].num_scheduled_tokens),)


def _moved(handler: Any, _: Any, __: tuple[Any, ...]) -> tuple[int, ...]:
    return int(handler.gpu_to_cpu), int(handler._transfers[-1].num_bytes)


def _nothing(_: Any, __: Any, ___: tuple[Any, ...]) -> tuple[int, ...]:
    return ()


def clock_of_engine() -> EngineClock:
    """Make a clock of the calls of vLLM's engine in this process; once a process."""
    import torch
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.kv_offload.cpu.gpu_worker import SingleDirectionOffloadingHandler
    from vllm.v1.worker.gpu.async_utils import AsyncOutput
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    def mark() -> Any:
        event = torch.Event(enable_timing=True)
        event.record()
        return event

    clock = EngineClock(mark)
    clock.time(Scheduler, "schedule", "schedule", _scheduled)
    clock.time(Scheduler, "update_from_output", "update", _nothing)
    clock.time(GPUModelRunner, "execute_model", "execute", _executed)
    clock.time(GPUModelRunner, "sample_tokens", "sample", _nothing)
    clock.time(AsyncOutput, "get_output", "output", _nothing)
    clock.time(EngineCore, "step_with_batch_queue", "loop", _nothing)
    clock.time(SingleDirectionOffloadingHandler, "transfer_async", "transfer", _moved)
    return clock
