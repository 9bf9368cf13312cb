"""What `vsim check` does: find measured runs, predict them, judge."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vsim.sim.fidelity.check import Checked, Progress, check
from vsim.sim.fidelity.check_json import OUTCOME, outcome
from vsim.sim.fidelity.classes import load_classes
from vsim.sim.fidelity.finding import find, find_all
from vsim.sim.fidelity.gpu.classes import load_case_classes
from vsim.sim.fidelity.junit import MARK, junit_text
from vsim.sim.fidelity.scenario_for import Pacing
from vsim.sim.fidelity.view import show_check
from vsim.traces.faults import Fault, InputError, refuse, refuse_empty_name, suggestion
from vsim.traces.writing import check_apart, file_target, fresh_file, json_text, marked


def run_check(
    path: str | None, *, junit: str | None, json: str | None = None, pacing: str = "arrivals"
) -> bool:
    """Predict measured runs and print the errors; return whether all classes are in tolerance.

    Args:
        path: a recording, a table, or a folder of them; None: every recording of the repository,
            and the public runs that VSIM_REAL_RUNS names.
        junit: where to write the outcome as JUnit XML, or None.
        json: where to write it as JSON, or None.
        pacing: `arrivals`, those that were recorded, or `think_times`: a turn follows the predicted
            answer of the last one.

    Raises:
        InputError: with every fault found.
    """
    known: Mapping[str, Pacing] = {"arrivals": "arrivals", "think_times": "think_times"}
    if pacing not in known:
        refuse("--pacing", f"'{pacing}' is unknown{suggestion(pacing, known)}")
    if junit is not None and json is not None:
        check_apart([file_target(junit, MARK, "--junit"), file_target(json, OUTCOME, "--json")])
    with ExitStack() as stack:
        inputs = [] if path is None else [path]
        for each in inputs:
            refuse_empty_name(each)
        file = document = None
        if junit is not None:
            file = stack.enter_context(fresh_file(junit, MARK, inputs=inputs, option="--junit"))
        if json is not None:
            document = stack.enter_context(
                fresh_file(json, OUTCOME, inputs=inputs, option="--json")
            )
        classes = load_classes()
        found = find_all() if path is None else find(Path(path))
        with _progress() as progress:
            checked = check(
                found,
                classes,
                load_case_classes(),
                complete=path is None,
                pacing=known[pacing],
                progress=progress,
            )
        _refuse_nothing(checked, path or "the recordings")
        show_check(checked)
        if file is not None:
            file.write(junit_text(checked))
            file.publish()
        if document is not None:
            document.write(json_text(marked(OUTCOME, outcome(checked))))
            document.publish()
    return not checked.failed


def _refuse_nothing(checked: Checked, path: str) -> None:
    """Refuse to call it a success where nothing could be predicted."""
    if any(each.scored for each in checked.classes):
        return
    if any(each.scored for each in checked.cases.classes):
        return
    faults = [
        Fault(path, f"{name} can't be predicted: {reason}")
        for each in checked.classes
        for name, reason in each.reasons
    ]
    faults += [
        Fault(path, f"{each.name} can't be predicted: {each.reason}")
        for of in checked.cases.classes
        for each in of.unscored
    ]
    raise InputError(faults or [Fault(path, "holds no measured run")])


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
