"""What happens never depends on what comes later."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from tests.seeds import some

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .round_machine import COST, round_machine
from .worlds import World, draw_world

PER_REQUEST = (
    "arrival_ns", "admitted_ns", "first_token_ns", "last_token_ns", "hit_tokens", "faults",
    "fault_wait_ns", "preemptions",
)  # fmt: skip


def run(world: World, requests: Requests) -> EngineResult:
    return run_engine(replace(world, requests=requests).state())


def split(requests: Requests, later: int) -> tuple[Requests, Requests, int]:
    """The first requests, then those with `later` more that arrive after some time; that time."""
    kept = len(requests) - later
    arrival = requests.arrival_ns.copy()
    # late enough to come in the middle of things, and at no other event's time
    cut = int(arrival[kept - 1]) + (7_777_777_777 if kept % 2 else 33_333_331)
    arrival[kept:] = np.maximum(arrival[kept:], cut)
    whole = replace(requests, arrival_ns=arrival)
    return whole.head(kept), whole, cut


@pytest.mark.parametrize("seed", some(range(500, 580), 4))
def test_requests_that_arrive_later_change_nothing_before(seed: int) -> None:
    world = replace(draw_world(seed), pacing="arrivals")
    if len(world.requests) < 3:
        pytest.skip("too few requests to append any")
    fewer, more, cut = split(world.requests, later=max(1, len(world.requests) // 3))
    # the longest request sizes padding of a static batch and page tables; it must not show
    alone, followed = run(world, fewer), run(world, more)
    n = len(fewer)
    for name in PER_REQUEST:
        before, after = getattr(alone, name), getattr(followed, name)[:n]
        if name.endswith("_ns") and name != "fault_wait_ns":
            known = (before >= 0) & (before < cut)
            np.testing.assert_array_equal(known, (after >= 0) & (after < cut), err_msg=name)
            np.testing.assert_array_equal(before[known], after[known], err_msg=name)
        else:
            ended = (alone.last_token_ns >= 0) & (alone.last_token_ns < cut)
            np.testing.assert_array_equal(before[ended], after[ended], err_msg=name)
    for result in (alone, followed):
        assert result.operations is not None
    one, other = (copies_before(result, cut) for result in (alone, followed))
    assert one == other


def copies_before(result: EngineResult, cut: int) -> list[tuple[Any, ...]]:
    """The copies that ended before a time: from which tier to which, how much, and when."""
    assert result.operations is not None
    rows = result.operations.filter(pc.equal(result.operations["kind"], "copy")).to_pylist()
    return [
        (r["source_tier"], r["target_tier"], r["bytes"], r["submit_ns"], r["end_ns"])
        for r in rows
        if r["end_ns"] < cut
    ]


def documents(chains: list[list[int]], room: int, **tier: Any) -> EngineResult:
    """Documents of 32 full pages, read one long after the other, with room in HBM for about one."""
    requests = make_requests(
        [i * 10**11 for i in range(len(chains))], [325] * len(chains), [2] * len(chains), chains, 10
    )
    page = 10 * COST.kv_bytes_per_token
    tiers = [
        {"tier": "hbm", "capacity": f"{40 * page}B"},
        {"tier": "host", "capacity": f"{room * page}B", **tier},
    ]
    return run_engine(
        make_state(
            requests, tiers, round_machine(), cost=COST, block_tokens=10, page_tokens=10,
            token_budget=8192,
        )
    )  # fmt: skip


@pytest.mark.parametrize("write", ["back", "through"])
def test_a_tier_with_room_evicts_nothing(write: str) -> None:
    a, b = list(range(32)), list(range(100, 132))
    found = documents([a, b, a], 100_000, write=write)
    assert found.hit_tokens.tolist() == [0, 0, 320]
    assert found.tiers[1].evicted_pages == found.tiers[1].dropped_pages == 0


def test_a_document_that_nobody_reads_again_leaves_the_others_hits_alone() -> None:
    a, b, c = list(range(32)), list(range(100, 132)), list(range(200, 232))
    three, four = documents([a, b, a], 66), documents([a, b, a, c], 66)
    assert three.hit_tokens.tolist() == four.hit_tokens[:3].tolist() == [0, 0, 320]


def test_a_tier_is_as_roomy_as_it_is_large_and_takes_memory_for_what_it_holds() -> None:
    state = make_state(
        make_requests([0, 10], [50, 50], [4, 4], [[1, 2], [1, 3]], 16),
        [{"tier": "hbm"}, {"tier": "lpddr", "access": "in_place", "capacity": "480GB"}],
        "gh200",
    )
    assert state.capacity_units[1] > 200_000
    assert state.arrays["holds"].size < 10_000
    found = run_engine(state)
    assert found.tiers[1].capacity_pages == state.capacity_units[1]
    assert found.status.tolist() == [0, 0]
