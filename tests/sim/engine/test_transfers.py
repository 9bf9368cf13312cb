"""Transfers, alone and together, arrive when the fluid model's closed forms say: to the ns."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from .fluid_twin import arrivals
from .round_machine import GB, LINKS, round_machine
from .wires import TIERS, Copy, ends, server

LATENCY_NS = 5_000  # of host to HBM: 1,000 in the memory, 4,000 on the link


# One transfer.


def test_a_transfer_takes_latency_and_bytes_over_bandwidth() -> None:
    assert ends(server(), Copy(10_000)) == [LATENCY_NS + 1_000]


def test_a_transfer_is_rounded_up_to_a_whole_nanosecond() -> None:
    for size, flow_ns in ((10_001, 1_001), (9_991, 1_000), (9_990, 999), (1, 1)):
        assert ends(server(), Copy(size)) == [LATENCY_NS + flow_ns]


@settings(max_examples=examples(60), deadline=None)
@given(mb_per_s=st.integers(1, 100_000), share=st.floats(0, 1))
def test_one_transfer_of_up_to_a_second_at_any_bandwidth(mb_per_s: int, share: float) -> None:
    # in a longer one doubles no longer resolve a millionth of a nanosecond
    bandwidth = mb_per_s * 10**6
    size = max(1, int(share * bandwidth))
    link = ("host", "hbm", bandwidth, bandwidth, 4_000, None)
    machine = round_machine({"host": ("host", 200 * GB, 200 * GB, 1_000)}, (link, *LINKS[1:]))
    whole = math.ceil(Fraction(size * GB, bandwidth))
    assert ends(server(machine), Copy(size)) == [LATENCY_NS + whole]


@pytest.mark.parametrize(
    ("memories", "slowest"),
    [
        ({}, 10 * GB),
        ({"host": ("host", 5 * GB, 100 * GB, 1_000)}, 5 * GB),
        ({"hbm": ("hbm", 1000 * GB, 2 * GB, 0)}, 2 * GB),
    ],
    ids=["link", "source", "target"],
)
def test_the_slowest_of_link_source_and_target_sets_the_rate(
    memories: dict[str, Any], slowest: int
) -> None:
    state = server(round_machine(memories))
    assert ends(state, Copy(10**6)) == [LATENCY_NS + 10**6 * GB // slowest]


def test_a_path_of_two_links_has_the_latency_of_both_and_the_rate_of_the_slower() -> None:
    assert ends(server(), Copy(4_000, "nvme", "hbm")) == [80_000 + 10_000 + 4_000 + 1_000]


def test_flash_is_written_at_its_own_rate() -> None:
    assert ends(server(), Copy(4_000, "host", "nvme")) == [1_000 + 10_000 + 2_000]


# Several on one link.


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_n_equal_transfers_on_one_link_share_it_evenly(n: int) -> None:
    assert ends(server(), *[Copy(10_000)] * n) == [LATENCY_NS + n * 1_000] * n


@settings(max_examples=examples(60), deadline=None)
@given(units=st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_n_transfers_on_one_link_end_as_processor_sharing_says(units: list[int]) -> None:
    # sizes are multiples of 60 ns of the link, so that each phase takes whole nanoseconds
    flow_ns = [unit * 60 for unit in units]
    expected = [LATENCY_NS + sum(min(own, other) for other in flow_ns) for own in flow_ns]
    assert ends(server(), *(Copy(10 * ns) for ns in flow_ns)) == expected


def test_a_transfer_that_joins_halfway_slows_the_rest_of_the_first() -> None:
    # alone for 500 ns, then 500 ns of work each at half the rate; the second goes on alone
    found = ends(server(), Copy(10_000), Copy(10_000, start_ns=500))
    assert found == [LATENCY_NS + 1_500, LATENCY_NS + 2_000]


def test_latency_holds_no_bandwidth() -> None:
    # the first's bytes are through when the second starts, though they arrive 5,000 ns later
    found = ends(server(), Copy(10_000), Copy(10_000, start_ns=1_000))
    assert found == [LATENCY_NS + 1_000, LATENCY_NS + 2_000]


def test_a_transfer_is_one_flow_however_many_pages_it_has() -> None:
    # two of one page and one of four pages on the link: equal shares while all three run
    found = ends(server(), Copy(10_000), Copy(10_000), Copy(40_000))
    assert found == [LATENCY_NS + 3_000, LATENCY_NS + 3_000, LATENCY_NS + 6_000]


# Several that share some of their way.


def test_the_two_directions_of_a_link_do_not_share() -> None:
    found = ends(server(), Copy(10_000), Copy(10_000, "hbm", "host"))
    assert found == [LATENCY_NS + 1_000, 4_000 + 1_000]


def test_the_two_directions_share_a_group() -> None:
    links = (("host", "hbm", 10 * GB, 10 * GB, 4_000, "root"), *LINKS[1:])
    machine = round_machine(links=links, groups={"root": 10 * GB})
    found = ends(server(machine), Copy(10_000), Copy(10_000, "hbm", "host"))
    assert found == [LATENCY_NS + 2_000, 4_000 + 2_000]


def test_two_links_share_the_dram_between_them() -> None:
    machine = round_machine({"host": ("host", 6 * GB, 6 * GB, 1_000)})
    alone = ends(server(machine), Copy(9_000, "nvme", "host"))
    assert alone == [90_000 + 2_250]
    # 6 GB/s of one bus: 3 for the write from NVMe, 3 for the read towards HBM
    found = ends(server(machine), Copy(9_000, "nvme", "host"), Copy(9_000, "host", "hbm"))
    assert found == [90_000 + 3_000, LATENCY_NS + 3_000]


def test_flash_reads_and_writes_side_by_side() -> None:
    found = ends(server(), Copy(4_000, "nvme", "host"), Copy(4_000, "host", "nvme"))
    assert found == [90_000 + 1_000, 11_000 + 2_000]


def test_max_min_fairness_gives_what_one_cannot_use_to_another() -> None:
    # Two cross the 4 GB/s link, one of them goes on over the 10 GB/s link: 2 each. The third, on
    # the 10 GB/s link alone, gets the 8 that are left there.
    found = ends(
        server(), Copy(2_000, "nvme", "hbm"), Copy(2_000, "nvme", "host"), Copy(8_000, "host")
    )
    assert found == [94_000 + 1_000, 90_000 + 1_000, LATENCY_NS + 1_000]


def test_transfers_on_ways_of_their_own_do_not_meet() -> None:
    found = ends(server(), Copy(10_000), Copy(10_000, "lpddr", "hbm"))
    assert found == [LATENCY_NS + 1_000, 40]


MILLIONTH = Fraction(1, 10**6)
PATHS = [(a, b) for a in TIERS for b in TIERS if a != b]


@settings(max_examples=examples(80), deadline=None)
@given(
    copies=st.lists(
        st.builds(
            lambda size, path, start: Copy(size, *path, start),
            st.integers(1, 10**6),
            st.sampled_from(PATHS),
            st.integers(0, 20_000),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_transfers_arrive_as_an_exact_simulation_in_fractions_says(copies: list[Copy]) -> None:
    machine = round_machine({"hbm": ("hbm", 12 * GB, 12 * GB, 0)})
    # the engine's slack is half a nanosecond; a transfer just as far from its end may go either way
    half = Fraction(1, 2)
    expected = [arrivals(machine, copies, half + off) for off in (-MILLIONTH, MILLIONTH)]
    assert ends(server(machine), *copies) in expected
