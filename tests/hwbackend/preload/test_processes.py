"""Forks, execs, kills, and programs that never touch the driver."""

import subprocess
from pathlib import Path

import pytest
from tests.hwbackend.preload.building import Bench

from vsim.hwbackend.preload.balance import balance
from vsim.hwbackend.preload.events import Op, read_events

MODES = ("record", "manage")


def test_a_program_that_never_touches_the_driver_is_untouched(bench: Bench, tmp_path: Path) -> None:
    done = bench.run(["/bin/true"], "record", log=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    code = "import threading, subprocess; print(subprocess.run(['/bin/echo', 'a']).returncode)"
    plain = bench.run(["python3", "-c", code], None)
    under = bench.run(["python3", "-c", code], "manage", log=tmp_path)
    assert (plain.stdout, plain.stderr) == (under.stdout, under.stderr) == ("a\n0\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_before_the_first_call_makes_two_recordings(
    bench: Bench, mode: str, tmp_path: Path
) -> None:
    done = bench.run([bench.program("processes"), "before"], mode, log=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    logs = read_events(tmp_path)
    assert [balance(log).taken_bytes for log in logs] == [3000, 3000]
    assert len({log.pid for log in logs}) == 2
    assert all(log.ended and balance(log).live_bytes == 0 for log in logs)


@pytest.mark.parametrize("mode", MODES)
def test_a_child_forked_later_is_told_what_it_is_told_without_the_library(
    bench: Bench, mode: str, tmp_path: Path
) -> None:
    command = [bench.program("processes"), "after"]
    assert bench.run(command, None).returncode == 0
    done = bench.run(command, mode, log=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    parent, child = read_events(tmp_path)
    assert child.parent == parent.pid
    assert balance(parent).live_bytes == 0
    assert (balance(child).allocations, balance(child).failures) == (0, 1)


@pytest.mark.parametrize("mode", MODES)
def test_forks_amid_other_threads_calls_hang_nobody(
    bench: Bench, mode: str, tmp_path: Path
) -> None:
    done = bench.run([bench.program("processes"), "threads"], mode, log=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    (log,) = read_events(tmp_path)
    assert balance(log).allocations == 3 * 3000
    assert balance(log).live_bytes == 0


@pytest.mark.parametrize("mode", MODES)
def test_exec_begins_a_new_recording(bench: Bench, mode: str, tmp_path: Path) -> None:
    done = bench.run([bench.program("processes"), "exec"], mode, log=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    logs = read_events(tmp_path)
    assert sorted(balance(log).taken_bytes for log in logs) == [3000, 3000, 5000]
    assert sum(log.ended for log in logs) == 2  # exec ends nothing in order


def test_a_killed_program_s_events_are_all_there(bench: Bench, tmp_path: Path) -> None:
    done = bench.run([bench.program("processes"), "killed"], "record", log=tmp_path)
    assert done.returncode == -9
    (log,) = read_events(tmp_path)
    assert (log.ended, log.torn, log.lost) == (False, 0, 0)
    assert int((log.events["op"] == Op.MALLOC).sum()) == 20001  # to the very last
    assert balance(log).live == 10001


def test_a_full_disk_loses_events_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = bench.run([bench.program("processes"), "before"], "record", log=missing)
    assert done.returncode == 0
    assert "takes no more; events are lost from here on" in done.stderr


def test_a_closed_standard_error_and_closed_files_harm_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    program = bench.program("processes")
    shell = f"exec 2>&- 3>&- 4>&- 5>&-; {program} before"
    done = bench.run(["sh", "-c", shell], "record", log=tmp_path)
    assert done.returncode == 0
    assert len(read_events(tmp_path)) == 2


def test_spawned_python_workers_are_recorded_each(bench: Bench, tmp_path: Path) -> None:
    code = (
        "import multiprocessing, subprocess, sys\n"
        "def work(program): return subprocess.run([program, 'before']).returncode\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        print(pool.map(work, [sys.argv[1]] * 2))\n"
    )
    script = tmp_path / "spawning.py"
    script.write_text(code)
    logs = tmp_path / "logs"
    logs.mkdir()
    done = bench.run(["python3", script, bench.program("processes")], "record", log=logs)
    assert done.stdout == "[0, 0]\n", done.stderr
    assert [balance(log).taken_bytes for log in read_events(logs)] == [3000] * 4


def test_a_log_that_is_cut_off_says_what_is_missing(bench: Bench, tmp_path: Path) -> None:
    subprocess.run(
        [bench.program("processes"), "before"], check=True,
        env={**bench.environment(), "LD_PRELOAD": str(bench.library),
             "VSIM_PRELOAD_MODE": "record", "VSIM_PRELOAD_LOG": str(tmp_path)},
    )  # fmt: skip
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[64 * 2 - 4 : 64 * 2] = bytes(4)  # the first event was not finished
    path.write_bytes(data)
    torn = {log.torn for log in read_events(tmp_path)}
    assert torn == {0, 1}
