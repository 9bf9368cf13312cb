"""The predictors that ship, with their parameters frozen.

`learned` is what `python -m vsim.sim.placement.learning` printed for the recordings `standard` and
`retrieval`; every other recording is one it was not fitted to.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention

_READS: Final = Predictor("reads", (Feature("reads", 0.8, 1.0),))
_MASS: Final = Predictor(
    "mass", (Feature("reads", 0.5, 0.3), Feature("reads", 0.8, 1.0), Feature("reads", 0.95, 1.0),
             Feature("mass", 0.5, 0.1), Feature("mass", 0.8, 0.1)),
)  # fmt: skip
_LEARNED: Final = Predictor(
    "learned",
    (
        Feature("reads", 0.3, 0.4579),
        Feature("reads", 0.6, -0.6284),
        Feature("reads", 0.8, 1.98),
        Feature("reads", 0.95, 1.7195),
        Feature("recency", 0.9, -0.3351),
        Feature("mass", 0.3, 0.0467),
        Feature("mass", 0.6, 0.2043),
        Feature("mass", 0.9, -0.1449),
    ),
)

PREDICTORS: Final[Mapping[str, tuple[Predictor, Retention]]] = MappingProxyType(
    {
        "ewma-reads": (_READS, Retention()),
        "ewma-reads-hysteresis": (_READS, Retention(hysteresis=0.02)),
        "ewma-reads-balanced": (_READS, Retention(balance=True)),
        "ewma-mass": (
            Predictor("mass alone", (Feature("mass", 0.6, 1.0),)),
            Retention(balance=True),
        ),
        "ewma-both": (_MASS, Retention(balance=True)),
        "learned": (_LEARNED, Retention(balance=True)),
        "recency-prefetch": (
            Predictor("recency", (Feature("recency", 0.9, 1.0),)),
            Retention(balance=True, prefetch=True, margin=0.05),
        ),
        "ewma-mass-prefetch": (
            Predictor("mass alone", (Feature("mass", 0.6, 1.0),)),
            Retention(balance=True, prefetch=True, margin=0.05),
        ),
        "learned-prefetch": (_LEARNED, Retention(balance=True, prefetch=True, margin=0.3)),
    }
)
