import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made

from vsim.sim.calibration.held_out import scored
from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.products import product_bound

TOKENS = [1, 16, 256, 4096]
SIDES = [256, 512, 1024, 2048, 4096, 8192]
SHAPES = [[n, k] for n in SIDES for k in SIDES]


def products(share: float, odd: float | None = None) -> Curves:
    """Products of one efficiency; `odd` is that of a single shape."""
    floor = 2000.0
    ns = np.stack([
        (product_bound(PEAKS, "bf16", TOKENS, n, k).ns + floor) / share for n, k in SHAPES
    ])  # fmt: skip
    if odd is not None:
        ns[14] *= share / odd
    return made("products", SHAPES, TOKENS, [0], ns[:, :, None])


def test_shapes_that_follow_the_scheme_are_predicted_without_being_there() -> None:
    (score,) = scored(PEAKS, [products(0.8)])
    assert score.rows == len(SHAPES) * len(TOKENS)
    assert score.shapes == len(SHAPES)
    # The floor of a table is its least time, so the scheme is not exact even here.
    assert score.held_out[0] < 0.03
    assert score.as_shipped == pytest.approx((0, 0), abs=1e-9)


def test_a_shape_that_is_unlike_its_neighbours_is_seen_when_it_is_left_out() -> None:
    odd = products(0.8, odd=0.2)
    (score,) = scored(PEAKS, [odd])
    assert score.as_shipped == pytest.approx((0, 0), abs=1e-9)
    (plain,) = scored(PEAKS, [products(0.8)])
    assert score.held_out[1] > 2 * plain.held_out[1]


def test_all_windows_of_a_head_shape_and_all_splits_of_a_model_are_left_out_together() -> None:
    # Two head shapes, each with a full and a windowed curve of its own speed: predicted from each
    # other, never from their own other window.
    shapes = [[8, 1, 64, 128], [8, 1, 64, 256], [16, 2, 64, 128], [16, 2, 64, 256]]
    ns = np.array([10_000.0, 10_000.0, 80_000.0, 80_000.0])[:, None, None]
    (score,) = scored(PEAKS, [made("decode_attention", shapes, [1], [2], ns, variant="window")])
    assert score.held_out[0] > 0.8


def test_the_same_measurements_give_the_same_scores() -> None:
    assert list(scored(PEAKS, [products(0.7, 0.3)])) == list(scored(PEAKS, [products(0.7, 0.3)]))


def test_kernels_that_have_no_shapes_to_leave_out_are_not_scored_and_progress_is_told() -> None:
    told: list[str] = []
    reduce = made("all_reduce", [[2]], [1024], [0], [[[4000.0]]], variant="graph")
    one = made("products", [[64, 64]], [1], [0], [[[4000.0]]])
    assert list(scored(PEAKS, [reduce, one], told.append)) == []
    assert told == ["products bf16"]
