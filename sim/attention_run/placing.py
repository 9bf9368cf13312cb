"""`place`: a placement policy, by name, on the decode steps of a run."""

from collections.abc import Mapping
from types import MappingProxyType

from vsim.sim.placement.case import Case, Placement
from vsim.sim.placement.comparison import ROUNDING
from vsim.sim.placement.policies import (
    Run,
    policies,
    rounded,
    solved_for_rounding,
    studies,
)
from vsim.traces.faults import refuse


def placements() -> Mapping[str, Run]:
    """Every policy that a run can name."""
    return MappingProxyType({**policies(), **studies(), ROUNDING: _rounding})


def place(case: Case, name: str, seed: int) -> Placement:
    """Run a policy of `placements`.

    Raises:
        InputError: the policy follows attention mass, and the selection leaves none.
    """
    try:
        return placements()[name](case, seed)
    except ValueError as error:
        refuse("scenario", f"{error}; name another policy", place="placement")


def _rounding(case: Case, seed: int) -> Placement:
    """LP rounding, without the search for whole pages: that one ends by the clock."""
    return rounded(case, solved_for_rounding(case), mip_s=0.0, seed=seed)
