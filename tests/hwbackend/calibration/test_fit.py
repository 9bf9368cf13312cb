import math
from dataclasses import replace

import numpy as np
import pytest
from tests.hwbackend.calibration import synthetic as truth

from vsim.hwbackend.calibration.beside_fit import copy_weights
from vsim.hwbackend.calibration.clearing_fit import fit_clearing
from vsim.hwbackend.calibration.fit import Fitted, fit, fit_copies, fit_vmm
from vsim.hwbackend.calibration.plan import GROWN_AT_ONCE, MIB, ROUTES
from vsim.traces.gpu_samples import GpuSamples, Sampled, point


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return truth.fitted(noise=0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hbm read", truth.HBM), ("hbm write", truth.WRITE), ("hbm latency", 0.6),
        ("peer latency", 1.3), ("host latency", 1.5), ("host-hbm copy", truth.LINK_IN),
        ("hbm-host copy", truth.LINK_OUT), ("host-hbm both", truth.BOTH),
        ("peer-hbm copy", truth.PEER_IN), ("hbm-peer copy", truth.PEER_OUT),
        ("power idle", 78.0), ("power products", 700.0), ("clock products", 1500.0),
        ("launch kernel", 2.2), ("launch graph kernel", 1.1), ("launch graph", 5.0),
        ("launch event", 0.8), ("attention read", truth.ATTENTION), ("copy weight", truth.WEIGHT),
        ("hbm weight", truth.HBM_WEIGHT),
    ],
)  # fmt: skip
def test_a_figure_is_found_again(fitted: Fitted, name: str, value: float) -> None:
    figure = fitted.figures[name]
    assert figure.value == pytest.approx(value, rel=0.03)
    assert figure.samples >= 7
    assert 0 < figure.spread < 0.1


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("way", ["engine", "kernel"])
def test_copies_are_found_again(fitted: Fitted, route: str, way: str) -> None:
    found = fitted.copies[route, way]
    assert found.bytes_per_s == pytest.approx(truth.RATES[route], rel=0.02)
    assert found.first_us == pytest.approx(truth.FIRST_US[way], abs=1.0)
    assert found.each_us == pytest.approx(truth.EACH_US[way], abs=0.15)
    assert found.worst < 0.03


def test_copies_without_noise_are_met_exactly() -> None:
    rows = [
        Sampled(point("copy", "x", bytes=size, count=count), size * count,
                (3.0 + count * (2.0 + size / 5e4),))
        for size, count in [(65536, 1), (MIB, 1), (65536, 16), (MIB, 64), (64 * MIB, 1)]
    ]  # fmt: skip
    found = fit_copies(rows)
    assert found is not None
    assert (found.first_us, found.each_us) == (pytest.approx(3.0), pytest.approx(2.0))
    assert found.bytes_per_s == pytest.approx(50e9)
    assert found.worst < 1e-9
    assert found.pieces_us == {
        (65536, 16): pytest.approx(2.0), (MIB, 64): pytest.approx(2.0),
    }  # fmt: skip
    assert fit_copies(rows[:2]) is None


def test_what_pieces_take_is_kept_by_size_and_number() -> None:
    """By hand: 3 us once, 50 GB/s, 2 us a piece, but 2.8 for 256 of 128 KiB."""
    each = {(128 * 1024, 256): 2.8}
    rows = [
        Sampled(point("copy", "x", bytes=size, count=count), size * count,
                (3.0 + count * (each.get((size, count), 2.0) + size / 5e4),))
        for size, count in [(65536, 1), (64 * MIB, 1), (65536, 16), (65536, 64), (65536, 256),
                            (128 * 1024, 16), (128 * 1024, 64), (128 * 1024, 256)]
    ]  # fmt: skip
    found = fit_copies(rows)
    assert found is not None
    assert found.pieces_us[128 * 1024, 256] - found.pieces_us[128 * 1024, 64] == pytest.approx(
        0.8, abs=0.05
    )
    assert found.worst < 0.02


def test_every_kind_of_chunks_is_found_again(fitted: Fitted) -> None:
    assert {place for place, _, _ in fitted.vmm} == {"hbm", "peer", "host"}
    for (place, chunk, chunks), found in fitted.vmm.items():
        few = place != "host" and chunks <= GROWN_AT_ONCE and 2 * chunk * chunks <= 4 << 30
        lacks = {"grow"} if place != "host" else {"grow", "round"}
        assert set(found.us) == truth.VMM_US.keys() - (set() if few else lacks)
        for call in found.us:
            assert found.us[call] == pytest.approx(truth.vmm_us(call, chunk), rel=0.03)


def test_what_a_map_takes_beyond_the_smallest_chunk_s_is_the_access_s() -> None:
    def row(call: str, chunk: int, us: float) -> Sampled:
        return Sampled(point("vmm", f"hbm {call}", chunk=chunk, chunks=8), chunk, (us,))

    rows = [
        row(call, chunk, us)
        for chunk, maps, access in ((2 << 20, 2.0, 25.0), (32 << 20, 33.0, 31.0))
        for call, us in {**truth.VMM_US, "map": maps, "set_access": access}.items()
    ]
    fits = fit_vmm(rows)
    assert fits["hbm", 2 << 20, 8].us["map"] == fits["hbm", 32 << 20, 8].us["map"] == 2.0
    assert fits["hbm", 32 << 20, 8].us["set_access"] == 62.0
    assert fits["hbm", 2 << 20, 8].us["set_access"] == 25.0


def test_how_memory_is_cleared_is_found_again() -> None:
    found = truth.fitted(noise=0.0).clearing
    assert found is not None
    assert found.bytes_per_s == pytest.approx(truth.CLEARED, rel=1e-6)
    assert found.first_us == pytest.approx(truth.CLEARING_FIRST_US, rel=1e-6)
    assert found.turn_us == truth.TURN_US
    assert found.worst < 1e-6


def test_where_page_tables_do_not_wait_nothing_is_said_of_clearing() -> None:
    def row(what: str, chunks: int, us: float) -> Sampled:
        at = point("clearing", f"hbm {what}", chunk=128 << 20, chunks=chunks)
        return Sampled(at, chunks << 27, (us,))

    def fitted(turns: tuple[float, float]) -> object:
        rows = [row("end", 8, 2_700.0), row("end", 32, 9_800.0)]
        rows += [row("turn", chunks, us) for chunks, us in zip((8, 32), turns, strict=True)]
        return fit_clearing(GpuSamples(truth.FACTS, tuple(rows)))

    assert fitted((1_060.0, 1_060.0)) is not None
    assert fitted((0.0, 1_060.0)) is None
    assert fit_clearing(GpuSamples(truth.FACTS, (row("end", 8, 2_700.0),))) is None


def test_the_form_of_mixes_and_its_numbers_are_found_again(fitted: Fitted) -> None:
    chosen = fitted.attends[0]
    assert chosen.form == "waiting"
    assert chosen.worst < 0.06
    for place, made in truth.FORMS.items():
        found = chosen.fitted[place]
        assert found.bytes_per_s == pytest.approx(made.bytes_per_s, rel=0.02)
        assert found.slow_waits == pytest.approx(made.slow_waits, abs=0.03)
        assert found.hbm_waits == pytest.approx(made.hbm_waits, abs=0.03)
        assert math.isinf(found.exponent)


def test_what_copies_cost_hbm_is_found_again() -> None:
    found = truth.fitted(noise=0.0).hbm_costs
    assert found == pytest.approx(truth.HBM_COSTS, rel=1e-6)


def test_the_weights_of_copies_are_found_again() -> None:
    bound_by_their_link = {"host-hbm": 1.0, "hbm-host": 1.0}
    weights = {**truth.COPY_WEIGHTS, **bound_by_their_link}
    assert truth.fitted(noise=0.0).weights == pytest.approx(weights, rel=1e-6)


def test_a_copy_that_attention_does_not_slow_weighs_what_it_reached() -> None:
    def as_alone(row: Sampled) -> Sampled:
        if row.point.variant != "hbm-peer copy" or row.point["share"]:
            return row
        return replace(row, samples=tuple(row.bytes / truth.PEER_OUT * 1e6 for _ in row.samples))

    samples = truth.synthetic(noise=0.0, kept=lambda at: at.probe == "beside")
    found = copy_weights(GpuSamples(samples.facts, tuple(map(as_alone, samples.rows))))
    # attention has HBM_WEIGHT times what the copy from the peer has, and went on as beside a copy
    # that it slows
    (attended,) = [row for row in samples.rows if row.point.variant == "hbm-peer attention"]
    reached = truth.HBM_WEIGHT * truth.PEER_OUT / attended.bytes_per_s
    assert found == pytest.approx(
        {"peer-hbm": 1.0, "hbm-peer": reached, "host-hbm": 1.0, "hbm-host": 1.0}, rel=1e-6
    )
    assert reached > truth.COPY_WEIGHTS["hbm-peer"]


def test_how_much_longer_pages_take_beside_steps_is_found_again() -> None:
    found = truth.fitted(noise=0.0).beside_steps
    assert found == pytest.approx({**truth.PAGING, "hbm-peer": 1.0})  # no shorter than alone


def test_copies_that_attention_does_not_slow_say_nothing_of_its_weight() -> None:
    found = fit(truth.synthetic(kept=lambda at: "host" in at.variant))
    assert "hbm weight" not in found.figures
    assert set(found.hbm_costs) == {"host-hbm", "hbm-host"}


def test_the_same_samples_give_the_same_numbers() -> None:
    samples = truth.synthetic(kept=lambda at: at.probe == "copy" or "host" in at.variant)
    found = fit(samples)
    assert found.attends
    assert fit(samples) == found


def test_one_gpu_has_no_figures_of_a_peer() -> None:
    found = fit(truth.synthetic(gpus=1, kept=lambda at: at.probe != "mixed_attention"))
    assert not [name for name in found.figures if "peer" in name]
    assert not found.attends
    assert {route for route, _ in found.copies} == {"hbm-hbm", "host-hbm", "hbm-host"}


def test_loads_that_leave_a_link_idle_say_nothing_of_its_shares() -> None:
    def no_copies(row: Sampled) -> Sampled:
        slower = row.point.probe == "beside" and row.point.variant.endswith(" copy")
        samples = tuple(np.array(row.samples) * (9 if slower else 1))
        return Sampled(row.point, row.bytes, samples, row.unit)

    samples = truth.synthetic(kept=lambda at: at.probe in ("beside", "decode_attention"))
    rows = tuple(no_copies(row) for row in samples.rows)
    found = fit(type(samples)(samples.facts, rows))
    assert "copy weight" in fit(samples).figures
    assert "copy weight" not in found.figures
