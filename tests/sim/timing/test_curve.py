"""Curves and grids give what straight lines between their knots give."""

import numpy as np
import pytest

from vsim.sim.timing.curve import Curve, Grid, curve, line, product

from .drawn_curves import drawn_curve, drawn_grid

BENT = Curve(np.array([2.0, 4.0, 10.0]), np.array([100.0, 300.0, 360.0]))
# over rows 1, 3 and columns 10, 20, 40
PLANES = Grid(
    np.array([1.0, 3.0]),
    np.array([10.0, 20.0, 40.0]),
    np.array([[5.0, 15.0, 75.0], [9.0, 39.0, 139.0]]),
)


def test_a_curve_holds_its_knots() -> None:
    assert [BENT.at(x) for x in (2, 4, 10)] == [100, 300, 360]


def test_between_knots_lies_a_straight_line() -> None:
    # 100 a unit at first, then 10
    assert [BENT.at(x) for x in (2.5, 3, 3.75, 5, 7, 9.5)] == [150, 200, 275, 310, 330, 355]


def test_beyond_the_last_knot_the_last_line_goes_on() -> None:
    assert [BENT.at(x) for x in (11, 20, 1_010)] == [370, 460, 10_360]


def test_before_the_first_knot_its_own_time_holds() -> None:
    assert [BENT.at(x) for x in (0, 1.999, -5)] == [100, 100, 100]


def test_a_grid_holds_its_pairs() -> None:
    found = [[PLANES.at(row, column) for column in (10, 20, 40)] for row in (1, 3)]
    assert found == PLANES.ns.tolist()


def test_a_grid_is_straight_along_each_side_between_its_pairs() -> None:
    # along columns: 10 at (1, 15), 24 at (3, 15); a quarter of the way from one to the other
    assert PLANES.at(1, 15) == 10
    assert PLANES.at(3, 15) == 24
    assert PLANES.at(1.5, 15) == 13.5
    # 45 at (1, 30), 89 at (3, 30)
    assert PLANES.at(2, 30) == 67


def test_beyond_a_grid_s_last_pairs_the_last_plane_goes_on() -> None:
    # rows: from 15 to 39 in two, 12 each; columns: 3 and 5 each
    assert PLANES.at(5, 20) == 15 + 4 * 12
    assert PLANES.at(1, 60) == 75 + 20 * 3
    # (1, 60) is 135 and (3, 60) is 139 + 20 · 5 = 239: 52 a row
    assert PLANES.at(7, 60) == 135 + 6 * 52


def test_before_a_grid_s_first_pairs_their_own_time_holds() -> None:
    assert PLANES.at(0, 0) == PLANES.at(-1, 10) == PLANES.at(1, 3) == 5
    assert PLANES.at(0, 15) == 10
    assert PLANES.at(1.5, 0) == 6


def test_a_line_is_exact_for_whole_numbers_behind_any_offset() -> None:
    # a knot at 1 would make 2,022,399.9999999998 of the second
    found = line(3_276.8, 384_000.0)
    assert [found.at(x) for x in (0, 500, 10**6)] == [384_000, 2_022_400, 3_277_184_000]
    assert line(0.0, 7.5).at(12) == 7.5


def test_a_product_is_the_product() -> None:
    found = product(0.25)
    for row, column in ((0, 9), (1, 1), (3, 7), (240, 1_163), (10**6, 10**6)):
        assert found.at(row, column) == 0.25 * row * column


def test_a_tabulated_function_is_itself_at_its_knots() -> None:
    found = curve(lambda x: x**2, [1.0, 2.0, 8.0])
    assert [found.at(x) for x in (1, 2, 8, 5)] == [1, 4, 64, 34]


@pytest.mark.parametrize("seed", range(50))
def test_a_drawn_curve_is_what_numpy_interpolates(seed: int) -> None:
    """Between the ends; behind them, the last two knots' own line."""
    draw = np.random.Generator(np.random.PCG64(seed))
    found = drawn_curve(draw, 1_000.0, 1e6)
    for x in draw.uniform(0.0, found.knots[-1], 50):
        assert found.at(x) == pytest.approx(np.interp(x, found.knots, found.ns), rel=1e-12)
    slope = (found.ns[-1] - found.ns[-2]) / (found.knots[-1] - found.knots[-2])
    beyond = found.knots[-1] + 77.0
    assert found.at(beyond) == pytest.approx(found.ns[-1] + 77.0 * slope, rel=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_a_drawn_grid_s_row_is_a_curve_between_the_rows_at_its_knots(seed: int) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    found = drawn_grid(draw, 200.0, 10_000.0, 1e6)
    for _ in range(20):
        row = draw.uniform(0.0, 2 * found.rows[-1])
        column = draw.uniform(0.0, 2 * found.columns[-1])
        along = [Curve(found.columns, ns).at(column) for ns in found.ns]
        expected = Curve(found.rows, np.array(along)).at(row)
        assert found.at(row, column) == pytest.approx(expected, rel=1e-12)


def test_flat_forms_hold_sizes_then_knots_then_times() -> None:
    assert BENT.flat().tolist() == [3, 2, 4, 10, 100, 300, 360]
    assert PLANES.flat().tolist() == [2, 3, 1, 3, 10, 20, 40, 5, 15, 75, 9, 39, 139]


@pytest.mark.parametrize("seed", range(20))
def test_many_columns_at_once_are_each_to_the_bit(seed: int) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    grid = drawn_grid(draw, 3_000.0, 50_000.0, 1e7)
    row, columns = draw.uniform(-10, 4e3), draw.uniform(-10, 1e5, 50)
    columns[:5] = grid.columns[0]
    assert grid.at_each(row, columns).tolist() == [grid.at(row, column) for column in columns]
