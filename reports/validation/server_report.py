"""Make the report of servers.

    python -m vsim.reports.validation.server_report OUTCOME.json [FOLDER]

OUTCOME.json is what `vsim check --json` wrote. The page goes to FOLDER/README.md, its figures
beside it; FOLDER/method.md and FOLDER/reasons.md are parts of the page. Exit codes: 0 done, 2 the
input is wrong.
"""

import argparse
import sys
from pathlib import Path

from vsim.reports.validation.server_figures import draw_servers
from vsim.reports.validation.server_outcome import read_servers
from vsim.reports.validation.server_page import server_page
from vsim.traces.faults import InputError, refuse

_FOLDER = Path(__file__).parent / "servers"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the report of servers.")
    parser.add_argument("outcome", type=Path, help="what `vsim check --json` wrote")
    parser.add_argument("folder", type=Path, nargs="?", default=_FOLDER, help="where it goes")
    given = parser.parse_args(arguments)
    try:
        outcome = read_servers(given.outcome)
        method, reasons = (_text(given.folder / f"{name}.md") for name in ("method", "reasons"))
        figures = draw_servers(outcome, given.folder)
        text = server_page(outcome, method, reasons, figures)
        (given.folder / "README.md").write_text(text, encoding="utf-8")
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        refuse(str(path), f"cannot be read: {error.strerror}; write it, it is part of the page")


if __name__ == "__main__":
    sys.exit(main())
