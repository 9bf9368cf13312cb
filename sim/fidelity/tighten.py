"""Print `tolerances.yaml` anew: every tolerance lowered to what is reached, and none raised.

python -m vsim.sim.fidelity.tighten, which `make tolerances` calls
"""

import math
import sys

from vsim.sim.fidelity.check import Checked, ClassScore, check
from vsim.sim.fidelity.classes import Classes, RunClass, load_classes
from vsim.sim.fidelity.finding import find_all
from vsim.sim.fidelity.gpu.classes import load_case_classes
from vsim.traces.faults import InputError

HEAD = """\
# How far predictions may be off, by class of measured runs; `vsim check` says what they are. Of
# ttft, tpot and e2e the median error of a request, and of that the median over runs; all others of
# the worst run. In percent, of hits in points.
#
# A tolerance is the figure that was reached, rounded up. It is lowered when the model gets better
# (`make tolerances` does) and never raised. A run belongs to the first class that it fits; `runs`
# is how many runs a tolerance was taken of.
classes:
"""
_COARSE_FROM = 10.0


def tightened(checked: Checked, classes: Classes) -> str:
    """Return the file's text.

    Args:
        checked: what is reached now.
        classes: what was tolerated before.
    """
    scores = {each.name: each for each in checked.classes}
    return HEAD + "".join(_lines(each, scores.get(each.name)) for each in classes.classes)


def _lines(each: RunClass, score: ClassScore | None) -> str:
    tolerance = each.tolerance.model_dump(exclude_none=True)
    runs = each.runs
    if score is not None and score.scored >= runs:
        runs = score.scored
        for name, reached in score.figures.items():
            tolerance[name] = min(tolerance.get(name, math.inf), rounded_up(name, reached))
    where = ", ".join(
        f"{k}: {_word(v)}" for k, v in each.where.model_dump(exclude_unset=True).items()
    )
    text = f"  - name: {each.name}\n    where: {{{where}}}\n"
    if runs:
        text += f"    runs: {runs}\n"
    if tolerance:
        told = ", ".join(f"{name}: {value:g}" for name, value in tolerance.items())
        text += f"    tolerance:\n      {{{told}}}\n"
    return text


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def rounded_up(name: str, reached: float) -> float:
    """Round up: points of hits to whole ones, and 1 at least; percent below 10 to a tenth."""
    if name == "hits":
        return max(1.0, float(math.ceil(reached)))
    if reached >= _COARSE_FROM:
        return float(math.ceil(reached))
    return math.ceil(reached * 10) / 10


def main() -> None:
    """Print the file as it should be."""
    classes = load_classes()
    try:
        print(tightened(check(find_all(), classes, load_case_classes()), classes), end="")
    except InputError as error:
        sys.exit("\n".join(map(str, error.faults)))


if __name__ == "__main__":
    main()
