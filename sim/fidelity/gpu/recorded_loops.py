"""Decode loops as the engine ran them: the cases in `loops.json`, which `loops_of_runs` makes."""

from pathlib import Path
from typing import Final

from vsim.sim.fidelity.gpu.case_json import case_of
from vsim.sim.fidelity.gpu.loop_cases import LoopCase

LOOPS: Final = Path(__file__).parent / "loops.json"


def recorded_loops(path: Path = LOOPS) -> tuple[LoopCase, ...]:
    """Read them: one case a line.

    Raises:
        ValueError: a line holds no loop.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        case = case_of(line)
        if not isinstance(case, LoopCase):
            raise ValueError(f"{path.name} holds {case.name!r}, which is no loop")
        found.append(case)
    return tuple(found)
