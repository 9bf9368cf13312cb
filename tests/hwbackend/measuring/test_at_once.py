import pytest

from vsim.hwbackend.measuring.at_once import overlapping


def test_only_calls_that_lay_wholly_beside_the_other_load_count() -> None:
    one = [(0.0, 10.0), (10.0, 20.0), (20.0, 31.0), (31.0, 40.0), (40.0, 50.0)]
    other = [(5.0, 9.0), (9.0, 15.0), (15.0, 22.0), (22.0, 45.0)]
    kept = overlapping(one, other)
    assert kept.one == (10.0, 11.0, 9.0)
    assert kept.other == (4.0, 6.0, 7.0, 23.0)


def test_loads_that_hardly_met_are_no_measurement() -> None:
    one = [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    other = [(25.0, 26.0), (26.0, 27.0), (27.0, 28.0)]
    with pytest.raises(ValueError, match="0 and 3 calls lay beside each other"):
        overlapping(one, other)
