"""Make the validation report: `python -m vsim.reports.validation OUTCOME.json [FOLDER]`.

OUTCOME.json is what `vsim check --json` wrote. The page goes to FOLDER/README.md, its figures
beside it. FOLDER/method.md is part of the page; FOLDER/notes.json holds the reasons of cases that
are off, by name. Exit codes: 0 done, 1 a worst case beyond the aim has no reason, 2 the input is
wrong.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from vsim.reports.validation.figures import draw
from vsim.reports.validation.outcome import read_outcome
from vsim.reports.validation.page import page, unexplained
from vsim.reports.validation.placement import read_bounds
from vsim.traces.faults import InputError, refuse

_FOLDER = Path(__file__).parent / "gpu"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the validation report.")
    parser.add_argument("outcome", type=Path, help="what `vsim check --json` wrote")
    parser.add_argument("folder", type=Path, nargs="?", default=_FOLDER, help="where it goes")
    given = parser.parse_args(arguments)
    try:
        outcome = read_outcome(given.outcome)
        notes = _notes(given.folder / "notes.json")
        known = {case.name for _, case in outcome.cases()} | {
            f"class: {c.name}" for c in outcome.classes
        }
        unknown = sorted(notes.keys() - known)
        if unknown:
            refuse(str(given.folder / "notes.json"), f"explains {unknown[0]!r}, which is no case")
        figures = draw(outcome, given.folder)
        bounds = read_bounds(given.folder / "bounds.json")
        text = page(outcome, _text(given.folder / "method.md"), notes, figures, bounds)
        (given.folder / "README.md").write_text(text, encoding="utf-8")
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2
    left = unexplained(outcome, notes)
    for name in left:
        print(f"not explained: {name}; write why to {given.folder / 'notes.json'}")
    return 1 if left else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        refuse(str(path), f"cannot be read: {error.strerror}; say there how it was measured")


def _notes(path: Path) -> Mapping[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        refuse(str(path), f"is no JSON ({error}); write an object of texts")
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        refuse(str(path), 'is no JSON object of texts; write {"case": "why"}')
    return found


if __name__ == "__main__":
    sys.exit(main())
