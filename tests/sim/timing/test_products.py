import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.products import STAND_INS, product_bound, product_ns
from vsim.sim.timing.roofline import KernelPrecision, weight_bytes

FLOOR = 2000.0


def of_efficiency(
    shares: list[float], shapes: list[list[int]], tokens: list[int], precision: str = "bf16"
) -> Curves:
    """Products that reach these shares of bound and floor, whatever their m.

    One more shape, far from all, takes the floor itself: so that the floor is what it is. It is
    among the four nearest where fewer than four others are given.
    """
    ns = [
        (product_bound(PEAKS, precision, tokens, *shape).ns + FLOOR) / share
        for share, shape in zip(shares, shapes, strict=True)
    ]
    far = np.full(len(tokens), np.nan)
    far[0] = FLOOR
    return made(
        "products", [*shapes, [1, 2**40]], tokens, [0],
        np.stack([*ns, far])[:, :, None], precision=precision,
    )  # fmt: skip


def test_a_product_moves_its_inputs_weights_and_outputs() -> None:
    bound = product_bound(PEAKS, "bf16", 10, 200, 3000)
    # 2 bytes each: 10·3000 inputs, 200·3000 weights, 10·200 outputs, at 1e12 bytes a second.
    assert bound.bytes_ns == pytest.approx(2 * (30_000 + 600_000 + 2_000) / 1000)
    assert bound.flops_ns == pytest.approx(2 * 10 * 200 * 3000 / 1e6)
    assert bound.ns == bound.bytes_ns


@pytest.mark.parametrize(
    ("precision", "weight", "rate"),
    [("bf16", 2, 1e6), ("fp8", 1, 2e6), ("int8", 1, 2e6), ("int4", 0.5 + 2 / 128, 1e6),
     ("mxfp4", 0.5 + 1 / 32, 1e6), ("fp8_block", 1 + 4 / 128**2, 2e6)],
)  # fmt: skip
def test_weights_count_with_their_scales_and_compute_at_their_rate(
    precision: KernelPrecision, weight: float, rate: float
) -> None:
    one, many = (product_bound(PEAKS, precision, 1, n, 1000) for n in (1000, 2000))
    more = (many.bytes_ns - one.bytes_ns) * 1000
    assert more == pytest.approx(1000 * 1000 * weight + 1000 * 2)
    assert one.flops_ns == pytest.approx(2 * 1000 * 1000 / rate)
    assert weight_bytes(precision) == weight


def test_a_measured_shape_gets_its_own_times() -> None:
    curves = of_efficiency([0.5, 0.7], [[1024, 4096], [2048, 4096]], [1, 16, 256])
    times = product_ns(tables(curves), PEAKS, "bf16", [1, 16, 256], 2048, 4096)
    assert times == pytest.approx(np.exp(curves.log_ns[1, :, 0]))


def test_a_shape_between_others_has_an_efficiency_between_theirs() -> None:
    shapes = [[1024, 4096], [4096, 4096], [1024, 1024], [1024, 16384]]
    curves = of_efficiency([0.4, 0.8, 0.4, 0.4], shapes, [1, 16, 256])
    bound = product_bound(PEAKS, "bf16", 16, 2048, 4096).ns
    share = (bound + FLOOR) / product_ns(tables(curves), PEAKS, "bf16", 16, 2048, 4096)
    # Distances 1, 1, √5 and √5 in log2: weights 1, 1, 1/5 and 1/5.
    expected = 0.4 ** ((1 + 0.2 + 0.2) / 2.4) * 0.8 ** (1 / 2.4)
    assert share == pytest.approx(expected)


def test_between_two_measured_m_the_efficiency_is_between_theirs() -> None:
    curves = of_efficiency([0.5], [[1024, 4096]], [16, 64])
    log_ns = curves.log_ns.copy()
    log_ns[0, 1] += np.log(2)  # 0.25 at 64
    changed = made("products", [[1024, 4096]], [16, 64], [0], np.exp(log_ns[:1]))
    bound = product_bound(PEAKS, "bf16", [16, 32, 64], 1024, 4096).ns + changed.floor_ns
    share = bound / product_ns(tables(changed), PEAKS, "bf16", [16, 32, 64], 1024, 4096)
    assert share[1] == pytest.approx(np.sqrt(share[0] * share[2]))


def test_beyond_the_measured_m_time_grows_with_the_work() -> None:
    curves = of_efficiency([0.5], [[1024, 4096]], [1, 16, 256])
    m = np.array([256, 300, 1000, 20_000, 1_000_000])
    times = product_ns(tables(curves), PEAKS, "bf16", m, 1024, 4096)
    assert (np.diff(times) > 0).all()
    bound = product_bound(PEAKS, "bf16", m, 1024, 4096).ns
    assert times == pytest.approx((bound + FLOOR) / 0.5)


def test_beyond_the_measured_shapes_time_grows_with_the_work() -> None:
    shapes = [[1024, 4096], [65536, 65536], [16384, 65536], [65536, 16384]]
    curves = of_efficiency([0.5, 0.6, 0.6, 0.6], shapes, [1, 16])
    sides = [65536, 100_000, 262_144]
    times = [float(product_ns(tables(curves), PEAKS, "bf16", 16, n, 65536)) for n in sides]
    assert times == sorted(times)
    for n, time in zip(sides[1:], times[1:], strict=True):
        assert time > float(product_bound(PEAKS, "bf16", 16, n, 65536).ns)


def test_a_tiny_product_takes_the_floor_over_the_efficiency() -> None:
    shapes = [[1024, 4096], [1024, 2048], [2048, 4096], [2048, 2048]]
    curves = of_efficiency([0.5, 0.5, 0.5, 0.5], shapes, [1, 16])
    assert curves.floor_ns == pytest.approx(FLOOR)
    tiny = product_bound(PEAKS, "bf16", 1, 64, 64).ns
    time = product_ns(tables(curves), PEAKS, "bf16", 1, 64, 64)
    assert time == pytest.approx((tiny + FLOOR) / 0.5)


def test_no_tokens_take_no_time_and_the_result_has_the_tokens_shape() -> None:
    curves = tables(of_efficiency([0.5], [[1024, 4096]], [1, 16]))
    times = product_ns(curves, PEAKS, "bf16", [[0, 1], [2, 0]], 1024, 4096)
    assert times.shape == (2, 2)
    assert times[0, 0] == times[1, 1] == 0
    assert product_ns(curves, PEAKS, "bf16", 3, 1024, 4096).shape == ()


@pytest.mark.parametrize("precision", STAND_INS)
def test_a_precision_that_was_not_measured_takes_bf16_s_efficiency_on_its_own_bound(
    precision: KernelPrecision,
) -> None:
    curves = of_efficiency([0.5], [[1024, 4096]], [1, 16])
    bound = product_bound(PEAKS, precision, 16, 1024, 4096).ns
    time = product_ns(tables(curves), PEAKS, precision, 16, 1024, 4096)
    assert time == pytest.approx((bound + FLOOR) / 0.5)


def test_fp8_takes_the_efficiency_of_fp8_with_block_scales_before_bf16_s() -> None:
    found = tables(
        of_efficiency([0.5], [[1024, 4096]], [1, 16]),
        of_efficiency([0.8], [[1024, 4096]], [1, 16], "fp8_block"),
    )
    bound = product_bound(PEAKS, "fp8", 16, 1024, 4096).ns
    time = product_ns(found, PEAKS, "fp8", 16, 1024, 4096)
    assert time == pytest.approx((bound + FLOOR) / 0.8)
