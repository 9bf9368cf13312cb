"""Measure the validation cases on this machine: `python -m vsim.hwbackend.cases --out FILE.arrow`.

It needs a GPU, numpy, pyarrow and the CUDA bindings. `vsim check FILE.arrow` then says, there or
elsewhere, how far predictions are off. Exit codes: 0 done, 1 a case failed, 2 the input is wrong.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import NoReturn

from vsim.hwbackend.cases.measure import measure
from vsim.hwbackend.measuring.facts import MachineFacts, read_facts
from vsim.sim.fidelity.gpu.case_list import case_list
from vsim.sim.fidelity.gpu.cases import CLASS_NAMES
from vsim.sim.fidelity.gpu.recording import KIND, write_cases
from vsim.sim.fidelity.gpu.sparse_plan import plans_folder
from vsim.traces.faults import InputError, refuse
from vsim.traces.writing import fresh_file


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure the validation cases on this GPU.")
    parser.add_argument("--out", required=True, help="the recording to write")
    parser.add_argument("--only", choices=CLASS_NAMES, action="append", help="cases of a class")
    parser.add_argument("--match", default="", help="cases whose name holds this text")
    parser.add_argument("--machine", help="the machine file that predicts it; else by the GPUs")
    parser.add_argument("--calibration-hash", help="of that machine file")
    parser.add_argument("--plans", type=Path, help="folder of the plans of sparse decode")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2


def _run(given: argparse.Namespace) -> int:
    began = time.monotonic()
    cases = [
        case
        for case in case_list()
        if (not given.only or case.of_class in given.only) and given.match in case.name
    ]
    if not cases:
        refuse("--match", f"no case's name holds {given.match!r}")
    plans = given.plans or plans_folder()
    if plans is None:
        refuse("--plans", "there is no folder of plans; name traces/recorded/gpu/plans")
    with fresh_file(given.out, KIND, option="--out") as file:
        facts = read_facts()
        outcome = measure(cases, plans, _tell)
        if not outcome.measured:
            refuse(given.out, "no case was measured, so there is nothing to write")
        about = {
            "machine": given.machine or machine_for(facts),
            "device": facts.gpus[0].name,
            "gpus": str(len(facts.gpus)),
            "driver": facts.driver,
            "cuda": facts.cuda,
            "date": facts.date,
            "command": shlex.join(["python", "-m", "vsim.hwbackend.cases", *sys.argv[1:]]),
            "skipped": json.dumps(dict(outcome.skipped)),
            "failed": json.dumps(dict(outcome.failed)),
        }
        write_cases(file, outcome.measured, about, calibration_hash=given.calibration_hash)
    for name, reason in outcome.skipped:
        print(f"skipped: {name}: {reason}")
    for name, reason in outcome.failed:
        print(f"FAILED: {name}: {reason}")
    told = f"{len(outcome.measured)} measured, {len(outcome.skipped)} skipped"
    print(f"{told}, {len(outcome.failed)} failed in {time.monotonic() - began:.0f} s: {given.out}")
    return 1 if outcome.failed else 0


def machine_for(facts: MachineFacts) -> str:
    """The machine of the catalogue that such GPUs make."""
    words = facts.gpus[0].name.lower().replace("-", " ").split()
    name = next((word for word in words if word[:1] in "abhl" and word[1:4].isdigit()), words[-1])
    return f"{len(facts.gpus)}x{name}-measured" if len(facts.gpus) > 1 else f"{name}-measured"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run() -> NoReturn:
    """End with the command's exit code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
