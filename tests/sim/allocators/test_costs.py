"""What calls cost and where growth by mapping is cheaper, against arithmetic by hand."""

import pytest

from vsim.sim.allocators.call_costs import CallCosts
from vsim.sim.allocators.device import MIB
from vsim.sim.allocators.growth import crossover_bytes, grow_to, growth, map_ns
from vsim.sim.machine.loading import load_machine

GIB = 2**30


@pytest.fixture(scope="module")
def costs() -> CallCosts:
    return CallCosts.of(load_machine("h200-measured"))


def test_cuda_malloc_costs_what_was_measured_and_lies_on_a_line_between(costs: CallCosts) -> None:
    assert costs.call_ns(("cudaMalloc", 2 * MIB, 1)) == 50_000
    assert costs.call_ns(("cudaMalloc", 512, 1)) == 50_000
    assert costs.call_ns(("cudaMalloc", GIB, 1)) == 474_000
    assert costs.call_ns(("cudaFree", GIB, 1)) == 589_000
    middle = (2 * MIB + GIB) // 2
    assert costs.call_ns(("cudaMalloc", middle, 1)) == pytest.approx((50_000 + 474_000) / 2)


def test_mapping_costs_what_was_measured(costs: CallCosts) -> None:
    """One chunk: 8.2 + 0.6 + 23 µs; 512 side by side: 512 · (10 + 1 + 53) µs = 32.8 ms."""
    assert map_ns(costs, 2 * MIB, 2 * MIB) == pytest.approx(31_800)
    assert map_ns(costs, GIB, 2 * MIB) == pytest.approx(512 * 64_000)


def test_copying_a_gibibyte_reads_and_writes_it(costs: CallCosts) -> None:
    """About 0.5 ms was measured on the H200 of which the file is."""
    hbm = costs.machine.hbm
    both = GIB / hbm.read.value + GIB / hbm.write.value
    found = costs.copy_ns(GIB)
    assert found == pytest.approx(1e9 * both / costs.machine.gpu.hbm_efficiency.value)
    assert 0.45e6 < found < 0.6e6


def test_all_calls_are_added_up_by_their_counts(costs: CallCosts) -> None:
    calls = {("cudaMalloc", 2 * MIB, 1): 3, ("create", 2 * MIB, 1): 2, ("copy", GIB, 1): 1}
    whole = 3 * 50_000 + 2 * 8_200 + costs.copy_ns(GIB)
    assert costs.total_ns(calls) == pytest.approx(whole, abs=1)
    assert costs.total_ns(calls, ["create"]) == 16_400


@pytest.mark.parametrize("copy_alone", [False, True])
@pytest.mark.parametrize(("added", "chunk"), [(64 * MIB, 2 * MIB), (GIB, 2 * MIB), (GIB, GIB)])
def test_at_the_crossover_mapping_is_cheaper_and_a_byte_before_it_is_not(
    costs: CallCosts, added: int, chunk: int, copy_alone: bool
) -> None:
    found = crossover_bytes(costs, added, chunk, copy_alone=copy_alone)
    assert found is not None
    for size, cheaper in ((found, True), (found - 1, False)):
        each = growth(costs, size, added, chunk)
        assert (each.map_ns < (each.copy_alone_ns if copy_alone else each.copy_ns)) is cheaper


def test_copying_takes_both_buffers_at_once_and_mapping_the_chunks_that_are_added(
    costs: CallCosts,
) -> None:
    each = growth(costs, 40 * GIB, 64 * MIB + 1, 2 * MIB)
    assert each.copy_peak_bytes == 80 * GIB + 64 * MIB + 1
    assert each.map_peak_bytes == 40 * GIB + 66 * MIB


def test_growing_in_steps_is_quadratic_by_copies_and_linear_by_mapping(costs: CallCosts) -> None:
    """Twice as far in twice the steps: four times the bytes copied, twice the chunks mapped."""
    short = grow_to(costs, 0, 8 * GIB, GIB, 2 * MIB)
    long = grow_to(costs, 0, 16 * GIB, GIB, 2 * MIB)
    assert long[1] == pytest.approx(2 * short[1])
    assert long[0] / short[0] > 3.5
