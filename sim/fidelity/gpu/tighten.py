"""Print the cases' `tolerances.yaml` anew: every tolerance lowered to what is reached, none raised.

python -m vsim.sim.fidelity.gpu.tighten, which `make tolerances` calls

A class that never had cases gets the figures that it reaches, whatever they are; if they are above
the aim, whoever runs this writes why.
"""

import json
import sys
from typing import Final

from vsim.sim.fidelity.finding import find, gpu_folder
from vsim.sim.fidelity.gpu.classes import FIGURES, CaseClass, CaseClasses, load_case_classes
from vsim.sim.fidelity.gpu.scoring import CasesChecked, score_cases
from vsim.sim.fidelity.tighten import rounded_up
from vsim.traces.faults import InputError

HEAD: Final = """\
# How far predictions of cases measured on a GPU may be off, by class and GPU, in percent; `vsim
# check` says what they are. Aimed for: 3 in the median, 8 for 95 of 100 cases. A tolerance is the
# figure that was reached, rounded up: lowered when the model gets better (`make tolerances`), never
# raised. One above the aim says why.
classes:
"""


def tightened_cases(checked: CasesChecked, classes: CaseClasses) -> str:
    """Return the file's text.

    Args:
        checked: what is reached now, by the repository's recordings.
        classes: what was tolerated before.
    """
    return HEAD + "".join(_lines(each, checked) for each in classes.classes)


def _lines(of: CaseClass, checked: CasesChecked) -> str:
    key = of.name, of.gpu
    scores = [each for each in checked.classes if (each.of.name, each.of.gpu) == key]
    count = sum(len(each.scored) for each in scores)
    granted = {} if of.tolerance is None else of.tolerance.model_dump()
    cases = of.cases
    if count and count >= of.cases:
        cases = count
        for name in FIGURES:
            reached = rounded_up(name, max(score.figures.get(name, 0.0) for score in scores))
            granted[name] = reached if not of.cases else min(granted.get(name, reached), reached)
    text = f"  - name: {of.name}\n"
    if of.gpu:
        text += f"    gpu: {of.gpu}\n"
    if cases:
        text += f"    cases: {cases}\n"
    if granted:
        text += f"    tolerance: {{median: {granted['median']:g}, p95: {granted['p95']:g}}}\n"
    if of.above:
        text += f"    above: {json.dumps(of.above, ensure_ascii=False)}\n"
    return text


def main() -> None:
    """Print the file as it should be."""
    classes = load_case_classes()
    folder = gpu_folder()
    try:
        recordings = () if folder is None else find(folder, "recorded").recordings
        print(tightened_cases(score_cases(recordings, classes), classes), end="")
    except InputError as error:
        sys.exit("\n".join(map(str, error.faults)))


if __name__ == "__main__":
    main()
