import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from vsim.sim.results.output import Result
from vsim.traces.faults import InputError


def result(rows: int = 3) -> Result:
    table = pa.table({"x": list(range(rows))})
    return Result({"scenario": "by hand", "engine_wall_s": 1.0}, table, table, None)


def test_a_result_folder_holds_the_summary_and_the_tables(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    written = result().write(out)
    assert sorted(p.name for p in out.iterdir()) == [
        "requests.arrow",
        "steps.arrow",
        "summary.json",
    ]
    assert json.loads((out / "summary.json").read_text()) == written
    assert written["write_wall_s"] > 0
    with pa.ipc.open_file(out / "requests.arrow") as file:
        assert file.read_all()["x"].to_pylist() == [0, 1, 2]
        assert file.schema.metadata[b"vsim.kind"] == b"request_results"
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_former_result_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result(3).write(out)
    result(5).write(out)
    with pa.ipc.open_file(out / "requests.arrow") as file:
        assert file.read_all().num_rows == 5
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    result().write(tmp_path)
    assert (tmp_path / "summary.json").exists()


def test_a_folder_that_holds_anything_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    result().write(tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"it holds thesis\.tex"):
        result().write(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_arrow_files_without_a_summary_are_no_former_result(tmp_path: Path) -> None:
    (tmp_path / "requests.arrow").write_bytes(b"a trace of mine")
    with pytest.raises(InputError, match=r"no summary\.json"):
        result().write(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        result().write(tmp_path / "out")
    with pytest.raises(InputError, match="no folder that can be written to"):
        result().write(tmp_path / "out" / "below")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    unwritable = Result({"scenario": "x", "engine_wall_s": float("nan")}, *[result().steps] * 2,
                        None)  # fmt: skip
    with pytest.raises(ValueError, match="not JSON compliant"):
        unwritable.write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import pyarrow as pa
from vsim.sim.results import output
table = pa.table({"x": [1]})
rename = os.rename
calls = []
def die(*arguments):
    calls.append(arguments)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*arguments)
os.rename = die
output.Result({"scenario": "x"}, table, table, None).write(sys.argv[1])
"""


@pytest.mark.parametrize("moment", [1, 2])
def test_a_killed_write_leaves_a_whole_folder_or_none_and_the_next_clears_up(
    tmp_path: Path, moment: int
) -> None:
    """Killed before its first rename, the former result stands; before its second, none does."""
    out = tmp_path / "out"
    result(7).write(out)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out), str(moment)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.vsim-*"))) >= 1
    if moment == 1:
        with pa.ipc.open_file(out / "requests.arrow") as file:
            assert file.read_all().num_rows == 7
    else:
        assert not out.exists()
    result(4).write(out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_folder_of_a_run_that_still_writes_is_not_cleared(tmp_path: Path) -> None:
    import fcntl

    busy = tmp_path / ".out.vsim-0123"
    busy.mkdir()
    lock = os.open(busy, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    result().write(tmp_path / "out")
    assert busy.exists()
    os.close(lock)
    result().write(tmp_path / "out")
    assert not busy.exists()
