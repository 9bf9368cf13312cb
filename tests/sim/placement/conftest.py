"""Policies that anneal draw a twentieth of their proposals: the cases here are as small."""

import pytest

from vsim.sim.placement.interval_annealing import interval_annealing
from vsim.sim.placement.lp_rounding import lp_rounding
from vsim.sim.placement.stack.path_annealing import path_annealing


@pytest.fixture(autouse=True)
def _few_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    for anneals in (interval_annealing, lp_rounding, path_annealing):
        settings = anneals.__kwdefaults__
        monkeypatch.setitem(settings, "proposals", settings["proposals"] // 20)
