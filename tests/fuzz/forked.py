"""Commands in forks of one warm process: how each ended, how long it took, how much memory.

Every module is imported and every kernel compiled once; a fork then starts in milliseconds. Memory
is what the fork added to the warm process's own.
"""

import gc
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
        bytes: its largest resident memory, less what this process held when it was forked.
    """

    code: int
    output: str
    errors: str
    seconds: float
    bytes: int


def warm_up(folder: Path) -> None:
    """Import and compile what the commands need, by running each kind once in this process."""
    import vsim_app  # noqa: F401 - imported before the forks

    for command in (
        ["run", str(folder / "scenario.yaml")],
        ["run", str(folder / "attention.yaml")],
        ["bound", str(folder / "placement.yaml")],
        ["bound", str(folder / "stack.yaml")],
    ):
        ended = run_forked(command, folder, warm=True)
        assert ended.code == 0, ended.errors
    gc.collect()
    gc.freeze()  # or a fork's first collection would copy every page of the process


def run_forked(arguments: Sequence[str], folder: Path, warm: bool = False) -> Ended:
    """Run `vsim` with some arguments in a fork, in a folder.

    Args:
        arguments: of the command line, the first is the command.
        folder: what it is run in.
        warm: run it in this process first, so that what it compiles is there for later forks.
    """
    if warm:
        _in_this_process(arguments, folder)
    out, err = folder / ".stdout", folder / ".stderr"
    held = _resident_bytes()  # a fork begins with all of it
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(arguments, folder, out, err)
    status, usage = _wait(child)
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    texts = [path.read_text(errors="replace") for path in (out, err)]
    return Ended(code, *texts, seconds, max(usage.ru_maxrss * 1024 - held, 0))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    """Wait for a fork; its own alarm ends one that takes too long."""
    _, status, usage = os.wait4(child, 0)
    return status, usage


def _in_this_process(arguments: Sequence[str], folder: Path) -> None:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    import vsim_app

    argv, here = sys.argv, Path.cwd()
    sys.argv = ["vsim", *arguments]
    os.chdir(folder)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            vsim_app.main()
    except SystemExit:
        pass
    finally:
        sys.argv = argv
        os.chdir(here)


def _child(arguments: Sequence[str], folder: Path, out: Path, err: Path) -> None:
    """Become the command. Never returns."""
    code = CRASHED
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MOST_S)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for path, number in ((out, 1), (err, 2)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        for number, name in ((1, "stdout"), (2, "stderr")):
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        os.chdir(folder)
        sys.argv = ["vsim", *arguments]
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
    finally:
        os._exit(code)
