"""Pages that lie in slots one after another are handled together, and nothing comes out otherwise.

Where slots are shown, as in a log of copies, a tier takes the slot that was given back last, and
runs are short; elsewhere it takes them in order, and runs are long. So the two are held against
each other, and against the kernels run as plain Python.
"""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.seeds import ALL, some

from vsim.sim.engine.page_keys import page_keys
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.results.known_prefixes import known_ids

from .conftest import assert_same
from .test_drivers import run_checked
from .worlds import World, draw_fine_world

ROOT = Path(__file__).parents[3]
SEEDS = range(48)
RUN = """
import pickle, sys
from tests.sim.engine.worlds import draw_fine_world
from vsim.sim.engine import alike, committing, pinned_runs, runs, victim_runs
from vsim.sim.engine.entry import enter_advance
from vsim.sim.engine.run import run_engine

assert type(enter_advance).__name__ == "function", "this is compiled"
found_alike = {}

def counted(place, look):
    def count(*arguments):
        found = look(*arguments)
        found_alike[place] = found_alike.get(place, 0) + found
        return found
    return count

for module in (committing, pinned_runs, runs, victim_runs):
    for name, look in vars(module).items():
        if getattr(look, "__annotations__", {}).get("return") is bool and hasattr(alike, name):
            setattr(module, name, counted(f"{module.__name__}.{name}", look))
results = [run_engine(draw_fine_world(int(seed)).state()) for seed in sys.argv[2:]]
with open(sys.argv[1], "wb") as file:
    pickle.dump((results, found_alike), file)
"""


def run_logged(world: World) -> EngineResult:
    """Run with a log of copies, and so with a stack of free slots; without the log."""
    state = replace(world, operations="transfers").state()
    assert state.control["stacked"]
    return replace(run_engine(state), operations=None)


@pytest.mark.parametrize("seed", some(SEEDS, 8))
def test_which_slots_pages_get_changes_nothing(seed: int) -> None:
    world = draw_fine_world(seed)
    state = world.state()
    assert not state.control["stacked"]
    found = run_engine(state)
    assert_same(found, run_logged(world))


@pytest.mark.parametrize("seed", some(SEEDS[:16], 2))
def test_the_state_is_sound_on_the_way_and_all_drivers_agree(seed: int) -> None:
    world = draw_fine_world(seed)
    oracle = run_checked(world)
    assert_same(run_engine(world.state()), oracle)
    assert_same(run_engine(world.state(), mode="events"), oracle)


def test_fine_worlds_move_pages_every_way() -> None:
    """Else the tests above would show little."""
    totals = dict.fromkeys(("promoted", "swapped", "recomputed", "prefetched", "stalls"), 0)
    dropped = evicted = 0
    for seed in SEEDS:
        result = run_engine(draw_fine_world(seed).state())
        for name in totals:
            totals[name] += result.counters[name]
        dropped += sum(tier.dropped_pages for tier in result.tiers)
        evicted += sum(tier.evicted_pages for tier in result.tiers)
    assert min(totals.values()) > 0, totals
    assert totals["promoted"] > 1000
    assert evicted > dropped > 1000


def test_fine_worlds_come_out_the_same_without_compilation(tmp_path: Path) -> None:
    target = tmp_path / "results"
    seeds = SEEDS[:12] if ALL else (2, 11)
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", RUN, str(target), *map(str, seeds)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results, found_alike = pickle.loads(target.read_bytes())
    for seed, plain in zip(seeds, results, strict=True):
        assert_same(plain, run_engine(draw_fine_world(seed).state()))
    # every look at a dozen slots and more has found them alike
    assert len(found_alike) >= 12
    assert min(found_alike.values()) > 0, found_alike


def test_a_prefix_of_consecutive_pages_lies_in_consecutive_slots() -> None:
    """What makes runs long: a prompt's pages are taken together, and demoted as they lay."""
    world = draw_fine_world(0)
    state = world.state()
    run_engine(state)
    lengths = []
    for tier in state.arrays["t"]:
        base, fresh = int(tier["base"]), int(tier["fresh"])
        held = state.arrays["holds"][base : base + fresh]
        keyed = held[:-1][(held[:-1] >= 0) & (held[1:] >= 0)]
        together = (np.diff(held) == 1)[(held[:-1] >= 0) & (held[1:] >= 0)]
        if keyed.size > 50:
            lengths.append(together.mean())
    assert min(lengths) > 0.8


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_known_prefixes_are_those_that_a_set_of_ids_has(seed: int) -> None:
    requests = draw_fine_world(seed).requests
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    seen: set[int] = set()
    expected = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        own = ids[start:end].tolist()
        expected.append(sum(each in seen for each in own))
        seen.update(own)
    top = int(ids.max()) + 1
    assert known_ids(offsets, ids, top).tolist() == expected
    assert known_ids(offsets, ids.astype(np.int32), top).tolist() == expected
    assert sum(expected) > 0


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_keys_of_pages_are_the_same_for_ids_of_32_bits(seed: int) -> None:
    requests = draw_fine_world(seed).requests
    narrow = replace(requests, prefix_ids=requests.prefix_ids.astype(np.int32))
    dense = np.unique(requests.prefix_ids, return_inverse=True)[1]  # these are taken as they are
    gapless = replace(requests, prefix_ids=dense.astype(np.int32))
    unit = requests.block_tokens
    wanted = page_keys(requests, unit, unit, answers=True)
    for each in (narrow, gapless):
        found = page_keys(each, unit, unit, answers=True)
        for name in ("ids", "offsets", "counts", "named", "fresh"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert (found.ids.dtype, found.keys) == (np.int32, wanted.keys)
