"""Stores that nothing was loaded from: against a plain walk through the log."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.goodput.stores import Stores, stores_of

TIERS = ("hbm", "host", "nvme")
SLOTS = {"hbm": range(0, 3), "host": range(3, 6), "nvme": range(6, 9)}
Copy = tuple[str, str, list[tuple[int, int]]]


@st.composite
def copies(draw: st.DrawFn) -> Copy:
    source, target = draw(st.sampled_from([(a, b) for a in TIERS for b in TIERS if a != b]))
    pairs = st.tuples(st.sampled_from(SLOTS[source]), st.sampled_from(SLOTS[target]))
    return source, target, draw(st.lists(pairs, min_size=1, max_size=3, unique_by=lambda p: p[1]))


def table(log: list[Copy]) -> pa.Table:
    words = pa.dictionary(pa.int32(), pa.string())
    rows = [(s, t, [a for a, _ in pairs] + [b for _, b in pairs]) for s, t, pairs in log]
    return pa.table(
        {
            "kind": pa.array(["copy"] * len(rows), pa.string()).cast(words),
            "source_tier": pa.array([row[0] for row in rows], pa.string()).cast(words),
            "target_tier": pa.array([row[1] for row in rows], pa.string()).cast(words),
            "pages": pa.array([row[2] for row in rows], pa.list_(pa.int64())),
        }
    )


def walked(log: list[Copy], tier: str) -> Stores:
    """Each slot's store is open until it is written again; a copy upwards from it loads it."""
    height = TIERS.index
    opened: dict[int, bool] = {}
    pages = never = 0
    for source, target, pairs in log:
        for read, written in pairs:
            if source == tier and height(target) < height(tier) and read in opened:
                opened[read] = True
            if target == tier and height(source) < height(tier):
                pages += 1
                never += opened.pop(written, True) is False
                opened[written] = False
    never += sum(not loaded for loaded in opened.values())
    return Stores(tier=tier, pages=pages, never_loaded=never)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(copies(), max_size=12))
def test_it_is_what_a_walk_through_the_log_counts(log: list[Copy]) -> None:
    assert stores_of(table(log), TIERS) == (walked(log, "host"), walked(log, "nvme"))


def test_a_page_loaded_twice_is_one_store_and_a_page_passed_down_is_not_loaded() -> None:
    log: list[Copy] = [
        ("hbm", "host", [(0, 3), (1, 4)]),
        ("host", "hbm", [(3, 2)]),
        ("host", "hbm", [(3, 0)]),
        ("host", "nvme", [(4, 6)]),
    ]
    assert stores_of(table(log), TIERS) == (
        Stores(tier="host", pages=2, never_loaded=1),
        Stores(tier="nvme", pages=1, never_loaded=1),
    )
