"""From the beginning of a write to its end: whole or absent, one writer, nothing hidden."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from vsim.traces.faults import InputError
from vsim.traces.writing import FreshFolder, fresh_file, fresh_folder, workspace

from .written import BOTH, KIND, Put, Refused, begin, put_file, put_folder, rows_of, seen


@BOTH
def test_what_came_meanwhile_is_left_alone(put: Put, tmp_path: Path) -> None:
    place = tmp_path / "out"

    def write() -> None:
        with begin(put, place) as fresh:
            if isinstance(fresh, FreshFolder):
                place.mkdir()
                (place / "thesis.tex").write_text("mine")
                fresh.write_summary({})
            else:
                place.write_text("mine")
                fresh.write("x")
            fresh.publish()

    with pytest.raises(InputError, match="did not write"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (place if put is put_file else place / "thesis.tex").read_text() == "mine"


def test_what_came_in_the_last_moment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the former folder and its removal there is time for a file."""
    put_folder(tmp_path / "out")
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        if Path(source) == tmp_path / "out":
            (tmp_path / "out" / "thesis.tex").write_text("mine")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match=r"it holds thesis\.tex"):
        put_folder(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@BOTH
def test_a_block_that_publishes_nothing_changes_nothing(put: Put, tmp_path: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "former"):
        if place.name == "former":
            put(place)
        before = seen(tmp_path)
        with begin(put, place):
            pass
        assert seen(tmp_path) == before


@pytest.mark.parametrize(
    "error", [InputError([]), KeyboardInterrupt(), SystemExit(3), ValueError()]
)
@BOTH
def test_nothing_hidden_is_left_whatever_ends_the_block(
    put: Put, error: BaseException, tmp_path: Path
) -> None:
    place = tmp_path / "a" / "b" / "out"
    if put is put_file:
        place.parent.mkdir(parents=True)
    before = seen(tmp_path)

    def write() -> None:
        with begin(put, place) as fresh:
            half = fresh.path / "steps.arrow" if isinstance(fresh, FreshFolder) else fresh.path
            half.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert seen(tmp_path) == before


def test_a_folder_made_on_the_way_stays_if_somebody_uses_it(tmp_path: Path) -> None:
    def write() -> None:
        with fresh_folder(tmp_path / "a" / "b" / "out", KIND):
            (tmp_path / "a" / "notes.txt").write_text("mine")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["a", "a/notes.txt"]


@BOTH
def test_a_second_writer_is_refused_while_the_first_is_at_work(
    put: Put, tmp_path: Path, refused: Refused
) -> None:
    place = tmp_path / "out"
    with begin(put, place):
        message = refused(put, place)
        assert f"another vsim is writing to it (process {os.getpid()})" in message
    put(place)


def test_many_writers_at_once_leave_one_whole_result(tmp_path: Path) -> None:
    ended: list[str] = []

    def write(rows: int) -> None:
        for _ in range(20):
            try:
                put_folder(tmp_path / "out", rows)
                ended.append("written")
            except InputError as error:
                assert "another vsim is writing to it" in str(error)  # noqa: PT017 - it may succeed
                ended.append("refused")

    threads = [threading.Thread(target=write, args=(rows,)) for rows in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 160
    assert "written" in ended
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pa.ipc.open_file(tmp_path / "out" / "steps.arrow") as file:
        assert file.read_all().num_rows == rows_of(tmp_path / "out")


@BOTH
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EXDEV]
)
@pytest.mark.parametrize("call", ["mkdir", "rename", "replace", "open"])
def test_what_the_system_refuses_is_one_line(
    put: Put, number: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "out")
    before = seen(tmp_path)
    calls: list[object] = []
    real = getattr(os, call)

    def fail(*arguments: object, **more: object) -> object:
        if call == "open" and not Path(str(arguments[0])).name.startswith(".out.vsim-"):
            return real(*arguments, **more)  # a former result is read, too
        calls.append(arguments)
        if call == "rename" and len(calls) > 1:  # only the first: putting back must work
            return real(*arguments, **more)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        done = None
        try:
            put(tmp_path / "out")
            done = "written"
        except InputError as error:
            done = str(error)
    if not calls:
        assert done == "written"  # a file is put in place by one call, a folder by another
        return
    message = f"{tmp_path / 'out'}: cannot be written: {os.strerror(number)}; name another place"
    assert done == message
    assert seen(tmp_path) == before


FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import numpy as np, pyarrow as pa
from vsim.sim.results.output import Result
from vsim.traces.faults import InputError
from vsim.traces.requests import write_requests
from vsim.traces.synth import SynthSpec, synthesise
draws = np.random.Generator(np.random.PCG64(1)).integers(0, 2**60, 100_000)
try:
    if sys.argv[1] == "folder":
        table = pa.table({"x": draws})
        Result({"scenario": "x"}, table, table, None).write(sys.argv[2])
    else:
        spec = SynthSpec.model_validate({"requests": 50_000, "arrivals": {"rate_per_s": 4},
            "prompt_tokens": {0.5: 900, 0.99: 5000}, "output_tokens": {0.5: 100}})
        write_requests(synthesise(spec), sys.argv[2])
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_write_that_the_system_cuts_short_is_one_line(kind: str, tmp_path: Path) -> None:
    """A limit on files' sizes acts in the middle of a write, as a full disk does, for any user."""
    out = tmp_path / "out"
    run = [sys.executable, "-c", FULL, kind, str(out)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == f"{out}: cannot be written: File too large; name another place\n"
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_an_error_about_another_file_is_not_the_output_s(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), fresh_file(tmp_path / "o.json", "curves"):
        (tmp_path / "input").read_text()


@BOTH
def test_a_folder_that_another_program_keeps_locked_is_one_line(
    put: Put, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "_PATIENCE_S", 0.05)
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert "out: cannot be written: Device or resource busy" in refused(put, tmp_path / "out")
    os.close(lock)
    put(tmp_path / "out")


@BOTH
def test_a_file_system_without_locks_takes_results_all_the_same(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "")

    monkeypatch.setattr(fcntl, "flock", flock)
    left = tmp_path / ".out.vsim-0123456789abcdef"  # it may be at work: nobody can tell
    left.mkdir()
    for _ in range(2):
        put(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == [left.name, "out"]
