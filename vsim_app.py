"""The `vsim` command: assembles the commands that each package owns, and ends in order.

Exit codes: 0 done, 1 a check failed or nobody read on, 2 the input is wrong, 128 and the signal's
number where one stopped it, so 130 after Ctrl-C.
"""

import codecs
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

if TYPE_CHECKING:
    import typer

_STAND_INS = {"·": "|", "→": ">", "–": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "×": "x",
              "µ": "u", "Σ": "sum", "━": "-"}  # fmt: skip
"""What is printed where a terminal lacks a character; of one letter in tables, to stay aligned."""
_STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_AGAIN_S = 0.05
_OBJECTS_UNTIL_COLLECTED = 50_000  # importing makes that many ten times over, and all of it stays
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Stopped(BaseException):
    """A signal came; no Exception, so that nothing takes it for a fault of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


def main() -> None:
    """Run the command line; a fault in the input ends with exit code 2 and one line a fault."""
    codecs.register_error("vsim-stand-ins", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="vsim-stand-ins")
    from vsim.traces.faults import InputError

    try:
        with _signals_stop(), _rarely_collected():
            _command_line()
    except _Stopped as stopped:
        _say(f"vsim: {_STOPS[signal.Signals(stopped.number)]}")
        _end(128 + stopped.number)
    except InputError as error:
        for fault in error.faults:
            _say(str(fault))
        _end(2)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
        if code == 128 + signal.SIGINT:  # typer caught what was raised in place of a signal
            _say(f"vsim: {_STOPS[signal.SIGINT]}")
        _end(code)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _say(f"vsim: cannot write all of its output: {os.strerror(error.errno or 0)}")
        _end(2)


def _command_line() -> None:
    from typer.main import get_group

    app = application()
    _leave_only(app, sys.argv[1:])
    get_group(app)()


def application() -> "typer.Typer":
    """Every command there is."""
    import typer

    from vsim.hwbackend import commands as hardware_commands
    from vsim.sim.commands import command_line as sim_commands
    from vsim.sim.commands import size_command
    from vsim.traces import commands as trace_commands
    from vsim.traces import record_command

    app = typer.Typer(
        name="vsim",
        help="Simulate, bound and replay tiered GPU memory for LLM KV caches.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    sim_commands.register(app, show=_show_summary, gpu_calibration=_GpuCalibration())
    size_command.register(app, draw=_draw_costs)
    trace_commands.register(app)
    record = record_command.register(app)
    hardware_commands.register(app, record)
    return app


def _leave_only(app: "typer.Typer", words: Sequence[str]) -> None:
    """Forget every command but the one that is called, if there is one of that name.

    What is registered is made into parsers of arguments, of all commands before one of them parses
    anything: longer than a short command takes. And what its arguments are, which its module keeps
    as text, is asked for several times.
    """
    from typer.main import get_command_name

    commands = [
        info for info in app.registered_commands
        if info.callback and (info.name or get_command_name(info.callback.__name__)) in words[:1]
    ]  # fmt: skip
    groups = [info for info in app.registered_groups if info.name in words[:1]]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups
    for info in app.registered_commands:
        if info.callback:
            info.callback.__annotations__ = get_type_hints(info.callback, include_extras=True)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _leave_only(group.typer_instance, words[1:])


def _show_summary(summary: Mapping[str, Any], out: str | None) -> None:
    from vsim.reports.terminal import show_summary

    show_summary(summary, out)


def _draw_costs(results: Mapping[str, Any], runs: Any, path: Path) -> None:
    from vsim.reports.costs import draw_costs

    draw_costs(results, runs, path)


class _GpuCalibration:
    """What `vsim calibrate` asks of the hardware backend, loaded when it does."""

    def measured(self, out: str, *, quick: bool, disk: str | None) -> None:
        from vsim.hwbackend.calibration.command import calibrate_gpu

        calibrate_gpu(out, quick=quick, disk=disk)

    def of_samples(self, file: str, out: str) -> None:
        from vsim.hwbackend.calibration.command import calibrate_from

        calibrate_from(file, out)


def _say(line: str) -> None:
    """Print a line on standard error; a name in it may hold what would break the line."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    with suppress(OSError):  # nobody reads it
        print(shown, file=sys.stderr, flush=True)


def _end(code: int) -> NoReturn:
    """Leave with an exit code, quietly where nobody reads what was printed."""
    try:
        if sys.stdout is not None:  # it is where the caller closed it
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = code or 1
    except OSError as error:
        _discard_output()
        _say(f"vsim: cannot write to standard output: {os.strerror(error.errno or 0)}")
        code = 2
    raise SystemExit(code)


def _discard_output() -> None:
    """Let Python flush what it still holds into nothing when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Print what reads well for a character that the terminal lacks, else its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = [_STAND_INS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking]
    return "".join(shown), error.end


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Look for garbage less often while a block runs: a sixth of the time of a short command."""
    found = gc.get_threshold()
    gc.set_threshold(_OBJECTS_UNTIL_COLLECTED, *found[1:])
    try:
        yield
    finally:
        gc.set_threshold(*found)


@contextmanager
def _signals_stop() -> Iterator[None]:
    """Turn signals that would end the process at once into an exception while a block runs.

    So that whoever holds something, a file half written, is told. What the caller of the process
    set to be ignored stays ignored. Where compiled code makes another error of the exception, as
    numba does, it is still the signal that ended the block. And where the exception comes up in a
    function that can't pass it on, such as one that LLVM calls or a `__del__`, Python reports and
    forgets it: then the signal is sent anew a moment later.
    """
    came: list[int] = []
    again: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise _Stopped(number)

    def forgotten(what: "sys.UnraisableHookArgs") -> None:
        if not isinstance(what.exc_value, _Stopped):
            report(what)
            return
        sending = (threading.main_thread().ident, what.exc_value.number)
        again.append(threading.Timer(_AGAIN_S, signal.pthread_kill, sending))
        again[-1].start()

    main_thread = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in _STOPS if main_thread}
    by_default = (signal.SIG_DFL, signal.default_int_handler)
    ours = [number for number, handler in found.items() if handler in by_default]
    for number in ours:
        signal.signal(number, stop)
    report, sys.unraisablehook = sys.unraisablehook, forgotten
    try:
        yield
    except Exception:
        if came:
            raise _Stopped(came[0]) from None
        raise
    finally:
        sys.unraisablehook = report
        for timer in again:
            timer.cancel()
        for number in ours:
            signal.signal(number, found[number])


if __name__ == "__main__":
    main()
