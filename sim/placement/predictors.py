"""The predictors that ship, with their parameters frozen.

The weights of `learned` are what

    python -m vsim.sim.placement.learning standard.arrow lookups.arrow source_code.arrow

prints in traces/recorded, at a sparsity of 80 %; the recordings `agent`, `dialogue` and
`retrieval`, and all other sparsities, took no part in it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vsim.sim.placement.predictor import Feature, Predictor
from vsim.sim.placement.retention import Retention

_READS: Final = Predictor("reads", (Feature("reads", 0.8, 1.0),))
_MASS: Final = Predictor("mass", (Feature("mass", 0.6, 1.0),))
_RECENCY: Final = Predictor("recency", (Feature("recency", 0.9, 1.0),))
_LEARNED: Final = Predictor(
    "learned",
    (
        Feature("reads", 0.3, 0.2704),
        Feature("reads", 0.6, -0.1865),
        Feature("reads", 0.8, 0.5883),
        Feature("reads", 0.95, 0.0088),
        Feature("mass", 0.3, 0.108),
        Feature("mass", 0.8, 0.0327),
        Feature("pressed", 0.8, 0.2909),
        Feature("pressed", 0.95, 0.0843),
        Feature("place", 0.0, 0.5498),
        Feature("place", 0.6, -0.2679),
        Feature("echo", 0.5, 1.0),
        Feature("echo", 0.8, 0.1105),
    ),
)

PREDICTORS: Final[Mapping[str, tuple[Predictor, Retention]]] = MappingProxyType(
    {
        "ewma-reads": (_READS, Retention()),
        "ewma-reads-hysteresis": (_READS, Retention(hysteresis=0.02)),
        "ewma-reads-balanced": (_READS, Retention(balance=True)),
        "ewma-mass": (_MASS, Retention(balance=True)),
        "learned": (_LEARNED, Retention(balance=True)),
        "recency-prefetch": (_RECENCY, Retention(balance=True, prefetch=True, margin=0.05)),
        "ewma-mass-prefetch": (_MASS, Retention(balance=True, prefetch=True, margin=0.05)),
        "learned-prefetch": (_LEARNED, Retention(balance=True, prefetch=True, margin=0.1)),
    }
)
