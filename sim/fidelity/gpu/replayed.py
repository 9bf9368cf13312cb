"""Make a recording of replays: `python -m vsim.sim.fidelity.gpu.replayed DIR ... --out FILE.arrow`.

DIR is what `vsim replay --gpu --out DIR` wrote. Its operations become cases, one for each class of
them: steps by what they compute, copies by their way. `vsim check FILE.arrow` then predicts them by
the machine that is named, which is the replays' own where none is.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vsim.sim.fidelity.gpu.heads import TIERS
from vsim.sim.fidelity.gpu.recording import KIND, Measured, write_cases
from vsim.sim.fidelity.gpu.replay_cases import ReplayCase, ReplayedCopy, ReplayedStep
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.results.output import OPERATIONS, SUMMARY
from vsim.traces.arrow_io import read_table
from vsim.traces.faults import InputError, refuse
from vsim.traces.writing import fresh_file

Row = Mapping[str, Any]


def cases_of(folder: Path) -> list[Measured]:
    """Read a replay's measured operations.

    Raises:
        InputError: it is none of a GPU, or of something that no case describes.
    """
    summary = _summary(folder)
    file = str(folder / OPERATIONS)
    found: dict[str, list[tuple[ReplayedStep | ReplayedCopy, int]]] = {}
    for name, operation, took_ns in _operations(file, read_table(file, "operations").to_pylist()):
        found.setdefault(name, []).append((operation, took_ns))
    cases = []
    for name, each in sorted(found.items()):
        operations = [operation for operation, _ in each]
        case = ReplayCase(
            f"{summary['name']}, {summary['mode']}, {summary['movement']}: {name}",
            summary["model"],
            summary["page_tokens"],
            tuple(one for one in operations if isinstance(one, ReplayedStep)),
            tuple(one for one in operations if isinstance(one, ReplayedCopy)),
            summary["facts"].get("gpus", 1),
        )
        cases.append(Measured(case, (sum(took_ns for _, took_ns in each),)))
    return cases


def _summary(folder: Path) -> Row:
    place = folder / SUMMARY
    if not place.is_file():
        refuse(str(folder), f"has no {SUMMARY}; name a folder that `vsim replay --gpu` wrote")
    try:
        summary = json.loads(read_text(str(place)))
        device, kind = summary["facts"]["device"], summary["kind"]
        words = [summary[name] for name in ("name", "mode", "movement", "model", "machine")]
        tokens, gpus = summary["page_tokens"], summary["facts"].get("gpus", 1)
    except (ValueError, KeyError, TypeError):
        refuse(str(place), "is of no replay on a GPU; name a folder that `vsim replay --gpu` wrote")
    if kind == "attention" or not isinstance(tokens, int):
        refuse(str(place), "is of recorded attention, which cases of sparse decode are for")
    if not isinstance(gpus, int) or gpus < 1:
        refuse(str(place), f"is {gpus!r}; write a whole number from 1", place="facts.gpus")
    assert all(isinstance(word, str) for word in [*words, device])
    found: Row = summary
    return found


def _operations(
    file: str, rows: Sequence[Row]
) -> Iterator[tuple[str, ReplayedStep | ReplayedCopy, int]]:
    """Each operation's class, what it was, and what it took, in order of the log."""
    below: dict[int, dict[str, int]] = {}
    for row in rows:
        for name in ("source_tier", "target_tier"):
            if row[name] is not None and row[name] not in TIERS:
                refuse(file, f"is {row[name]!r}; a case knows {', '.join(TIERS)}", place=name)
        if row["kind"] == "attend" and row["source_tier"] != "hbm":
            below.setdefault(row["step"], {})[row["source_tier"]] = row["bytes"]
    began = {row["step"]: row["start_ns"] for row in rows if row["kind"] == "attend"}
    for row in rows:
        if row["kind"] == "copy":
            copy = ReplayedCopy(row["source_tier"], row["target_tier"], len(row["pages"]) // 2)
            name = f"copies, {copy.source} to {copy.target}"
            yield name, copy, row["end_ns"] - row["start_ns"]
        elif row["kind"] == "compute":
            read = below.get(row["step"], {})
            step = ReplayedStep(
                tuple(row["new_tokens"]), tuple(row["context_tokens"]), sum(row["samples"]),
                read.get("peer", 0), read.get("host", 0),
            )  # fmt: skip
            yield _class_of(step), step, row["end_ns"] - began.get(row["step"], row["start_ns"])


def _class_of(step: ReplayedStep) -> str:
    """As the table of a replay's errors has it."""
    chunks = sum(new for new in step.new_tokens if new > 1)
    if chunks:
        return f"steps with a chunk, up to {_power(chunks):,} tokens"
    return f"steps of decodes, up to {_power(len(step.contexts)):,}"


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0 written, 2 the input is wrong."""
    parser = argparse.ArgumentParser(prog="vsim.sim.fidelity.gpu.replayed", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", required=True, help="the recording to write")
    parser.add_argument("--machine", help="that predicts it: a name, or a file beside --out")
    parser.add_argument("--calibration-hash", help="of that machine file")
    given = parser.parse_args(arguments)
    try:
        measured = [each for folder in given.folders for each in cases_of(folder)]
        summaries = [_summary(folder) for folder in given.folders]
        facts = [summary["facts"] for summary in summaries]
        for name in ("device", "driver"):
            if len({fact[name] for fact in facts}) > 1:
                refuse("DIR", f"is of several {name}s; write a recording each")
        about = {
            "machine": given.machine or summaries[0]["machine"],
            "device": facts[0]["device"],
            "gpus": str(max(each.case.gpus for each in measured)),
            "driver": facts[0]["driver"],
            "cuda": facts[0]["cuda"],
            "date": facts[0]["date"],
            "command": shlex.join(
                ["python", "-m", "vsim.sim.fidelity.gpu.replayed", *sys.argv[1:]]
            ),
            "skipped": "{}",
            "failed": "{}",
        }
        with fresh_file(given.out, KIND, option="--out") as file:
            write_cases(file, measured, about, calibration_hash=given.calibration_hash)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(measured)} cases of {len(given.folders)} replays: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
