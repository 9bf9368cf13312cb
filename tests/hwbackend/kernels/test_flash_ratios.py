"""The tables of a comparison say which is faster, and leave out what was not measured."""

from vsim.hwbackend.kernels.flash_ratios import Row, ratios


def row(requests: int, context: int, ours: float, flash: float, plain: float = 1.0) -> Row:
    times = [(us, us, us) for us in (ours, flash, plain)]
    return Row("an H100", requests, context, 4, times[0], times[1], times[2], 1e-3, {4: flash})


def test_a_ratio_above_one_is_a_shape_where_ours_is_faster() -> None:
    assert row(1, 1024, 2.0, 3.0).ratio == 1.5


def test_shapes_that_were_not_measured_are_dashes() -> None:
    lines = list(ratios([row(1, 1024, 2.0, 3.0), row(2, 2048, 2.0, 5.0)]))
    assert lines[1].split() == ["requests", "1,024", "2,048"]
    assert lines[2].split() == ["1", "1.500", "–"]
    assert lines[3].split() == ["2", "–", "2.500"]


def test_the_second_table_is_over_a_plain_kernel() -> None:
    lines = list(ratios([row(1, 1024, 2.0, 3.0, plain=1.6)]))
    assert lines[-1].split() == ["1", "1.250"]


def test_what_is_slower_is_named_with_its_times() -> None:
    lines = list(ratios([row(1, 1024, 2.0, 3.0), row(8, 2048, 4.0, 3.5, plain=3.0)]))
    slower = [line for line in lines if line.startswith("slower")]
    assert slower == ["slower: 8 x 2,048: 4.00 us against 3.50 of 4 splits; a plain kernel 3.00"]
