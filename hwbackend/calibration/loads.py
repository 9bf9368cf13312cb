"""The board's power and clock: idle, and under loads that last."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from vsim.hwbackend.calibration.attending import decode_load
from vsim.hwbackend.calibration.bench import HBM, Bench
from vsim.hwbackend.calibration.multiplying import product_load
from vsim.hwbackend.calibration.plan import GIB, LLAMA_3_1_8B, Plan
from vsim.hwbackend.calibration.reads import read_load
from vsim.hwbackend.cuda.streams import Event
from vsim.hwbackend.measuring.board import Board
from vsim.hwbackend.measuring.facts import bus_id
from vsim.hwbackend.measuring.gpus import AbsentError
from vsim.hwbackend.measuring.samples import Work
from vsim.traces.gpu_samples import Point, Sampled

_IN_FLIGHT: Final = 4
_SETTLED: Final = 0.3  # of the watch: power and clock are still on their way before


def measure_board(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Watch power, W, and clock, MHz, under each load; every look is a sample."""
    loads: dict[str, dict[str, Point]] = {}
    for point in points:
        loads.setdefault(point.variant, {})[point.probe] = point
    for load, wanted in loads.items():
        board = Board(bus_id(bench.device))
        if not board.available:
            raise AbsentError("NVML does not know this GPU")
        with ExitStack() as held:
            work = _work(bench, held, load)
            bench.home.synchronize()
            with board:
                _run(bench, work, plan.watch_s)
        seen = board.samples[int(len(board.samples) * _SETTLED) :]
        if not seen:
            raise AbsentError("NVML gave no sample")
        if "power" in wanted:
            yield Sampled(wanted["power"], 0, tuple(each.watts for each in seen), "W")
        if "clock" in wanted:
            yield Sampled(wanted["clock"], 0, tuple(float(each.sm_mhz) for each in seen), "MHz")


def _work(bench: Bench, held: ExitStack, load: str) -> Work | None:
    if load == "idle":
        return None
    if load == "read":
        return held.enter_context(read_load(bench, HBM, GIB))
    if load == "attention":
        return held.enter_context(decode_load(bench, LLAMA_3_1_8B, 64, 8192))
    return held.enter_context(product_load(bench, 4096))


def _run(bench: Bench, work: Work | None, seconds: float) -> None:
    """Keep the GPU at work for a while, and never more than a few calls ahead of it."""
    until = time.monotonic() + seconds
    if work is None:
        time.sleep(seconds)
        return
    with ExitStack() as held:
        marks = [held.enter_context(Event()) for _ in range(_IN_FLIGHT)]
        turn = 0
        while time.monotonic() < until:
            mark = marks[turn % _IN_FLIGHT]
            if turn >= _IN_FLIGHT:
                mark.synchronize()
            work(bench.main)
            mark.record(bench.main)
            turn += 1
        bench.main.synchronize()
