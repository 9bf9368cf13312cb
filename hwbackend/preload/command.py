"""What `vsim preload` and `vsim record allocations` do."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsim.hwbackend.preload.building import (
    NotBuiltError,
    build_library,
    cached_library,
    find_library,
)
from vsim.hwbackend.preload.environment import Mode, Preload, preloaded
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.units import parse_bytes

_SPILL: Final = ("peer", "host")
_MODES: Final[tuple[Mode, ...]] = ("record", "manage")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How `vsim preload run` runs a command.

    Args:
        mode: record or manage.
        spill: where blocks may lie that find no room on their device.
        pool_bytes: free memory kept at most on a device; None is the library's own choice.
        out: an Arrow file for the trace, or None.
    """

    mode: Mode
    spill: tuple[str, ...]
    pool_bytes: int | None
    out: Path | None


def read_run_options(
    mode: str, spill: str | None, pool: str | None, out: Path | None
) -> RunOptions:
    """Check the options of `vsim preload run`, and refuse those that could do nothing.

    Raises:
        InputError: with every fault found.
    """
    faults: list[Fault] = []
    known = next((each for each in _MODES if each == mode), None)
    if known is None:
        faults.append(Fault("--mode", f"'{mode}' is no mode; write record or manage"))
    words = tuple(spill.split(",")) if spill is not None else ()
    if any(word not in _SPILL for word in words) or len(set(words)) < len(words):
        faults.append(Fault("--spill", f"'{spill}' is not peer, host, or both with a comma"))
    pool_bytes = None
    if pool is not None:
        try:
            pool_bytes = parse_bytes(pool)
        except ValueError as error:
            faults.append(Fault("--pool", str(error)))
    if known == "record":
        if spill is not None:
            faults.append(Fault("--spill", "moves nothing when only recording; use --mode manage"))
        if pool is not None:
            faults.append(Fault("--pool", "there is none when only recording; use --mode manage"))
        if out is None:
            faults.append(
                Fault("--out", "is missing: --mode record does nothing but write a trace")
            )
    if faults or known is None:
        raise InputError(faults)
    return RunOptions(known, words, pool_bytes, out)


def build(out: Path | None) -> Path:
    """Build the library into a file, or where `vsim preload run` finds it."""
    try:
        return build_library(cached_library() if out is None else out)
    except NotBuiltError as error:
        refuse("vsim preload build", str(error))
    except OSError as error:
        refuse("--out" if out else "vsim preload build", f"can't write {error.filename}: {error}")


def run_command(options: RunOptions, command: Sequence[str]) -> int:
    """Run a command under the library; this process becomes it where no trace is wanted.

    Returns:
        The command's exit code.

    Raises:
        InputError: there is no built library, no such command, or no place for the trace.
    """
    how = Preload(_built(), options.mode, options.spill, options.pool_bytes)
    program = _found(command)
    if options.out is None:
        sys.stdout.flush()
        os.execve(program, list(command), preloaded(how))
    return record(how, command, options.out)


def record_allocations(command: Sequence[str], out: Path) -> int:
    """Run a command and write its allocations; see `record`."""
    return record(Preload(_built(), "record"), command, out)


def record(how: Preload, command: Sequence[str], out: Path) -> int:
    """Run a command under the library and write the trace of its allocations.

    The trace is written however the command ends. It is of one process, that with most events;
    of others only what they took is said.

    Returns:
        The command's exit code; 128 and the signal's number where one ended it.
    """
    from vsim.hwbackend.preload.balance import balance
    from vsim.hwbackend.preload.events import read_events
    from vsim.hwbackend.preload.recording import allocations_of
    from vsim.hwbackend.preload.shown import shown_logs
    from vsim.traces.arrow_io import Provenance, write_table
    from vsim.traces.writing import fresh_file

    program = _found(command)
    with fresh_file(out, "allocations", option="--out") as fresh, _log_folder() as folder:
        code = _run(program, command, preloaded(replace(how, log=folder)))
        logs = read_events(folder)
        main = max(logs, key=lambda log: len(log.events), default=None)
        trace = None if main is None else allocations_of(main)
        if main is None or trace is None or not trace.num_rows:
            refuse(
                "vsim record allocations",
                f"`{command[0]}` made no call that allocates GPU memory (exit code {code}); no "
                "trace is written",
            )
        found = balance(main)
        extra = {
            "command": " ".join(command),
            "mode": how.mode,
            "complete": "yes" if main.ended and not main.torn and not main.lost else "no",
            "taken_bytes": str(found.taken_bytes),
            "freed_bytes": str(found.freed_bytes),
            "released_bytes": str(found.released_bytes),
            "live_at_end_bytes": str(found.live_bytes),
        }
        provenance = Provenance("recorded by libvsim_preload", extra=extra)
        write_table(trace, fresh, "allocations", provenance)
    for line in shown_logs(main, logs):
        print(line, file=sys.stderr)
    return code


def _built() -> Path:
    found = find_library()
    if found is None:
        refuse("vsim preload", "the library is not built; run `vsim preload build` first")
    return found


def _found(command: Sequence[str]) -> str:
    program = shutil.which(command[0])
    if program is None:
        refuse("COMMAND", f"there is no program `{command[0]}`; write it after --")
    return program


@contextmanager
def _log_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vsim-preload-") as folder:
        yield Path(folder)


def _run(program: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run it to its end; what would stop this process meanwhile is passed on to it."""
    process = subprocess.Popen(list(command), executable=program, env=dict(environment))
    handlers = {
        # The terminal sends Ctrl-C to both; to be told to end is told only to this one.
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        signal.SIGTERM: signal.signal(
            signal.SIGTERM, lambda number, frame: process.send_signal(number)
        ),
    }
    try:
        code = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
