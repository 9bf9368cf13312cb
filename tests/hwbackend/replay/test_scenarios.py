"""The scenarios for replays do within their windows what they say that they do."""

from collections import Counter
from pathlib import Path

import pytest

from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.plan import Plan
from vsim.hwbackend.replay.reading import read_source

SCENARIOS = Path(__file__).parents[3] / "scenarios" / "replay"


def planned(name: str) -> Plan:
    options = ReplayOptions(window_ns=3_000_000_000)
    return read_source(str(SCENARIOS / f"{name}.yaml"), options).plan


@pytest.mark.parametrize("name", ["host", "mapped", "tensor"])
def test_three_seconds_move_pages_to_the_host_and_back_several_times(name: str) -> None:
    plan = planned(name)
    moves: Counter[tuple[int, int]] = Counter()
    for each in plan.operations:
        if each.kind == "copy":
            operation = each.operation
            moves[operation.source_tier, operation.target_tier] += len(operation.sources)
    assert plan.tiers == ("hbm", "host")
    assert set(moves) == {(0, 1), (1, 0)}
    assert min(moves.values()) > 200  # pages of 2 MiB


def test_steps_with_a_peer_read_its_pages_where_they_are() -> None:
    plan = planned("peer")
    assert plan.tiers == ("hbm", "peer")
    steps = [each for each in plan.operations if each.kind == "step"]
    peers = [sum(len(read.pages) for read in each.reads if read.tier == 1) for each in steps]
    assert len(steps) > 300
    assert sum(pages > 0 for pages in peers) > 0.9 * len(steps)
