"""What heats a GPU is what computes faster than it keeps up under its power limit."""

import numpy as np
import pytest

from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import serving
from vsim.sim.timing.step_curves import StepCurves

SIZES = np.array([1.0, 64.0, 512.0, 2048.0, 8192.0])


def curves_of(model: str) -> StepCurves:
    scenario = Scenario.model_validate(
        {"name": "hot", "workload": {"trace": "none"}, "machine": "h200", "model": model,
         "tiers": [{"tier": "hbm"}]}
    )  # fmt: skip
    return serving(scenario).cost.curves


def test_all_arithmetic_of_a_dense_model_heats() -> None:
    curves = curves_of("llama-3.1-8b")
    np.testing.assert_array_equal(curves.heats.at_each(SIZES), curves.arithmetic.at_each(SIZES))
    assert curves.cooling == 0.39


def test_experts_that_are_slower_than_what_is_kept_up_do_not() -> None:
    """Experts of 8,192 tokens of Qwen3-30B-A3B take 30 ms at the peak of 989 TFLOP/s: 48 layers, 8
    experts a token, 3 · 2 · 2,048 · 768 FLOPs each. Products keep up 0.69 of it."""
    curves = curves_of("qwen3-30b-a3b")
    heats, all_of_it = curves.heats.at(8192), curves.arithmetic.at(8192)
    experts_ns = all_of_it - heats
    at_the_peak_ns = 8192 * 48 * 8 * 3 * 2 * 2048 * 768 / 989e12 * 1e9
    assert at_the_peak_ns == pytest.approx(30.0e6, rel=0.01)
    assert experts_ns > at_the_peak_ns / 0.69
    assert 0 < heats < experts_ns
    assert curves.sustained is not None
    assert curves.sustained.at(8192) < heats
