"""Recordings made of predictions and known noise."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import GpuCase
from vsim.sim.fidelity.gpu.predicting import Predictor
from vsim.sim.fidelity.gpu.recording import Measured, write_cases
from vsim.sim.fidelity.gpu.replay_cases import ReplayCase, ReplayedStep
from vsim.sim.machine.loading import load_machine

MACHINE = "2xh200-measured"
ABOUT = {
    "machine": MACHINE,
    "device": "NVIDIA H200",
    "gpus": "2",
    "driver": "580.0",
    "date": "2026-11-27",
}


STEPS = (ReplayedStep((1, 1), (700, 900), 2), ReplayedStep((300,), (300,), 1))
REPLAYS = tuple(
    ReplayCase(f"replay {at}", "llama-3.1-8b", 16, (step,)) for at, step in enumerate(STEPS)
)


@cache
def predictions() -> tuple[tuple[GpuCase, float], ...]:
    """Every case with its prediction."""
    by = Predictor.of(load_machine(MACHINE))
    return tuple((case, by.ns(case)) for case in (*case_list(), *REPLAYS))


def recorded(path: Path, off: Callable[[int, GpuCase], float], **about: str) -> Path:
    """Write a recording of all cases, in which each took its prediction over 1 + off."""
    rows = []
    for at, (case, ns) in enumerate(predictions()):
        took = ns / (1 + off(at, case))
        repeats = tuple(max(1, round(took * spread)) for spread in (0.99, 1.0, 1.01))
        rows.append(Measured(case, repeats))
    write_cases(path, rows, ABOUT | about)
    return path
