"""The compiled look-up of times gives what `Curve.at` and `Grid.at` give, to the last bit."""

from dataclasses import fields, replace

import numpy as np
import pytest
from tests.sim.timing.drawn_curves import drawn_curves

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.entry import world
from vsim.sim.engine.filling import TIMES
from vsim.sim.engine.looking_up import curve_at, grid_at
from vsim.sim.engine.state import State
from vsim.sim.timing.curve import Curve, Floats, Grid
from vsim.sim.timing.step_curves import StepCurves

from .conftest import make_requests, make_state
from .round_machine import COST, PAGES_OF_10, pages, round_machine


@borrowing_kernel
def compiled_curve(place: int, x: float, address: int) -> float:
    """See `curve_at`."""
    return curve_at(world(address), place, x)


@borrowing_kernel
def compiled_grid(place: int, row: float, column: float, address: int) -> float:
    """See `grid_at`."""
    return grid_at(world(address), place, row, column)


def state_of(curves: StepCurves) -> State:
    tiers = [{"tier": "hbm", "capacity": pages(10)}]
    cost = replace(COST, measured=curves)
    return make_state(make_requests([0], [1], [1]), tiers, round_machine(), cost=cost,
                      **PAGES_OF_10)  # fmt: skip


def numbers(draw: np.random.Generator, knots: Floats) -> list[float]:
    """The knots, their neighbours, and numbers between them, before the first, and beyond."""
    near = [np.nextafter(knots, -np.inf), knots, np.nextafter(knots, np.inf)]
    drawn = [draw.uniform(0.0, knots[-1], 20), knots[-1] * draw.uniform(1.0, 1e4, 5)]
    whole = draw.integers(0, int(knots[-1]) + 2, 20).astype(np.float64)
    found: list[float] = np.concatenate([[0.0], *near, *drawn, whole]).tolist()
    return found


@pytest.mark.parametrize("seed", range(30))
def test_compiled_look_ups_equal_the_reference_to_the_last_bit(seed: int) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    curves = drawn_curves(draw, windows=seed % 2 == 1)
    state = state_of(curves)
    for name in TIMES:
        place, found = int(state.control[f"times_{name}"]), getattr(curves, name)
        if found is None:
            assert place == -1
        elif isinstance(found, Curve):
            for x in numbers(draw, found.knots):
                assert compiled_curve(place, x, state.address) == found.at(x), (name, x)
        else:
            assert isinstance(found, Grid)
            for row in numbers(draw, found.rows)[::3]:
                for column in numbers(draw, found.columns)[::3]:
                    compiled = compiled_grid(place, row, column, state.address)
                    assert compiled == found.at(row, column), (name, row, column)


def test_the_engine_looks_up_every_curve_that_there_is() -> None:
    """Those of steps of prompts alone are curves of the same names, found behind the others; those
    of servers in lockstep are looked up by what steps them together.
    """
    kinds = {field.name: str(field.type) for field in fields(StepCurves)}
    assert kinds.pop("prompts") == "StepCurves | None"
    assert "JointCurves" in kinds.pop("joint")
    assert "Curve" in kinds.pop("padding")  # `padded` adds it to `products`
    kinds["heats"] = kinds.pop("heating")  # all arithmetic where no part of it is told apart
    assert set(TIMES) == {name for name, kind in kinds.items() if "float" not in kind}
