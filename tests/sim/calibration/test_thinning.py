import numpy as np
import pytest
from tests.sim.timing.kernel_cases import made

from vsim.sim.calibration.compact import PRODUCT_TOKENS, compact, without_lone_peaks


def test_products_keep_all_shapes_and_both_sides_of_a_tile_s_step() -> None:
    tokens = [1, 3, 16, 17, 255, 256, 257, 4352]
    full = made("products", [[64, 64], [768, 32]], tokens, [0], np.full((2, 8, 1), 5000.0))
    thin = compact(full)
    assert thin.shapes.tolist() == full.shapes.tolist()
    assert thin.first.tolist() == [1, 16, 17, 256, 257]
    assert set(thin.first) <= set(PRODUCT_TOKENS)


def test_a_lone_peak_is_left_out_and_a_step_stays() -> None:
    ns = np.array([[4000.0, 9000.0, 4500.0, 4600.0, 9000.0, 9100.0]])[:, :, None]
    found = without_lone_peaks(made("products", [[64, 64]], [1, 2, 4, 8, 16, 32], [0], ns))
    assert np.isnan(found.log_ns[0, :, 0]).tolist() == [False, True, False, False, False, False]


def test_heads_between_powers_of_two_are_left_out_where_their_size_has_others() -> None:
    shapes = [[20, 4, 128, 0], [32, 8, 128, 0], [8, 1, 64, 0], [5, 1, 128, 8192]]
    full = made("decode_attention", shapes, [1], [2, 4, 64], np.full((4, 1, 3), 9000.0))
    thin = compact(full)
    assert thin.shapes.tolist() == [[32, 8, 128, 0], [8, 1, 64, 0], [5, 1, 128, 8192]]
    assert thin.second.tolist() == [2, 64]


@pytest.mark.parametrize(("tensor", "parallel", "kept"), [(8, 8, True), (16, 8, False)])
def test_experts_over_more_gpus_than_64_are_left_out(
    tensor: int, parallel: int, kept: bool
) -> None:
    shapes = [[4096, 1024, 2, 8, 1, 1], [4096, 1024, 2, 8, tensor, parallel]]
    thin = compact(made("experts", shapes, [1], [0], np.full((2, 1, 1), 9000.0)))
    assert len(thin.shapes) == 1 + kept


def test_latents_keep_all_heads_and_no_context_of_a_few_tokens() -> None:
    full = made("decode_latents", [[128, 576, 512]], [1], [2, 4, 8, 16], np.full((1, 1, 4), 9e3))
    thin = compact(full)
    assert thin.shapes.tolist() == [[128, 576, 512]]
    assert thin.second.tolist() == [2, 16]
