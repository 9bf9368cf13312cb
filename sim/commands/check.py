"""What `vsim check` does: find measured runs, predict them, judge."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsim.sim.fidelity.check import Progress, check
from vsim.sim.fidelity.classes import load_classes
from vsim.sim.fidelity.finding import find, find_all
from vsim.sim.fidelity.view import show_check


def run_check(path: str | None, *, junit: str | None) -> bool:
    """Predict measured runs and print the errors; return whether all classes are in tolerance.

    Args:
        path: a recording, a table, or a folder of them; None: every recording of the repository,
            and the public runs that VSIM_REAL_RUNS names.
        junit: where to write the outcome as JUnit XML, or None.

    Raises:
        InputError: with every fault found.
    """
    classes = load_classes()
    found = find_all() if path is None else find(Path(path))
    with _progress() as progress:
        checked = check(found, classes, complete=path is None, progress=progress)
    show_check(checked)
    return not checked.failed


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show on a terminal which run is predicted."""
    if not sys.stderr.isatty():
        yield None
        return
    clear = "\r\x1b[K"
    try:
        yield lambda name: print(f"{clear}{name} …", end="", file=sys.stderr, flush=True)
    finally:
        print(clear, end="", file=sys.stderr, flush=True)
