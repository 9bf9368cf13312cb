"""Bench: programs run as they are, with and without the library, and what they printed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vsim.hwbackend.preload.balance import Balance, balance, peak_reserved
from vsim.hwbackend.preload.environment import Mode, Preload, preloaded
from vsim.hwbackend.preload.events import Op, ProcessLog, read_events

FOLDER: Final = Path(__file__).parent
_LONGEST_S: Final = 100


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a program.

    Args:
        mode: plain, record or manage.
        code: its exit code; 124 where it took too long.
        said: the JSON of its last line, {} if there was none.
        wall_s: seconds from its start to its end.
        balance: of the recording, where one was made.
        did: how often the library did what, by name, in a recording.
        took_s: seconds that those took together.
        reserved: the most bytes that the library had of the device, and of other places.
        error: the last of what it wrote to standard error.
    """

    mode: str
    code: int
    said: dict[str, Any]
    wall_s: float
    balance: Balance | None = None
    did: dict[str, int] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)
    error: str = ""
    reserved: dict[str, int] = field(default_factory=dict)


class Bench:
    """Where programs are built and run.

    Args:
        out: the folder for what is built.
        library: the built library, which programs are run with.
        repeats: how often a program is run in each mode.
        only: of unmodified programs, those whose name has one of these words; all without any.
        play_s: seconds that programs do rounds in turn, once they are up.
    """

    def __init__(
        self, out: Path, library: Path, repeats: int, only: tuple[str, ...] = (),
        play_s: float = 45.0,
    ) -> None:  # fmt: skip
        self.repeats, self.play_s = repeats, play_s
        self.only = only
        self._out = out
        self._kept: dict[str, np.ndarray[tuple[int], np.dtype[np.void]]] = {}
        self.library = library.resolve()
        self._built = out.resolve() / "built"
        self._built.mkdir(exist_ok=True)

    def machine(self) -> str:
        """Name the GPU, its memory and its driver."""
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version"]
        if shutil.which(query[0]) is None:
            return "no nvidia-smi"
        done = subprocess.run(
            [*query, "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def gpus(self) -> int:
        """How many GPUs there are."""
        return len(self.machine().splitlines()) if shutil.which("nvidia-smi") else 0

    def built(self, source: str) -> list[str]:
        """Compile a program of this folder, once; the command that runs it."""
        target = self._built / Path(source).stem
        if not target.exists():
            nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
            tool = [nvcc, "-O2", "-arch=native"] if source.endswith(".cu") else ["gcc", "-O2"]
            subprocess.run([*tool, "-o", str(target), str(FOLDER / source), "-ldl"], check=True)
        return [str(target)]

    def python(self, source: str, *words: str) -> list[str]:
        """The command that runs a Python program of this folder."""
        return [sys.executable, str(FOLDER / source), *words]

    def environment(
        self, mode: Mode | None, *, spill: tuple[str, ...] = (), log: Path | None = None,
        pool_bytes: int | None = None, variables: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, str]:  # fmt: skip
        """A program's environment; without the library where `mode` is None."""
        base = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **variables}
        base.pop("LD_PRELOAD", None)
        if mode is None:
            return base
        return preloaded(Preload(self.library, mode, spill, pool_bytes, log), base)

    def run(
        self, command: list[str], mode: Mode | None, *, spill: tuple[str, ...] = (),
        record: bool = True, pool_bytes: int | None = None, keep: str | None = None,
        variables: Mapping[str, str] = MappingProxyType({}), longest_s: int = _LONGEST_S,
    ) -> Ran:  # fmt: skip
        """Run a command once, without the library where `mode` is None; keep events by a name."""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) if record else None
            environment = self.environment(
                mode, spill=spill, log=log, pool_bytes=pool_bytes, variables=variables
            )
            begin = time.perf_counter()
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False,
                    timeout=longest_s,
                )  # fmt: skip
                code, out, error = done.returncode, done.stdout, done.stderr
            except subprocess.TimeoutExpired:
                code, out, error = 124, "", f"took more than {longest_s} s"
            wall_s = time.perf_counter() - begin
            logs = read_events(Path(folder))
        if keep is not None and logs:
            self._kept[keep] = _main(logs).events
            np.savez_compressed(self._out / "preload-events.npz", allow_pickle=False, **self._kept)
        return ran_of(mode or "plain", code, last_json(out), wall_s, error, logs)


def ran_of(
    mode: str, code: int, said: dict[str, Any], wall_s: float, error: str, logs: list[ProcessLog]
) -> Ran:
    """What came of a run, with the recording of its process that did most."""
    if not logs:
        return Ran(mode, code, said, wall_s, error=error[-600:])
    main = _main(logs)
    did, took_s = _did(main)
    return Ran(
        mode, code, said, wall_s, balance(main), did, took_s, error[-600:], peak_reserved(main)
    )


def _main(logs: list[ProcessLog]) -> ProcessLog:
    return max(logs, key=lambda log: len(log.events))


def last_json(text: str) -> dict[str, Any]:
    """The last line that is an object, {} if there is none."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                return {"unreadable": line[:200]}
            return found
    return {}


def _did(log: ProcessLog) -> tuple[dict[str, int], dict[str, float]]:
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    for op in Op:
        chosen = log.events[log.events["op"] == op]
        if len(chosen):
            counts[op.name.lower()] = len(chosen)
            times[op.name.lower()] = round(float(chosen["duration_ns"].sum()) / 1e9, 6)
    return counts, times
