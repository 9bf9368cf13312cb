"""What interrupted and killed processes leave, and what the next writer makes of it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vsim.traces.writing import fresh_folder

from .written import BOTH, KIND, Put, Refused, put_file, put_folder, rows_of, seen

HELD = """
import sys, time
from vsim.traces.writing import FolderKind, fresh_file, fresh_folder
begun = (fresh_file(sys.argv[2], "curves") if sys.argv[1] == "file"
         else fresh_folder(sys.argv[2], FolderKind("run", "summary.json")))
with begun as fresh:
    (fresh.path if sys.argv[1] == "file" else fresh.path / "steps.arrow").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("kind", "put"), [("file", put_file), ("folder", put_folder)])
def test_the_next_writer_clears_what_a_killed_one_left(
    kind: str, put: Put, tmp_path: Path, refused: Refused
) -> None:
    place = tmp_path / "out"
    run = [sys.executable, "-c", HELD, kind, str(place)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert f"(process {process.pid})" in refused(put, place)
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 1, "it was killed"
    put(place)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_former_result_that_a_killed_writer_had_moved_is_put_back(tmp_path: Path) -> None:
    put_folder(tmp_path / "out", 7)
    left = tmp_path / ".out.vsim-0123456789abcdef"
    left.mkdir()
    (left / "written-by-vsim").write_text("1\n")
    (tmp_path / "out").rename(left / "former")
    with fresh_folder(tmp_path / "out", KIND):
        pass  # a run that fails
    assert rows_of(tmp_path / "out") == 7
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name",
    [".out.vsim-notes", ".out.vsim-", ".out.vsim-0123.bak", ".out2.vsim-0123", "out.vsim-0123"],
)
@BOTH
def test_hidden_things_of_other_people_stay(put: Put, name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "written-by-vsim").write_text("1\n")
    put(tmp_path / "out")
    assert (tmp_path / name / "written-by-vsim").exists()


@BOTH
def test_a_workspace_s_name_alone_makes_none(put: Put, tmp_path: Path) -> None:
    (tmp_path / ".out.vsim-0123456789abcdef").mkdir()
    (tmp_path / ".out.vsim-0123456789abcdef" / "thesis.tex").write_text("mine")
    (tmp_path / ".out.vsim-1123456789abcdef").write_text("mine")
    (tmp_path / ".out.vsim-2123456789abcdef").symlink_to(tmp_path / ".out.vsim-0123456789abcdef")
    before = seen(tmp_path)
    put(tmp_path / "out")
    after = seen(tmp_path)
    assert {name: after[name] for name in before} == before


INTERRUPTED = """
import os, shutil, signal, sys
from pathlib import Path
from vsim.traces.writing import FolderKind, fresh_folder
call, number, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
module = shutil if call == "rmtree" else os
real, calls = getattr(module, call), []
def interrupt(*arguments, **more):
    done = real(*arguments, **more)
    calls.append(arguments)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGINT)
    return done
setattr(module, call, interrupt)
with fresh_folder(place, FolderKind("run", "summary.json")) as fresh:
    fresh.write_summary({"rows": 9})
    fresh.publish()
"""


@pytest.mark.parametrize(
    ("call", "number"), [("mkdir", 1), ("mkdir", 2), ("rename", 1), ("rename", 2), ("rmtree", 1)]
)
def test_an_interrupt_at_any_moment_leaves_a_whole_folder_and_nothing_hidden(
    call: str, number: int, tmp_path: Path
) -> None:
    put_folder(tmp_path / "out", 7)
    run = [sys.executable, "-c", INTERRUPTED, call, str(number), str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert rows_of(tmp_path / "out") == (7 if call == "mkdir" else 9)
