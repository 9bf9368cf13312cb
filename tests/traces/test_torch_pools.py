"""Pools of events that name none: known by the segments that a snapshot showed meanwhile."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.importers.torch_pools import name_pools
from vsim.traces.importers.torch_snapshot import allocations_in

MIB = 2**20


def row(action: str, addr: int, size: int = 1) -> dict[str, Any]:
    return {"action": action, "addr": addr, "size": size, "stream": 0, "time_us": 0}


def segment(address: int, size: int, pool: int, **more: Any) -> dict[str, Any]:
    return {"address": address, "total_size": size, "segment_pool_id": (0, pool), "blocks": [],
            **more}  # fmt: skip


def pools(rows: list[dict[str, Any]], looks: list[tuple[int, list[Any]]]) -> list[int]:
    """The second part of each event's pool; -1 where it has none."""
    return [each.get("pool_id", (0, -1))[1] for each in name_pools(rows, looks)]


def test_a_block_is_of_the_pool_of_its_segment_also_before_that_was_seen() -> None:
    rows = [row("segment_alloc", 100, 50), row("alloc", 110), row("alloc", 300)]
    assert pools(rows, [(3, [segment(100, 50, 7)])]) == [7, 7, -1]


def test_a_segment_at_the_same_address_is_another_one() -> None:
    """The first was seen in pool 7 before it went; the second at the end, in the common pools."""
    rows = [
        row("segment_alloc", 100, 50), row("alloc", 100), row("segment_free", 100, 50),
        row("segment_alloc", 100, 50), row("alloc", 100),
    ]  # fmt: skip
    assert pools(rows, [(2, [segment(100, 50, 7)]), (5, [segment(100, 50, 0)])]) == [7, 7, 7, 0, 0]
    assert pools(rows, [(5, [segment(100, 50, 9)])]) == [-1, -1, -1, 9, 9]  # seen too late


def test_what_is_no_event_stays_as_it_is() -> None:
    rows: list[Any] = [7, {"action": "alloc", "addr": "x", "size": 3}, row("segment_map", 5, 5)]
    assert list(name_pools(rows, [(3, [segment(0, 10, 3), "no segment"])]))[:2] == rows[:2]


CELLS = 12


@settings(max_examples=examples(200))
@given(st.data())
def test_pools_are_those_of_a_list_of_cells(data: st.DataObject) -> None:
    """Ranges of an expandable segment, mapped and unmapped in parts, over twelve cells of memory.

    Each mapped range is of one pool, which looks at random see for what of it is there.
    """
    cells: list[list[int] | None] = [None] * CELLS  # [number of what was mapped, its pool]
    rows: list[dict[str, Any]] = []
    looks: list[tuple[int, list[Any]]] = []
    of_row: list[int | None] = []
    seen: dict[int, int] = {}
    made = 0
    for _ in range(data.draw(st.integers(0, 25))):
        what = data.draw(st.sampled_from(["map", "unmap", "alloc", "look"]))
        low = data.draw(st.integers(0, CELLS - 1))
        high = data.draw(st.integers(low + 1, CELLS))
        inner = cells[low:high]
        if what == "map" and not any(inner):
            cells[low:high] = [[made, data.draw(st.integers(0, 3))]] * (high - low)
            rows.append(row("segment_map", low, high - low))
            of_row.append(made)
            made += 1
        elif what == "unmap" and all(inner):
            first = inner[0]
            assert first is not None
            rows.append(row("segment_unmap", low, high - low))
            of_row.append(first[0])
            cells[low:high] = [None] * (high - low)
        elif what == "alloc":
            cell = cells[low]
            rows.append(row("alloc", low))
            of_row.append(None if cell is None else cell[0])
        elif what == "look":
            there = [(at, cell) for at, cell in enumerate(cells) if cell is not None]
            for _, (number, pool) in there:
                seen[number] = pool
            looks.append((len(rows), [segment(at, 1, cell[1]) for at, cell in there]))
    wanted = [-1 if number is None else seen.get(number, -1) for number in of_row]
    assert pools(rows, looks) == wanted


def test_a_snapshot_whose_events_name_no_pool_has_those_of_its_segments() -> None:
    rows = [
        row("segment_alloc", MIB, MIB), row("alloc", MIB, 100),
        row("segment_alloc", 4 * MIB, MIB), row("alloc", 4 * MIB, 100),
    ]  # fmt: skip
    kept = [{"size": 100, "requested_size": 100, "state": "active_allocated"}]
    segments = [
        segment(MIB, MIB, 0, device=0, blocks=kept),
        segment(4 * MIB, MIB, 5, device=0, blocks=kept),
        segment(4 * MIB, MIB, 6, device=1),
    ]  # fmt: skip
    snapshot = {"device_traces": [rows], "segments": segments}
    trace = allocations_in(snapshot, "s.pickle", "a test")
    assert trace.pool is not None
    of_first = trace.pool[trace.device == 0]
    assert of_first.tolist() == [0, 0, 1, 1]
