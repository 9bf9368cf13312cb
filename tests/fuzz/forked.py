"""Commands in forks of one warm process: how each ended, how long it took, how much memory.

Every module is imported and every kernel compiled once. To fork, and to copy the pages that a fork
writes to, takes longer than most commands: so a fork runs several, one after another. Memory is
what the fork has added so far to the warm process's own. Where it dies, the command that it was at
is to blame, and another fork goes on behind that.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_S = 30
MOST_BYTES = 3 << 29
CRASHED = 70


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit code; `CRASHED` after an exception that nobody caught, negative for a signal.
        output: what it printed on standard output.
        errors: what it printed on standard error.
        seconds: how long it took on the wall.
        bytes: the largest resident memory so far, less what this process held when it was forked.
    """

    code: int
    output: str
    errors: str
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A command line to run.

    Args:
        arguments: the first is the command.
        folder: what it is run in.
    """

    arguments: Sequence[str]
    folder: Path

    @property
    def prints_to(self) -> tuple[Path, Path]:
        """Files of what it prints, and of its errors."""
        return self.folder / ".stdout", self.folder / ".stderr"

    def ended(self, code: int, seconds: float, added_bytes: int) -> Ended:
        """How it ended, with what it printed."""
        out, err = (path.read_text(errors="replace") for path in self.prints_to)
        return Ended(code, out, err, seconds, max(added_bytes, 0))


def warm_up(folder: Path) -> None:
    """Import and compile what the commands need, by running each kind once in this process."""
    import vsim_app  # noqa: F401 - imported before the forks

    for arguments in (
        ["run", "scenario.yaml"],
        ["run", "attention.yaml"],
        ["bound", "placement.yaml"],
        ["bound", "stack.yaml"],
    ):
        job = Job(arguments, folder)
        _in_this_process(job)
        (ended,) = run_forked([job])
        assert ended.code == 0, ended.errors
    gc.collect()
    gc.freeze()  # or a fork's first collection would copy every page of the process


def run_forked(jobs: Sequence[Job]) -> list[Ended]:
    """Run commands one after another in a fork; in further ones where commands end their fork."""
    found: list[Ended] = []
    while len(found) < len(jobs):
        found += _in_a_fork(jobs[len(found) :])
    return found


def _in_a_fork(jobs: Sequence[Job]) -> list[Ended]:
    """Run commands until the fork ends: all of them, or up to the one that it died of."""
    held = _resident_bytes()  # a fork begins with all of it
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(jobs, writing)
    os.close(writing)
    found: list[Ended] = []
    begun = time.monotonic()
    with os.fdopen(reading) as lines:
        for job, line in zip(jobs, lines, strict=False):
            code, seconds, peak = json.loads(line)
            found.append(job.ended(code, seconds, peak - held))
            begun = time.monotonic()
    status, usage = _wait(child)
    if len(found) < len(jobs):
        code = os.waitstatus_to_exitcode(status) or CRASHED
        seconds = time.monotonic() - begun
        found.append(jobs[len(found)].ended(code, seconds, usage.ru_maxrss * 1024 - held))
    return found


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    """Wait for a fork; its own alarm ends one that takes too long."""
    _, status, usage = os.wait4(child, 0)
    return status, usage


def _in_this_process(job: Job) -> None:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    import vsim_app

    argv, here = sys.argv, Path.cwd()
    sys.argv = ["vsim", *job.arguments]
    os.chdir(job.folder)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            vsim_app.main()
    except SystemExit:
        pass
    finally:
        sys.argv = argv
        os.chdir(here)


def _child(jobs: Sequence[Job], told: int) -> None:
    """Run commands, and tell of each when it has ended. Never returns."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for job in jobs:
            started = time.monotonic()
            for path in job.prints_to:
                path.touch()
            signal.alarm(MOST_S)
            code = _become(job)
            signal.alarm(0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            line = json.dumps([code, time.monotonic() - started, peak])
            os.write(told, f"{line}\n".encode())
    finally:
        os._exit(0)


def _become(job: Job) -> int:
    """Run a command as its own process would, and return its exit code."""
    code = CRASHED
    try:
        for path, number, name in zip(job.prints_to, (1, 2), ("stdout", "stderr"), strict=True):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        os.chdir(job.folder)
        sys.argv = ["vsim", *job.arguments]
        import vsim_app

        try:
            vsim_app.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it
        traceback.print_exc()
        sys.stderr.flush()
        code = CRASHED
    return code
