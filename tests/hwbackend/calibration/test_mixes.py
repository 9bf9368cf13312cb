import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from vsim.hwbackend.calibration.form_fit import fit_numbers
from vsim.hwbackend.calibration.mixes import (
    FORMS,
    AttendForm,
    Mixes,
    choose_form,
    fit_form,
    score_forms,
)

GB = 1e9
BYTES = 32 * 8192 * 4096.0
# Measured on two H200, 2026-11-20: 32 requests of 8,192 tokens, share of pages on the peer, GB/s.
PEER = {
    0.0: 4025, 0.02: 4071, 0.04: 4176, 0.06: 4238, 0.07: 4246, 0.08: 4154, 0.10: 3356, 0.20: 1790,
    1.0: 373,
}  # fmt: skip
HOST = {0.0: 4025, 0.004: 4040, 0.012: 3734, 0.020: 2425, 0.051: 986}


def measured(rates: dict[float, int]) -> Mixes:
    share = np.array(list(rates))
    taken_us = BYTES / (np.array(list(rates.values())) * GB) * 1e6
    return Mixes(share, taken_us[0] * (1 - share), share * BYTES, taken_us)


def synthetic(truth: AttendForm, noise: float = 0.0) -> Mixes:
    draw = np.random.Generator(np.random.PCG64(7))
    share = np.tile([0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0], 3)
    size = np.repeat([0.5, 1.0, 2.0], 8) * BYTES
    hbm_us = (1 - share) * size / (4025 * GB) * 1e6
    mixes = Mixes(share, hbm_us, share * size, np.ones(len(share)))
    noisy = truth.us(mixes) * np.exp(noise * draw.standard_normal(len(share)))
    return Mixes(share, hbm_us, share * size, noisy)


TRUTHS = [
    AttendForm("slowest", 373 * GB),
    AttendForm("p-norm", 354 * GB, 6.0),
    AttendForm("waiting", 373 * GB, math.inf, 0.03, 0.15),
    AttendForm("both", 373 * GB, 8.0, 0.03, 0.15),
]


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.form)
def test_a_form_s_numbers_are_found_again(truth: AttendForm) -> None:
    found = fit_form(truth.form, {"peer": synthetic(truth)})["peer"]
    assert found.bytes_per_s == pytest.approx(truth.bytes_per_s, rel=1e-3)
    assert found.hbm_waits == pytest.approx(truth.hbm_waits, abs=0.01)
    assert found.slow_waits == pytest.approx(truth.slow_waits, abs=0.01)
    if truth.form in ("p-norm", "both"):
        assert found.exponent == pytest.approx(truth.exponent, rel=0.02)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rates", [PEER, HOST], ids=["peer", "host"])
def test_scipy_finds_no_better_numbers(form: str, rates: dict[float, int]) -> None:
    """By what the form itself predicts, from several starts, and with slopes by differences."""
    mixes = measured(rates)
    waits = FORMS[form].waits
    exponents = [2.0, 6.0, 18.0] if FORMS[form].exponent else [math.inf]
    column = mixes.hbm_us, mixes.slow_bytes, mixes.taken_us
    costs, numbers = fit_numbers([column], exponents, waits=waits)
    for exponent, cost, (rate, *both) in zip(exponents, costs[0], numbers[0].tolist(), strict=True):

        def off(x: np.ndarray, exponent: float = exponent) -> np.ndarray:
            made = AttendForm(form, x[0] * GB, exponent, *(x[1:] if waits else (0.0, 0.0)))
            return np.log(made.us(mixes) / mixes.taken_us)

        assert (off(np.array([rate, *both])) ** 2).sum() / 2 == pytest.approx(cost, rel=1e-9)
        for wait in (0.02, 0.2):
            start = [float(rate), *[wait] * (2 * waits)]
            bounds = ([rate / 2] + [0.0] * (2 * waits), [rate * 2] + [1.0] * (2 * waits))
            assert cost <= least_squares(off, start, bounds=bounds).cost * (1 + 1e-6)


@pytest.mark.parametrize("truth", TRUTHS[:3], ids=lambda truth: truth.form)
def test_noise_of_one_percent_moves_the_numbers_little(truth: AttendForm) -> None:
    found = fit_form(truth.form, {"peer": synthetic(truth, noise=0.01)})["peer"]
    assert found.bytes_per_s == pytest.approx(truth.bytes_per_s, rel=0.01)
    assert found.slow_waits == pytest.approx(truth.slow_waits, abs=0.03)
    if truth.form == "p-norm":
        assert found.exponent == pytest.approx(truth.exponent, rel=0.15)


@pytest.mark.parametrize("truth", TRUTHS[:3], ids=lambda truth: truth.form)
def test_the_form_that_made_the_mixes_is_chosen(truth: AttendForm) -> None:
    assert choose_form(score_forms({"peer": synthetic(truth, 0.003)})).form == truth.form


def test_mixes_of_two_h200_are_predicted_within_two_percent_and_not_by_the_norm() -> None:
    scores = {score.form: score for score in score_forms({"peer": measured(PEER)})}
    assert set(scores) == set(FORMS)
    chosen = choose_form(list(scores.values()))
    assert chosen.form == "waiting"
    assert chosen.rms < 0.02
    assert chosen.rms < 0.5 * scores["p-norm"].rms
    assert chosen.fitted["peer"].bytes_per_s == pytest.approx(373 * GB, rel=0.02)


def test_one_tier_alone_takes_its_own_time() -> None:
    form = AttendForm("both", 373 * GB, 8.0, 0.03, 0.15)
    alone = Mixes(np.array([0.0, 1.0]), np.array([100.0, 0.0]), np.array([0.0, BYTES]), np.ones(2))
    assert form.us(alone).tolist() == [100.0, BYTES / 373e9 * 1e6]


def test_all_slow_places_have_one_exponent() -> None:
    truth = AttendForm("p-norm", 354 * GB, 5.0)
    other = AttendForm("p-norm", 50 * GB, 5.0)
    found = fit_form("p-norm", {"peer": synthetic(truth), "host": synthetic(other)})
    assert found["peer"].exponent == found["host"].exponent == pytest.approx(5.0, rel=0.02)
    assert found["host"].bytes_per_s == pytest.approx(50 * GB, rel=1e-2)


def test_the_form_is_chosen_by_the_errors_of_all_places() -> None:
    scores = score_forms({"peer": measured(PEER), "host": measured(HOST)})
    chosen = choose_form(scores)
    assert set(chosen.fitted) == set(chosen.errors) == {"peer", "host"}
    assert chosen.rms <= 1.1 * min(score.rms for score in scores)
    assert chosen.rms < 0.03
