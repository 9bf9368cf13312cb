import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made

from vsim.sim.calibration.from_cache import raised

# At 1e12 bytes a second: weights of 0.8 GB, 32 MB and 8 MB, and what they take, ns.
SHAPES = [[20_000, 20_000], [4000, 4000], [2000, 2000]]
READ_NS = np.array([800_000.0, 32_000.0, 8_000.0])


def products(ratios: list[float]) -> np.ndarray:
    ns = READ_NS * np.array(ratios)
    changed, count = raised(made("products", SHAPES, [1], [0], ns[:, None, None]), PEAKS)
    return np.append(np.exp(changed.log_ns[:, 0, 0]) / READ_NS, count)


def test_weights_are_read_no_faster_than_those_that_fit_no_cache() -> None:
    assert products([1.25, 0.4, 1.1]) == pytest.approx([1.25, 1.25, 1.25, 2])


def test_what_takes_longer_is_left_as_it_is() -> None:
    assert products([1.25, 1.3, 9.0]) == pytest.approx([1.25, 1.3, 9.0, 0])


def test_what_fits_no_cache_is_left_as_it_is_however_fast() -> None:
    assert products([0.9, 0.5, 1.1]) == pytest.approx([0.9, 1.0, 1.1, 1])  # of the peak, at most


def test_kv_of_a_window_is_what_the_window_holds() -> None:
    shapes = [[8, 8, 128, 0], [8, 8, 128, 1024]]
    # 64 requests of 8,192 tokens: 2.1 GB of KV, and 268 MB of it in windows.
    ns = [[[3_000_000.0]], [[200_000.0]]]
    attention = made("decode_attention", shapes, [64], [8192], ns, variant="full")
    changed, count = raised(attention, PEAKS)
    kv_ns = 64 * 1024 * 2 * 8 * 128 * 2 / 1000
    ratio = 3_000_000 / (8 * kv_ns)
    assert count == 1
    assert np.exp(changed.log_ns[1, 0, 0]) == pytest.approx(kv_ns * ratio)


def test_prompts_and_experts_are_left_as_they_are() -> None:
    prompts = made("prefill_attention", [[8, 8, 128, 0]], [1], [8192], [[[1.0]]], variant="full")
    assert raised(prompts, PEAKS) == (prompts, 0)
