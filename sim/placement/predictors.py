"""The predictors that ship, with their parameters frozen."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention

PREDICTORS: Final[Mapping[str, tuple[Predictor, Retention]]] = MappingProxyType(
    {
        "ewma-reads": (Predictor("ewma-reads", (Feature("reads", 0.8, 1.0),)), Retention()),
        "ewma-reads-hysteresis": (
            Predictor("ewma-reads", (Feature("reads", 0.8, 1.0),)),
            Retention(hysteresis=0.02),
        ),
        "ewma-reads-balanced": (
            Predictor("ewma-reads", (Feature("reads", 0.8, 1.0),)),
            Retention(balance=True),
        ),
        "ewma-reads-prefetch": (
            Predictor("ewma-reads", (Feature("reads", 0.8, 1.0),)),
            Retention(balance=True, prefetch=True, margin=0.05),
        ),
    }
)
