"""Kernels write where they may: around every array of a run lies memory that nobody may touch.

Kernels reach arrays by their addresses, without lengths, so that no check of bounds sees a write
beside them; what it hits is another array, or what the allocator keeps of its blocks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.agentic_file import write_agentic_sessions
from tests.seeds import some
from tests.sim.engine.worlds import draw_world

from vsim.sim import simulate
from vsim.sim.engine import setup
from vsim.sim.engine.drivers import FastRun
from vsim.sim.engine.state import State
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.scenario.scenario import Scenario
from vsim.traces.reading import read_requests

_AROUND = 1 << 16  # bytes on either side
_MARK = 0xAB


class Guard:
    """Arrays of runs, each in the middle of bytes of its own that are looked at later."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, NDArray[np.uint8], int]] = []

    def __call__(self, arrays: dict[str, NDArray[Any]], *rest: Any, **named: Any) -> State:
        return State({name: self._put(name, a) for name, a in arrays.items()}, *rest, **named)

    def _put(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        room = np.full(array.nbytes + 2 * _AROUND, _MARK, np.uint8)
        put = room[_AROUND : _AROUND + array.nbytes].view(array.dtype).reshape(array.shape)
        put[...] = array
        self._kept.append((name, room, array.nbytes))
        return put

    @property
    def count(self) -> int:
        """Arrays so far."""
        return len(self._kept)

    def overrun(self) -> list[str]:
        """Names of the arrays beside which something was written."""
        return sorted({
            name for name, room, size in self._kept
            if (room[:_AROUND] != _MARK).any() or (room[_AROUND + size :] != _MARK).any()
        })  # fmt: skip


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    made = Guard()
    monkeypatch.setattr(setup, "State", made)
    return made


def test_a_write_beside_an_array_is_seen(guard: Guard) -> None:
    made = guard._put("a", np.zeros(4))
    guard._put("b", np.zeros(4))
    assert guard.overrun() == []
    np.lib.stride_tricks.as_strided(made, shape=(5,))[4] = 1.0
    assert guard.overrun() == ["a"]


@pytest.mark.parametrize("seed", some(range(40), 6))
def test_no_kernel_writes_beside_its_arrays(seed: int, guard: Guard) -> None:
    FastRun(draw_world(seed).state(), None).run()
    assert guard.count > 40
    assert guard.overrun() == []


SESSIONS = """
name: sessions
workload: {trace: given, pacing: arrivals}
machine: h200
model: llama-3.1-8b
engine: {token_budget: 8192, block_tokens: 64, page_tokens: 64}
tiers:
  - {tier: hbm, capacity: 14064MiB, eviction: lru}
  - {tier: host, capacity: 3872MiB, eviction: lru, access: promote, write: back}
  - {tier: nvme, capacity: 4TiB, eviction: lru, access: promote, write: back}
"""


def test_sessions_that_share_the_first_key_of_all_are_evicted_to_it_and_no_further(
    guard: Guard, tmp_path: Path
) -> None:
    """Pages of falling keys are evicted together down to key 0; the slot below that page may be
    free, with what a queue's link said when it was last used, and holds -1, the next number down.
    """
    path = tmp_path / "sessions.parquet"
    write_agentic_sessions(path, 7, 16, blocks=136, grown=25)
    scenario = parse_yaml(SESSIONS, "sessions.yaml", Scenario)
    result = simulate(scenario, requests=read_requests(path), steps=False)
    assert result.summary["requests"]["completed"] == 7 * 16
    assert guard.overrun() == []
