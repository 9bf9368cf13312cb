"""Figures as they are printed: three digits, never an exponent, the unit that fits."""

import pytest

from vsim.traces import printed
from vsim.traces.units import format_bandwidth, format_bytes, format_duration, short


@pytest.mark.parametrize(
    ("count", "table", "sentence"),
    [
        (0, "0 B", "0 B"),
        (512, "512 B", "512 B"),
        (0.5, "0.500 B", "0 B"),
        (1.5 * 2**30, "1.50 GiB", "1.5 GiB"),
        (10 * 2**30, "10.0 GiB", "10 GiB"),
        (1022 * 2**20, "1,022 MiB", "1,022 MiB"),
        (12345 * 2**40, "12,345 TiB", "12,345 TiB"),
        (-3 * 2**20, "-3.00 MiB", "-3 MiB"),
    ],
)
def test_a_size_has_three_digits_and_no_exponent(count: float, table: str, sentence: str) -> None:
    assert printed.size(count) == table
    assert format_bytes(count) == sentence


def test_rates_and_durations_have_no_exponent() -> None:
    assert format_bandwidth(3.35e12) == "3.35 TB/s"
    assert format_bandwidth(1234e12) == "1,234 TB/s"
    assert format_duration(12_000) == "12 us"
    assert format_duration(86_400 * 10**9) == "86,400 s"
    assert printed.milliseconds(9_999.4) == "9,999 ms"
    assert printed.milliseconds(10_000) == "10.0 s"
    assert printed.milliseconds(None) == printed.ABSENT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100.0"),
        (100.4, "100"),
        (0.05, "0.0500"),
    ],
)
def test_digits_are_three_but_where_rounding_makes_one_more(value: float, text: str) -> None:
    assert printed.digits(value) == text


def test_parameters_and_durations_take_the_unit_that_fits() -> None:
    assert printed.parameters(8_030_261_248) == "8.03B"
    assert printed.parameters(999_999) == "999,999"
    assert printed.duration(999) == "999 ns"
    assert printed.duration(1_234_567) == "1.235 ms"
    assert printed.duration(123_456_789_000) == "123.5 s"


def test_what_is_tiny_has_no_exponent_either() -> None:
    assert printed.digits(0.000012345) == "0.0000123"
    assert printed.digits(-1e-9) == "-0.00000000100"
    assert short(0.0) == "0"
    assert short(0.000012345) == "0.0000123"
    assert short(10.0) == "10"
    assert short(1000.0) == "1,000"


def test_seconds_have_four_digits_and_are_counted_where_they_are_many() -> None:
    assert printed.seconds(0.1505) == "150.5 ms"
    assert printed.seconds(12_345.6) == "12,346 s"
    assert printed.bound(12_349.9) == "12,340 s"
    assert printed.bound(0.99999) == "999.9 ms"
