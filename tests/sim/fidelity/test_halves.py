"""Constants fitted on one half of the runs, on made-up times whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from vsim.sim.fidelity.halves import (
    AS_IT_IS,
    FACTORS,
    SHIFTS_NS,
    SLOWDOWNS,
    Speed,
    Tried,
    fit,
    score,
    table,
)

MS = 1e6


def a_run(
    name: str, machine: str, factor: float, later_ns: int, half: int, kernels: float = 1.0
) -> Tried:
    """A run whose host takes `factor` as long, and whose client sees tokens so much later.

    Predicted with host factor f and kernels' k: TTFT 20 ms · f, TPOT 5 ms · k, E2E 120 ms · f.
    """
    speeds = [Speed(host, slowdown) for host in FACTORS for slowdown in SLOWDOWNS]
    predicted = {
        speed: {
            "ttft": np.array([20 * MS * speed.host]),
            "tpot": np.array([5 * MS * speed.kernels]),
            "e2e": np.array([120 * MS * speed.host]),
        }
        for speed in speeds
    }
    measured = {
        "ttft": np.array([20 * MS * factor + later_ns]),
        "tpot": np.array([5 * MS * kernels]),
        "e2e": np.array([120 * MS * factor + later_ns]),
    }
    foretold = dict.fromkeys(measured, 0.1)
    makespan = {speed: speed.host / factor - 1 for speed in speeds}
    least = dict.fromkeys(measured, 0.05)
    return Tried(name, machine, half, measured, predicted, foretold, least, makespan)


def test_what_made_the_runs_is_found_again() -> None:
    runs = [
        a_run("a", "H200", 1.0, SHIFTS_NS[-1], 0, SLOWDOWNS[0]),
        a_run("b", "H100", 1.5, SHIFTS_NS[-1], 0),
    ]
    found = fit(runs)
    assert dict(found.speeds) == {"H100": Speed(1.5), "H200": Speed(1.0, SLOWDOWNS[0])}
    assert found.shift_ns == SHIFTS_NS[-1]
    assert all(score(runs, each, found) == 0 for each in ("ttft", "tpot", "e2e"))


def test_without_a_fit_the_error_is_the_simple_one() -> None:
    run = a_run("a", "H100", 1.25, 0, 0)
    assert score([run], "ttft", AS_IT_IS) == pytest.approx(1 - 1 / 1.25)
    assert score([run], "tpot", AS_IT_IS) == 0


def test_each_half_is_scored_with_what_the_other_gave() -> None:
    """Half 1 is as the profile says, half 2 takes 1.5 times as long: each misses by the ratio."""
    runs = [a_run("a", "H100", 1.0, 0, 0), a_run("b", "H100", 1.5, 0, 1)]
    rows = [[cell.strip() for cell in line.split("|")] for line in table(runs).splitlines()[2:]]
    assert [row[3] for row in rows[:2]] == ["0.0", "50.0"]
    assert [row[3] for row in rows[2:4]] == ["33.3", "33.3"]
    assert [row[7] for row in rows[:4]] == ["+0.0", "+50.0", "-33.3", "-33.3"]
    assert rows[4][3] == "10.0"
    assert rows[6][3:6] == ["5.0", "5.0", "5.0"]


def test_errors_weigh_as_much_as_repeats_agree() -> None:
    """Of two wishes that exclude each other, that of the latency which repeats share wins."""
    run = a_run("a", "H100", 1.0, 0, 0)
    wide = replace(
        run,
        measured_ns={**run.measured_ns, "ttft": np.array([30 * MS])},  # as if the host took 1.5
        foretold={"ttft": 0.5, "tpot": 0.03, "e2e": 0.02},
    )
    assert fit([wide]).speed_of("H100").host == 1.0
    sure = replace(wide, foretold={"ttft": 0.002, "tpot": 0.03, "e2e": 0.02})
    assert fit([sure]).speed_of("H100").host == 1.5
