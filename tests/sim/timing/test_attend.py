import math

import numpy as np
import pytest

from vsim.sim.machine.attend import InPlace
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.timing.attend import LowerPart, attend_ns, attend_sum, in_place_bytes_per_s

MEASURED = {"source": "measurement", "note": "for this test"}
GB = 1e9
# Measured on two H200, 2026-11-20: 32 requests of 8,192 tokens, share of pages on the peer, GB/s.
PEER = {0.02: 4071, 0.04: 4176, 0.06: 4238, 0.07: 4246, 0.08: 4154, 0.10: 3356, 0.20: 1790, 1: 373}
BYTES = 32 * 8192 * 4096


def with_peer(**figures: object) -> Machine:
    machine = load_machine("2xh200-measured")
    row = InPlace.model_validate(
        {"kind": "peer", **{name: {"value": value, **MEASURED} for name, value in figures.items()}}
    )
    exponent = machine.attend.exponent.model_copy(update={"value": None})
    attend = machine.attend.model_copy(update={"in_place": (row,), "exponent": exponent})
    return machine.model_copy(update={"attend": attend})


def test_parts_that_wait_for_nothing_are_a_norm() -> None:
    assert attend_sum(3.0, [LowerPart(4.0)], 2.0) == 5.0
    assert attend_sum(3.0, [LowerPart(4.0)], math.inf) == 4.0


def test_each_part_gets_longer_by_a_share_of_the_others() -> None:
    assert attend_sum(10.0, [LowerPart(4.0, waits=0.5, hbm_waits=0.25)], math.inf) == 11.0
    assert attend_sum(10.0, [LowerPart(9.0, waits=0.5, hbm_waits=0.25)], math.inf) == 14.0
    two = [LowerPart(9.0, waits=0.5), LowerPart(2.0, hbm_waits=1.0)]
    assert attend_sum(10.0, two, math.inf) == 15.0


def test_a_tier_alone_takes_its_own_time() -> None:
    assert attend_sum(10.0, [LowerPart(0.0, 0.5, 0.5)], 3.0) == 10.0
    assert attend_sum(0.0, [LowerPart(7.0, 0.5, 0.5)], 3.0) == 7.0


def test_an_attend_is_never_faster_than_its_longest_part() -> None:
    draw = np.random.Generator(np.random.PCG64(3))
    for _ in range(200):
        hbm, *rest = draw.random(7).tolist()
        parts = [LowerPart(*rest[:3]), LowerPart(*rest[3:6])]
        p = float(draw.choice([1.0, 2.0, 9.0, math.inf]))
        assert attend_sum(hbm, parts, p) >= max(hbm, *(part.alone for part in parts))


def test_mixes_measured_on_two_h200_are_met_within_two_percent() -> None:
    machine = with_peer(read="373GB/s", waits=0.1215, hbm_waits=0.0192)
    for share, rate in PEER.items():
        hbm_ns = (1 - share) * BYTES / 4025
        predicted = attend_ns(machine, hbm_ns, {"peer": share * BYTES})
        assert predicted == pytest.approx(BYTES / rate, rel=0.02), share


def test_attention_reads_a_tier_as_measured_or_as_its_link_gives() -> None:
    machine = load_machine("2xh200-measured")
    assert in_place_bytes_per_s(machine, "peer") == 354 * GB
    assert in_place_bytes_per_s(with_peer(read="345GB/s", waits=0, hbm_waits=0), "peer") == 345 * GB
    assert in_place_bytes_per_s(with_peer(read="373GB/s", waits=0, hbm_waits=0), "peer") == 373 * GB
    assert in_place_bytes_per_s(machine, "host") == 55.5 * GB  # one GPU's half of the two links
