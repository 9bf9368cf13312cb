"""Errors of predictions are those that a hand works out."""

import numpy as np
import pytest
from tests.sim.fidelity.tiny import MS, prediction, repeat_of, requests, run_of

from vsim.sim.fidelity.errors import points
from vsim.sim.fidelity.scoring import errors_of, least_error

ASKED = requests(2)  # at 0 and 50 ms, 11 tokens out
REAL = repeat_of(ASKED, [0, 60 * MS], [100 * MS, 150 * MS], [300 * MS, 350 * MS])
# TTFT 100 and 100 ms, TPOT 20 and 20 ms, E2E 300 and 300 ms


def test_a_prediction_of_what_was_measured_has_no_error() -> None:
    errors = errors_of(run_of(REAL), [prediction(ASKED, [0, 60 * MS], [100 * MS, 150 * MS],
                                                 [300 * MS, 350 * MS])])  # fmt: skip
    for latency in errors.latencies.values():
        assert (latency.median, latency.p90, latency.mean, latency.signed) == (0, 0, 0, 0)
    assert errors.makespan_s.signed == 0
    assert [phase.share for phase in errors.phases.values()] == [0, 0, 0]


def test_errors_are_relative_signed_and_request_by_request() -> None:
    # TTFT 50 and 120 ms: -50 % and +20 %; E2E 150 and 360 ms: -50 % and +20 %; TPOT 10 and 24 ms
    ours = prediction(ASKED, [0, 50 * MS], [50 * MS, 170 * MS], [150 * MS, 410 * MS])
    errors = errors_of(run_of(REAL), [ours])
    ttft, tpot, e2e = (errors.latencies[name] for name in ("ttft", "tpot", "e2e"))
    assert ttft.median == pytest.approx(0.35)
    assert ttft.mean == pytest.approx(0.35)
    assert ttft.signed == pytest.approx(-0.15)  # 170 of 200 ms
    assert ttft.measured_ms == {"mean": 100, "p50": 100, "p90": 100, "p99": 100}
    assert ttft.predicted_ms == {"mean": 85, "p50": 50, "p90": 120, "p99": 120}
    assert tpot.measured_ms["mean"] == pytest.approx(20)
    assert tpot.predicted_ms["mean"] == pytest.approx(17)
    assert e2e.p90 == pytest.approx(0.2 + 0.9 * 0.3)
    assert e2e.signed == pytest.approx(-0.15)
    # from 0 to 350 ms, and to 410 ms; 22 tokens
    assert errors.makespan_s.signed == pytest.approx(60 / 350)
    assert errors.output_tokens_per_s.measured == (pytest.approx(22 / 0.35),)
    assert errors.output_tokens_per_s.predicted == (pytest.approx(22 / 0.41),)


def test_phases_carry_the_error_of_e2e_and_add_up_to_it() -> None:
    ours = prediction(ASKED, [0, 50 * MS], [50 * MS, 170 * MS], [150 * MS, 410 * MS])
    errors = errors_of(run_of(REAL), [ours])
    # queue 0 and 10 ms against 0 and 0; prefill 100 and 90 against 50 and 120; decode 200, 200
    # against 100, 240: of 300 ms on average -5, -10, -30
    shares = {name: phase.share for name, phase in errors.phases.items()}
    assert shares == {
        "queue": pytest.approx(-5 / 300),
        "prefill": pytest.approx(-10 / 300),
        "decode": pytest.approx(-30 / 300),
    }
    assert sum(shares.values()) == pytest.approx(errors.latencies["e2e"].signed)


def test_repeats_are_taken_together_and_their_spread_is_a_median_request_s() -> None:
    slower = repeat_of(ASKED, [0, 60 * MS], [120 * MS, 150 * MS], [330 * MS, 350 * MS])
    ours = prediction(ASKED, [0, 60 * MS], [100 * MS, 150 * MS], [300 * MS, 350 * MS])
    errors = errors_of(run_of(REAL, slower), [ours, ours])
    assert errors.requests == 4
    assert errors.latencies["ttft"].count == 4
    # 100 and 120 ms differ by 2 / 11 of their mean, the other two not at all
    assert errors.latencies["ttft"].spread == pytest.approx((20 / 110) / 2)
    assert errors_of(run_of(REAL), [ours]).latencies["ttft"].spread is None


def test_the_spread_compares_each_request_with_itself() -> None:
    # the second repeat's engine took the two requests the other way round
    swapped = requests(2, gap_ns=0)
    first = repeat_of(swapped, [0, 0], [10 * MS, 20 * MS], [30 * MS, 40 * MS])
    turned = swapped.__class__(**{
        **{name: getattr(swapped, name) for name in swapped.__slots__},
        "id": np.array([1, 0]),
    })  # fmt: skip
    second = repeat_of(turned, [0, 0], [20 * MS, 10 * MS], [40 * MS, 30 * MS])
    ours = prediction(swapped, [0, 0], [10 * MS, 20 * MS], [30 * MS, 40 * MS])
    errors = errors_of(run_of(first, second), [ours, ours])
    assert errors.latencies["ttft"].spread == 0


def test_an_answer_of_one_token_has_no_tpot() -> None:
    asked = requests(1, output=1)
    real = repeat_of(asked, [0], [10 * MS], [10 * MS])
    errors = errors_of(run_of(real), [prediction(asked, [0], [20 * MS], [20 * MS])])
    assert set(errors.latencies) == {"ttft", "e2e"}
    assert errors.latencies["e2e"].signed == pytest.approx(1.0)


def test_what_was_not_measured_is_told_apart_from_zero() -> None:
    unknown = repeat_of(ASKED, [-1, -1], [100 * MS, -1], [300 * MS, -1])
    ours = prediction(ASKED, [0, 60 * MS], [100 * MS, 150 * MS], [300 * MS, 350 * MS])
    errors = errors_of(run_of(unknown), [ours])
    assert errors.phases == {}
    assert errors.latencies["ttft"].count == 1
    assert errors.preemptions is None
    assert errors.hbm_hits is None
    assert errors.steps is None


def test_hits_are_points_of_the_prompts_without_requests_that_are_preempted() -> None:
    asked = requests(3)  # prompts of 64 tokens
    times = ([0, 60 * MS, 120 * MS], [100 * MS, 150 * MS, 200 * MS], [300 * MS, 350 * MS, 400 * MS])
    real = repeat_of(
        asked, *times, gpu_hit_tokens=np.array([32, 0, 16]), host_hit_tokens=np.array([0, 16, 0]),
        preemptions=np.array([0, 0, 1]),
    )  # fmt: skip
    ours = prediction(
        asked, *times, hbm_hit_tokens=np.array([32, 16, 64]), preemptions=np.array([0, 0, 2])
    )
    errors = errors_of(run_of(real), [ours])
    assert errors.hbm_hits is not None
    assert errors.lower_hits is not None
    assert points(errors.hbm_hits) == pytest.approx(100 * 16 / 128)
    assert points(errors.lower_hits) == pytest.approx(-100 * 16 / 128)
    assert errors.uncounted_hits == 1
    assert errors.preemptions is not None
    assert (errors.preemptions.measured, errors.preemptions.predicted) == ((1,), (2,))


def test_gaps_between_tokens_are_compared_by_quantiles() -> None:
    gaps = {"mean": 10.0, "p50": 8.0}
    real = repeat_of(ASKED, [0, 0], [1, 1], [2, 2], gaps_ms=gaps)
    ours = prediction(ASKED, [0, 0], [1, 1], [2, 2], gaps_ms={"mean": 9.0, "p50": 10.0, "p99": 1.0})
    assert errors_of(run_of(real), [ours]).gaps == {
        "mean": pytest.approx(-0.1),
        "p50": pytest.approx(0.25),
    }


def test_requests_that_the_prediction_rejects_are_counted() -> None:
    ours = prediction(
        ASKED, [0, -1], [100 * MS, -1], [300 * MS, -1], served=np.array([True, False])
    )
    errors = errors_of(run_of(REAL), [ours])
    assert errors.unserved == 1
    assert errors.latencies["ttft"].count == 1


def test_no_number_for_both_repeats_of_a_request_is_nearer_than_half_of_what_they_are_apart() -> (
    None
):
    other = repeat_of(ASKED, [0, 60 * MS], [80 * MS, 200 * MS], [300 * MS, 350 * MS])
    # TTFT 100 and 80 ms, then 100 and 150
    least = []
    for a, b in ((100, 80), (100, 150)):
        tried = np.linspace(50, 200, 15_001)
        least.append(np.min((np.abs(tried / a - 1) + np.abs(tried / b - 1)) / 2))
    assert least_error("ttft", (REAL, other)) == pytest.approx(np.mean(least), rel=1e-6)
    assert least_error("e2e", (REAL, other)) == 0
    assert least_error("ttft", (REAL,)) is None
