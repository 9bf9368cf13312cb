"""Turns: one program in every mode at once, their rounds in turn on one core of the host.

Two runs of a program that calls the driver all the time differ by as much as 13 % on a shared
host, with the library or without: the second has another core, another time and other addresses.
Here a process of each mode is up and waits, and they do the same rounds in turn, in a drawn order,
on a core that is nobody else's (`measuring/full_speed.py`). One of them does two, in one of which
it records while its calls only pass in the other (`switch.py`): these differ by nothing else.

Between any two rounds stands a plain loop; a round beside a slow one is left out: by its loops and
not by what it took. `passing` over `plain` says how much two processes differ by themselves.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.plain_loop import SLOW, PlainLoop, loop_us
from vsim.hwbackend.preload.environment import Mode
from vsim.hwbackend.preload.events import read_events
from vsim.hwbackend.preload.trial.bench import Bench, Ran, last_json, ran_of
from vsim.hwbackend.preload.trial.rounds import WORD
from vsim.hwbackend.preload.trial.switch import Switch

MODES: Final[Mapping[str, Mode | None]] = {
    "plain": None, "record": "record", "switched": "record", "manage": "manage",
}  # fmt: skip
"""The processes: `switched` records in one of its two rounds."""
WAYS: Final = ("plain", "record", "manage", "passing", "recording")
"""The rounds of a cycle; the last two are those of `switched`, one behind the other."""
SWITCHED: Final = frozenset(("passing", "recording"))
FEWEST_PLAYS: Final = 5
"""From so many plays on their processes are told apart from what the library does to them."""
_LONGEST_S: Final = 240
_RESAMPLES: Final = 4_000


class StoppedError(RuntimeError):
    """A program ended, or said something else, in the midst of its turns."""


@dataclass(frozen=True, slots=True)
class Round:
    """One process's round.

    Args:
        wall_s: seconds that it took.
        cpu_s: seconds that the process was busy in them.
        loop_us: the slower one of the plain loops before and behind it.
    """

    wall_s: float
    cpu_s: float
    loop_us: float


@dataclass(frozen=True, slots=True)
class Played:
    """What the processes of one play did.

    Args:
        cycles: rounds by way, a cycle after the other; those beside a slow loop are left out.
        left_out: how many rounds were.
        rans: how each process ended, by name.
    """

    cycles: list[dict[str, Round]]
    left_out: int
    rans: dict[str, Ran]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of ratios, its 95 % interval by the bootstrap, and how many there are."""

    middle: float
    low: float
    high: float
    count: int


class Player:
    """One process that does a round when it is told to; state: the process.

    Args:
        command: the program; it gets the word that makes it wait.
        environment: its own.
        errors: a file for what it says on standard error.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], errors: Path) -> None:
        self._errors = errors
        self._began = time.perf_counter()
        with errors.open("w") as sink:
            self._process = subprocess.Popen(
                [*command, WORD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=sink, text=True,
            )  # fmt: skip
        self._watch = threading.Timer(_LONGEST_S, self._process.kill)
        self._watch.start()
        self._core = -1

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until its first rounds are done."""
        while (line := self._line()) != "ready\n":
            if not line:
                raise StoppedError(f"it ended before its first turn: {self._said()}")

    def round(self, number: int, core: int) -> tuple[float, float]:
        """Have it do a round on a core; seconds, and seconds that it was busy."""
        if core != self._core:
            self._move(core)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
            found = json.loads(self._line())
        except (OSError, ValueError) as error:
            raise StoppedError(f"it ended in a turn ({error}): {self._said()}") from None
        return found["wall_s"], found["cpu_s"]

    def end(self, way: str, log: Path) -> Ran:
        """Have it come to its end, and read what it said and what was recorded."""
        out, _ = self._process.communicate()
        self._watch.cancel()
        wall_s = time.perf_counter() - self._began
        code = self._process.returncode
        return ran_of(way, code, last_json(out), wall_s, self._said(), read_events(log))

    def close(self) -> None:
        """End the process if it still runs."""
        self._watch.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _said(self) -> str:
        return self._errors.read_text(errors="replace")[-600:]

    def _move(self, core: int) -> None:
        self._core = core
        for thread in os.listdir(f"/proc/{self._process.pid}/task"):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread), {core})


def play(
    bench: Bench, command: Sequence[str], variables: Mapping[str, str], cycles: int, seed: int,
    *, most_s: float,
) -> Played:  # fmt: skip
    """Run a program in every mode, cycles of their rounds in turn.

    Args:
        bench: where the library is.
        command: the program; it knows the word `turns`.
        variables: of its environment, besides.
        cycles: so many at most.
        seed: of the order of rounds.
        most_s: seconds after which no cycle is begun, at least one was.

    Raises:
        StoppedError: one of them did not do its rounds.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        players = {}
        for name, mode in MODES.items():
            log = folder / name
            log.mkdir()
            environment = bench.environment(
                mode, log=log if mode else None, variables={**variables, "OMP_NUM_THREADS": "1"}
            )
            players[name] = Player(command, environment, folder / f"{name}.txt")
            stack.callback(players[name].close)
        for player in players.values():
            player.wait_ready()
        table = _Table(players, Switch(bench.library, players["switched"].pid), seed)
        speed = stack.enter_context(FullSpeed(PlainLoop().slowness, most_s, SLOW))
        end = time.monotonic() + most_s
        while len(table.cycles) < cycles and (not table.cycles or time.monotonic() < end):
            speed.sample(table.cycle)
        rans = {name: player.end(name, folder / name) for name, player in players.items()}
    return _played(table.cycles, rans)


class _Table:
    """The players, and the rounds that they did; state: these and where the next one is drawn."""

    def __init__(self, players: Mapping[str, Player], switch: Switch, seed: int) -> None:
        self.cycles: list[dict[str, Round]] = []
        self._players, self._switch = players, switch
        self._draw = Generator(PCG64(seed))

    def cycle(self) -> None:
        """Have each way's round done once, in a drawn order: the same work in all."""
        both = ["passing", "recording"]
        self._draw.shuffle(both)
        order = [["plain"], ["record"], ["manage"], both]
        core = min(os.sched_getaffinity(0))
        loop = loop_us()
        found = {}
        for index in self._draw.permutation(len(order)):
            for way in order[index]:
                if way in both:
                    self._switch.record(way == "recording")
                player = self._players["switched" if way in both else way]
                wall_s, cpu_s = player.round(len(self.cycles), core)
                before, loop = loop, loop_us()
                found[way] = Round(wall_s, cpu_s, max(before, loop))
        self.cycles.append(found)


def _played(cycles: list[dict[str, Round]], rans: dict[str, Ran]) -> Played:
    slow = SLOW * min(each.loop_us for cycle in cycles for each in cycle.values())
    kept = [{way: each for way, each in cycle.items() if each.loop_us <= slow} for cycle in cycles]
    left_out = sum(map(len, cycles)) - sum(map(len, kept))
    return Played(kept, left_out, rans)


def ratio_of(
    cycles: Sequence[Mapping[str, Round]], way: str, base: str, kind: str = "wall_s"
) -> Ratio | None:
    """One way's rounds over another's of the same cycle, where both are there; None if none are.

    Kinds: `wall_s` and `cpu_s`.
    """
    values = np.array([
        getattr(cycle[way], kind) / getattr(cycle[base], kind)
        for cycle in cycles if way in cycle and base in cycle
    ])  # fmt: skip
    if not len(values):
        return None
    return _middle(values, len(values))


def ratio_of_plays(
    plays: Sequence[Sequence[Mapping[str, Round]]], way: str, base: str, kind: str = "wall_s"
) -> Ratio | None:
    """The same of several plays' cycles, each of processes of its own.

    Two processes differ by themselves, and no number of their rounds tells by how much. So where
    there are `FEWEST_PLAYS` or more and the two ways are different processes, what is drawn again
    are plays: the median of their medians, and its interval by the bootstrap over plays. Else
    rounds are, all plays together.
    """
    if {way, base} == SWITCHED or len(plays) < FEWEST_PLAYS:
        return ratio_of([cycle for cycles in plays for cycle in cycles], way, base, kind)
    found = [each for cycles in plays if (each := ratio_of(cycles, way, base, kind)) is not None]
    if not found:
        return None
    values = np.array([each.middle for each in found])
    return _middle(values, sum(each.count for each in found))


def _middle(values: NDArray[np.float64], count: int) -> Ratio:
    chosen = Generator(PCG64(0)).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[chosen], axis=1), (0.025, 0.975))
    return Ratio(float(np.median(values)), float(low), float(high), count)
