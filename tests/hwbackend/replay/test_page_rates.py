"""Links of a replay are as fast as copies of one page after another."""

from pathlib import Path

import pytest

from vsim.hwbackend.replay.page_rates import MANY, by_pages
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.tier import Link
from vsim.sim.timing.copies import copy_ns

RECORDED = Path(__file__).parents[3] / "traces" / "recorded" / "gpu"


def link(machine: Machine, source: str) -> Link:
    (found,) = (each for each in machine.links if each.source == source and each.target == "hbm")
    return found


@pytest.mark.parametrize("tier", ["host", "peer"])
def test_many_pages_take_what_the_table_of_copies_says(tier: str) -> None:
    machine = load_machine(RECORDED / "2xh200.yaml")
    size = 2 << 20
    made, before = link(by_pages(machine, size), tier), link(machine, tier)
    gpus = machine.gpu.count if tier == "host" else 1
    for ends, field in (((tier, "hbm"), "bandwidth"), (("hbm", tier), "reverse_bandwidth")):
        each_ns = copy_ns(machine, *ends, size, MANY) / MANY  # of which once 0.1 us, 1.5 % at most
        rate = getattr(made, field).value / gpus
        assert size / rate * 1e9 == pytest.approx(each_ns, rel=0.02)
        assert rate < getattr(before, field).value / gpus


def test_pages_are_as_much_slower_as_they_are_beside_a_step() -> None:
    machine = load_machine(RECORDED / "h100-replays.yaml")
    rows = tuple(each.model_copy(update={"beside_step": 1.0}) for each in machine.copies)
    alone = machine.model_copy(update={"copies": rows})
    size = 2 << 20
    made, before = link(by_pages(machine, size), "host"), link(by_pages(alone, size), "host")
    assert before.bandwidth.value / made.bandwidth.value == pytest.approx(1.081)
    assert before.reverse_bandwidth.value / made.reverse_bandwidth.value == pytest.approx(1.133)


def test_large_pages_are_nearly_as_fast_as_one_copy_of_all() -> None:
    machine = load_machine(RECORDED / "2xh200.yaml")
    made, before = link(by_pages(machine, 1 << 30), "host"), link(machine, "host")
    assert made.bandwidth.value == pytest.approx(before.bandwidth.value, rel=1e-3)


def test_a_machine_without_measured_copies_stays_as_it_is() -> None:
    machine = load_machine("h100")
    assert not machine.copies
    assert by_pages(machine, 1 << 21).links == machine.links
