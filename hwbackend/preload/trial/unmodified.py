"""Programs that know nothing of the library, in every mode: results, recordings, and times."""

from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Final

from vsim.hwbackend.preload.environment import Mode
from vsim.hwbackend.preload.trial.bench import Bench, Ran
from vsim.hwbackend.preload.trial.outcome import MIB, MODES, Outcome
from vsim.hwbackend.preload.trial.turns import (
    WAYS,
    Played,
    StoppedError,
    play,
    ratio_of,
    ratio_of_plays,
)

_CYCLES: Final = 300
_COMPARED: Final[tuple[tuple[str, str, float | None], ...]] = (
    ("passing", "plain", None),
    ("record", "plain", None),
    ("recording", "passing", 1.02),
    ("manage", "plain", 1.03),
)
"""Whose rounds are held to whose, and what they may take at most."""


def programs(bench: Bench) -> Mapping[str, tuple[list[str], dict[str, str]]]:
    """The command of each program that is wanted, and the variables that it is run with."""
    torch = bench.python
    found = {
        "nvcc, static cudart": (bench.built("static_program.cu"), {}),
        "PyTorch training": (torch("torch_program.py", "train"), {}),
        "the same, uncached": (
            torch("torch_program.py", "train"), {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        ),
        "transformers": (torch("torch_program.py", "generate"), {}),
        "CuPy": (torch("cupy_program.py"), {}),
    }  # fmt: skip
    return {
        name: how for name, how in found.items()
        if not bench.only or any(word in name for word in bench.only)
    }  # fmt: skip


def unmodified(bench: Bench) -> Outcome:
    """Run them in each mode, one run after the other."""
    outcome = Outcome()
    print(f"{'program':20} {'mode':7} {'work':>9} {'ratio':>7} {'range of ratios':>16} "
          f"{'run':>6} {'equal':>6} {'taken':>10} {'live':>9} {'peak':>10}")  # fmt: skip
    for name, (command, variables) in programs(bench).items():
        runs: dict[Mode | None, list[Ran]] = {mode: [] for mode in MODES}
        for repeat in range(bench.repeats):
            # There and back, so that what drifts drifts for all.
            for mode in MODES if repeat % 2 == 0 else reversed(MODES):
                runs[mode].append(bench.run(command, mode, variables=variables))
        failed = [ran for each in runs.values() for ran in each if ran.code]
        for each in runs.values():
            for ran in each:
                outcome.add(name, ran)
        if failed:
            outcome.faults.append(f"{name} in {failed[0].mode}: exit code {failed[0].code}: "
                                  f"{failed[0].error}")  # fmt: skip
            print(f"{name:20} FAILED in {failed[0].mode}: {failed[0].error[-300:]}")
            continue
        digests = {ran.said["digest"] for each in runs.values() for ran in each}
        if len(digests) > 1:
            outcome.faults.append(f"{name}: results differ: {sorted(digests)}")
        for mode in MODES:
            ratios = [
                ran.said["work_s"] / plain.said["work_s"]
                for ran, plain in zip(runs[mode], runs[None], strict=True)
            ]
            found = runs[mode][-1].balance
            work = median(ran.said["work_s"] for ran in runs[mode])
            wall = median(ran.wall_s for ran in runs[mode])
            print(
                f"{name:20} {mode or 'plain':7} {1000 * work:6.1f} ms {median(ratios):7.4f} "
                f"{min(ratios):7.3f} .. {max(ratios):.3f} {wall:5.1f}s "
                f"{'yes' if len(digests) == 1 else 'NO':>6} "
                + ("" if found is None else
                   f"{found.taken_bytes / MIB:7.0f}MiB {found.live_bytes / MIB:6.1f}MiB "
                   f"{found.peak_bytes / MIB:7.0f}MiB"), flush=True,
            )  # fmt: skip
            for ran in runs[mode]:
                if ran.balance and ran.balance.unseen_frees:
                    outcome.faults.append(f"{name}: {ran.balance.unseen_frees} frees of memory "
                                          "that was not seen")  # fmt: skip
                if ran.balance and ran.balance.peak_bytes < ran.said.get("peak_reserved", 0):
                    outcome.faults.append(f"{name}: recorded less than the program reserved")
    return outcome


def in_turns(bench: Bench) -> Outcome:
    """Run them in all modes at once, a round of each in turn (turns.py), `repeats` times."""
    outcome = Outcome()
    print(f"{'program':20} {'rounds of':>9} {'over':7} {'there':>5} {'ratio':>8} {'95 %':>17} "
          f"{'busy':>8}  by play")  # fmt: skip
    for name, (command, variables) in programs(bench).items():
        plays: list[Played] = []
        for seed in range(bench.repeats):
            try:
                plays.append(play(bench, command, variables, _CYCLES, seed, most_s=bench.play_s))
            except (StoppedError, ValueError) as error:
                outcome.faults.append(f"{name}: {error}")
        for each in plays:
            _keep(outcome, name, each)
        if plays:
            _compare(outcome, name, plays)
    return outcome


def _keep(outcome: Outcome, name: str, played: Played) -> None:
    for ran in played.rans.values():
        outcome.add(name, ran)
        if ran.code:
            outcome.faults.append(f"{name}, {ran.mode}: exit code {ran.code}: {ran.error}")
    digests = {  # `switched` has done each round twice
        ran.said.get("digest") for way, ran in played.rans.items() if way != "switched"
    }
    if len(digests) > 1:
        outcome.faults.append(f"{name}: results differ: {sorted(map(str, digests))}")
    rounds = {
        way: [round(1e6 * cycle[way].wall_s) if way in cycle else None for cycle in played.cycles]
        for way in WAYS
    }  # fmt: skip
    outcome.rows.append({"name": name, "left_out": played.left_out, "us": rounds})


def _compare(outcome: Outcome, name: str, plays: list[Played]) -> None:
    cycles = [cycle for each in plays for cycle in each.cycles]
    plain = [cycle["plain"].wall_s for cycle in cycles if "plain" in cycle]
    print(f"{name}: {1000 * median(plain) if plain else 0:.1f} ms a round, {len(cycles)} cycles, "
          f"{sum(each.left_out for each in plays)} rounds left out for a slow loop")  # fmt: skip
    for way, base, most in _COMPARED:
        wall, busy = (
            ratio_of_plays([each.cycles for each in plays], way, base, kind)
            for kind in ("wall_s", "cpu_s")
        )
        if wall is None or busy is None:
            outcome.faults.append(f"{name}: no round of {way} beside one of {base} stands")
            continue
        played = [found.middle for each in plays if (found := ratio_of(each.cycles, way, base))]
        outcome.rows.append({
            "name": name, "way": way, "over": base, "wall": asdict(wall), "cpu": asdict(busy),
            "by_play": played,
        })  # fmt: skip
        print(f"{'':20} {way:>9} {base:7} {wall.count:5} {wall.middle:8.4f} "
              f"{wall.low:7.4f} .. {wall.high:.4f} {busy.middle:8.4f}  "
              + " ".join(f"{ratio:.4f}" for ratio in played), flush=True)  # fmt: skip
        if most is not None and wall.high > most:
            outcome.faults.append(
                f"{name}: {way} takes {wall.middle - 1:+.1%} ({wall.low - 1:+.1%} to "
                f"{wall.high - 1:+.1%}), which is not within {most - 1:.0%}"
            )
