"""Promises: how they are written, and when a run keeps them."""

from fractions import Fraction

import pytest

from vsim.sim.goodput.slo import METRICS, STATISTICS, Objective, Slo, parse_slo
from vsim.traces.faults import InputError

LATENCY = {metric: dict.fromkeys(STATISTICS, None) | {"p50": 10, "p99": 30} for metric in METRICS}


def faults(text: str) -> list[str]:
    with pytest.raises(InputError) as raised:
        parse_slo(text)
    return [str(fault) for fault in raised.value.faults]


def test_statistics_are_read_with_their_units_and_written_back() -> None:
    slo = parse_slo(" ttft_p99 = 2s, tpot_p99=50ms,itl_mean=20us ")
    assert slo == Slo(
        (
            Objective("ttft", "p99", 2_000_000_000),
            Objective("tpot", "p99", 50_000_000),
            Objective("itl", "mean", 20_000),
        )
    )
    assert slo.text() == "ttft_p99=2s,tpot_p99=50ms,itl_mean=20us"
    assert parse_slo(slo.text()) == slo


def test_attainment_is_a_share_exactly() -> None:
    assert parse_slo("ttft=2s,attainment=99.9%").attainment == Fraction(999, 1000)
    assert parse_slo("ttft=2s,attainment=0.9").attainment == Fraction(9, 10)
    text = "ttft=2s,tpot=50ms,attainment=99.9%"
    assert parse_slo(text).text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft_p99", "--slo: 'ttft_p99' is no promise; write it like ttft_p99=2s"),
        ("ttft_p98=2s", "'ttft_p98' is unknown (did you mean 'ttft_p9"),
        ("latency=2s", "'latency' is unknown"),
        ("ttft_p99=2", "ttft_p99: '2' is not a duration; write it like 12us"),
        ("ttft_p99=0s", "no request takes 0"),
        ("ttft_p99=1s,ttft_p99=2s", "ttft_p99 is there twice"),
        ("ttft=2s", "ttft is a limit of each request, and nothing says how many must keep it"),
        ("attainment=99%", "attainment counts requests that keep limits, and there is none"),
        ("ttft=2s,attainment=0", "attainment: '0' is no share"),
        ("ttft=2s,attainment=101%", "attainment: '101%' is no share"),
        ("itl=50ms,attainment=99%", "itl is of gaps, of which a request has many"),
        ("", "'' is no promise"),
    ],
)
def test_what_is_no_promise_is_refused_with_what_to_write(text: str, words: str) -> None:
    assert words in faults(text)[0]


def test_all_faults_are_shown_at_once() -> None:
    assert len(faults("ttft_p99=2,tpot_p98=1s,x")) == 3


def test_a_limit_is_kept_at_its_very_nanosecond_and_not_one_above() -> None:
    for limit, met in ((30, True), (29, False)):
        slo = Slo((Objective("ttft", "p99", limit),))
        assert [kept.met for kept in slo.kept(LATENCY, 0, 5)] == [met]


def test_what_is_infinitely_late_keeps_no_limit() -> None:
    (kept,) = Slo((Objective("e2e", "p95", 1 << 60),)).kept(LATENCY, 0, 5)
    assert not kept.met
    assert kept.strain == float("inf")


def test_attainment_is_kept_from_exactly_its_share_on() -> None:
    slo = parse_slo("ttft=2s,attainment=99%")
    assert [slo.kept(LATENCY, good, 200)[0].met for good in (197, 198, 199)] == [False, True, True]


def test_strain_of_attainment_is_the_share_of_the_misses_allowed() -> None:
    (kept,) = parse_slo("ttft=2s,attainment=99%").kept(LATENCY, 196, 200)
    assert kept.strain == pytest.approx(2.0)  # 2 % miss it, 1 % may


def test_a_request_is_good_within_the_largest_limit_of_each_metric() -> None:
    slo = parse_slo("ttft_p50=1s,ttft_p99=3s,tpot_mean=40ms,itl_p99=9ms")
    assert slo.limits_ns == {"ttft": 3_000_000_000, "tpot": 40_000_000}
