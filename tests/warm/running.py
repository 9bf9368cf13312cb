"""`vsim` in forks of one warm process, each of them a process of its own that starts at once.

Starting anew costs seconds of imports and of loading kernels. What a test says of how Python itself
starts, of closed streams for one, needs a process that does.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.warm.client import Call

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Warm:
    """The warm process.

    Args:
        path: its socket.
        folder: holds a `vsim` that calls it, to go first in a `PATH`.
    """

    path: str
    folder: Path

    def start(
        self, arguments: Sequence[str], folder: Path, stdout: int, stderr: int,
        environment: Mapping[str, str] | None = None,
    ) -> Call:  # fmt: skip
        """Start a command; its output goes to these descriptors."""
        with open(os.devnull) as nothing:
            return Call(
                self.path, list(arguments), (nothing.fileno(), stdout, stderr), str(folder),
                {**os.environ, **(environment or {})},
            )  # fmt: skip

    def run(
        self, arguments: Sequence[str], folder: Path, stdout: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Done:  # fmt: skip
        """Run a command to its end; what it prints is kept, or goes to a descriptor."""
        out, err = self.folder / "out", self.folder / "err"
        with out.open("w+b") as kept, err.open("w+b") as errors:
            to = kept.fileno() if stdout is None else stdout
            code = self.start(arguments, folder, to, errors.fileno(), environment).wait()
            kept.seek(0)
            errors.seek(0)
            return Done(code, kept.read(), errors.read())


@contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    """Start the warm process, and end it afterwards."""
    path = f"{folder}/s"
    vsim = folder / "vsim"
    call = shlex.join([sys.executable, "-SE", str(HERE / "client.py"), path])
    vsim.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    vsim.chmod(0o755)
    server = [sys.executable, str(HERE / "server.py"), path]
    with subprocess.Popen(
        server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Warm(path, folder)
        process.stdin.close()
        assert process.wait() == 0
