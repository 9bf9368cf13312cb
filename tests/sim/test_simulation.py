"""simulate: what it keeps, and where."""

import json
from pathlib import Path

import numpy as np
import pytest

from vsim.sim.results.output import (
    OPERATIONS,
    REQUESTS,
    STEPS,
    SUMMARY,
    WALL_CLOCK_KEYS,
    Result,
)
from vsim.sim.scenario.scenario import Scenario, load_scenario
from vsim.sim.simulation import simulate
from vsim.traces.arrow_io import read_table
from vsim.traces.faults import InputError

FOLDER = Path(__file__).parents[2] / "scenarios"
TABLES = (REQUESTS, STEPS, OPERATIONS)


def quickstart(*overrides: str) -> Scenario:
    return load_scenario(
        FOLDER / "quickstart.yaml",
        ["workload.synth.requests=200", "output.operations=all", *overrides],
    )


@pytest.fixture(scope="module")
def kept() -> Result:
    """A run that keeps its tables."""
    return simulate(quickstart(), base=FOLDER)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The same run into a folder, and the folder; nobody writes there."""
    out = tmp_path_factory.mktemp("run") / "out"
    return simulate(quickstart(), base=FOLDER, out=out), out


def test_a_run_into_a_folder_gives_the_bytes_that_writing_afterwards_gives(
    kept: Result, streamed: tuple[Result, Path], tmp_path: Path
) -> None:
    kept.write(tmp_path / "after")
    result, out = streamed
    for name in TABLES:
        assert (tmp_path / "after" / name).read_bytes() == (out / name).read_bytes()
    written = json.loads((out / SUMMARY).read_text())
    assert written == result.summary
    assert written["write_wall_s"] > 0
    assert written.pop("vsim")["kind"] == "run"
    for key in WALL_CLOCK_KEYS:
        written.pop(key, None)
    assert written == {k: v for k, v in kept.summary.items() if k not in WALL_CLOCK_KEYS}


def test_the_tables_of_a_run_into_a_folder_are_read_from_there(
    kept: Result, streamed: tuple[Result, Path], tmp_path: Path
) -> None:
    result, out = streamed
    assert result.requests.equals(kept.requests)
    assert result.steps.equals(kept.steps)
    assert kept.operations is not None
    assert kept.operations.equals(result.operations)
    result.write(tmp_path / "again")
    for name in (*TABLES,):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_without_steps_there_are_a_summary_and_requests_and_the_rest_is_refused(
    kept: Result, tmp_path: Path
) -> None:
    result = simulate(quickstart("output.operations=none"), base=FOLDER, steps=False)
    assert result.summary["step"] == kept.summary["step"]
    assert result.summary["itl_ms"] == kept.summary["itl_ms"]
    assert result.requests.equals(kept.requests)
    with pytest.raises(ValueError, match=r"kept no steps; call simulate with steps=True"):
        _ = result.steps
    assert result.operations is None
    with pytest.raises(ValueError, match="kept no steps"):
        result.write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_operations_are_refused_where_nothing_keeps_them() -> None:
    with pytest.raises(InputError, match=r"output\.operations: all does nothing where no folder"):
        simulate(quickstart(), base=FOLDER, steps=False)


@pytest.mark.parametrize("wanted", ["transfers", "all"])
def test_operations_are_written_as_their_schema_says(wanted: str, tmp_path: Path) -> None:
    """Copies that take long end after others that started later: their rows, too, have rising ids.

    Little room, so that pages are copied both ways, over links of different speed.
    """
    scenario = quickstart(
        f"output.operations={wanted}", "tiers.0.capacity=3GiB", "tiers.1.capacity=3GiB"
    )
    simulate(scenario, base=FOLDER, out=tmp_path / "out")
    table = read_table(tmp_path / "out" / OPERATIONS, "operations")
    assert table["id"].to_pylist() == list(range(table.num_rows))
    starts, ends = table["submit_ns"].to_numpy(), table["end_ns"].to_numpy()
    assert (np.diff(ends) >= 0).all()
    assert (np.diff(starts) < 0).any(), "none ended out of the order in which it began"


def test_a_run_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    simulate(quickstart(), base=FOLDER, out=tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    late = quickstart("workload.rate_scale=1e-9")
    with pytest.raises(InputError):
        simulate(late, base=FOLDER, out=tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_no_result_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        simulate(quickstart("machine=no-such-machine"), base=FOLDER, out=tmp_path)
