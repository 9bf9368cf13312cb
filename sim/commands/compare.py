"""What `vsim compare` does: a prediction, read or made, beside what a real server measured."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vsim.sim.commands.run import located
from vsim.sim.fidelity.comparison import Comparison, compare
from vsim.sim.fidelity.finding import read_measured
from vsim.sim.fidelity.measured import MeasuredRun
from vsim.sim.fidelity.prediction import prediction_of
from vsim.sim.fidelity.stored_result import predictions_of, read_result
from vsim.sim.fidelity.view import show_comparison
from vsim.sim.inputs.yaml_input import read_yaml
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.traces.faults import InputError, refuse, refuse_empty_name
from vsim.traces.writing import fresh_file, json_text, marked

COMPARISON = "comparison"


def run_compare(run: str, real: str, *, overrides: Sequence[str], json_file: str | None) -> None:
    """Compare, print the table, and write it as JSON if that is asked for.

    Args:
        run: a result folder, or a scenario file: it is then run with the requests of `real`.
        real: a recording, an imported server, or a table of measured requests.
        overrides: `key=value`, on top of the scenario file.
        json_file: where to write the errors as JSON, or None.

    Raises:
        InputError: with every fault found.
    """
    with ExitStack() as stack:
        file = None
        if json_file is not None:
            file = stack.enter_context(
                fresh_file(json_file, COMPARISON, inputs=[run, real], option="--json")
            )
        refuse_empty_name(run)
        measured = read_measured(real)
        if Path(run).is_dir():
            if overrides:
                refuse("--set", f"does nothing: {run} is a result already; name its scenario")
            compared = _with_result(run, measured)
        else:
            compared = _with_scenario(run, measured, overrides)
        show_comparison(compared)
        if file is not None:
            file.write(json_text(marked(COMPARISON, compared.as_json())))
            file.publish()


def _with_result(folder: str, measured: MeasuredRun) -> Comparison:
    result = read_result(folder)
    return compare(folder, measured, predictions_of(result, measured), result.summary)


def _with_scenario(file: str, measured: MeasuredRun, overrides: Sequence[str]) -> Comparison:
    if not measured.repeats:
        refuse(measured.file, "holds no single requests to run; name a result folder instead")
    if any((repeat.requests.arrival_ns < 0).any() for repeat in measured.repeats):
        refuse(measured.file, "does not say when requests arrived; name a result folder instead")
    document = read_yaml(file, overrides)
    scenario = document.validate(Scenario).read_with(overrides)
    scenario = scenario.with_trace(str(Path(measured.file).absolute()))
    predictions, summary = [], {}
    for repeat in measured.repeats:
        try:
            result = simulate(
                scenario, requests=repeat.requests, base=Path(file).parent, steps=False
            )
        except InputError as error:
            raise InputError(located(fault, document) for fault in error.faults) from None
        summary = dict(result.summary)
        predictions.append(prediction_of(result.requests, summary))
    return compare(file, measured, predictions, summary)
