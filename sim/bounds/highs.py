"""Running HiGHS so that an answer is an optimum or an error."""

from typing import Any

import highspy

_IPM_ITERATIONS = 1_000
"""It takes some ten to a hundred. One that is stuck would go on until its time was up."""


class NoOptimumError(RuntimeError):
    """HiGHS ended without an optimum."""


def run_highs(highs: Any) -> None:
    """Solve the model in `highs` to optimality.

    The interior-point method may end imprecise or stuck; the dual simplex then goes on.

    Raises:
        NoOptimumError: neither reached an optimum.
    """
    highs.setOptionValue("ipm_iteration_limit", _IPM_ITERATIONS)
    if highs.run() == highspy.HighsStatus.kError:
        # HiGHS keeps a thread's number of workers from its first solve and refuses another.
        highspy.Highs.resetGlobalScheduler(True)
        highs.run()
    if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
        return
    _, solver = highs.getOptionValue("solver")
    highs.setOptionValue("solver", "simplex")
    highs.run()
    highs.setOptionValue("solver", solver)
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise NoOptimumError(f"HiGHS found no optimum: {highs.getModelStatus()}")
