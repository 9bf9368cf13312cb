"""The predictors that ship, with their parameters frozen.

The weights of `learned` were tuned by hand-run searches on the recordings `standard`, `lookups` and
`source_code` at a sparsity of 80 % (`learning.py` is a search of the same kind); the recordings
`agent`, `dialogue` and `retrieval`, and all other sparsities, took no part in it.
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
        Feature("reads", 0.3, 0.1011),
        Feature("reads", 0.6, 0.2672),
        Feature("reads", 0.8, 0.1875),
        Feature("reads", 0.95, 1.0),
        Feature("mass", 0.3, 0.3367),
        Feature("pressed", 0.8, 0.6781),
        Feature("pressed", 0.95, 0.1109),
        Feature("place", 0.0, 0.5034),
        Feature("place", 0.6, 0.0752),
        Feature("echo", 0.5, 0.2909),
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
