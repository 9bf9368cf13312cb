"""Which advice may be given to a run that is bound by what."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from vsim.sim.results.advice.advice import LEAST_WORTH, Advice
from vsim.sim.results.advice.batch import larger_batch, larger_budget, more_traces, what_hbm_holds
from vsim.sim.results.advice.gpus import fewer_gpus, more_gpus
from vsim.sim.results.advice.judged_run import Run
from vsim.sim.results.advice.machine import (
    faster_arithmetic,
    faster_gpu_link,
    faster_hbm,
    faster_way,
    larger_hbm,
    quicker_launch,
    quicker_vmm,
)
from vsim.sim.results.advice.pages import (
    another_placement,
    balanced,
    caching_on,
    copied_pages,
    larger_lowest_tier,
    more_hbm,
    promoting,
)
from vsim.sim.results.advice.precision import (
    kv_precision,
    weight_precision,
)

_Rule = Callable[[Run], Iterator[Advice]]

RULES: Final[Mapping[str, tuple[_Rule, ...]]] = MappingProxyType(
    {
        "compute": (weight_precision, more_gpus, caching_on, larger_lowest_tier, faster_arithmetic),
        "hbm": (kv_precision, weight_precision, more_gpus, larger_batch, larger_budget, balanced,
                more_traces, faster_hbm),
        "capacity": (kv_precision, weight_precision, more_hbm, more_gpus, larger_hbm),
        "transfers": (kv_precision, more_hbm, faster_way),
        "vmm": (copied_pages, quicker_vmm),
        "lower_tier": (kv_precision, more_hbm, what_hbm_holds, promoting, another_placement,
                       faster_way),
        "communication": (fewer_gpus, faster_gpu_link),
        "launch": (larger_batch, larger_budget, more_traces, quicker_launch),
    }
)  # fmt: skip
"""By what bounds a run: the rules that may speak."""


def changes(run: Run, kind: str) -> list[Advice]:
    """List what applies to a run that is bound by `kind`, the most promising setting first.

    Args:
        run: what happened.
        kind: compute, hbm, capacity, transfers, vmm, lower_tier, communication or launch.
    """
    found = [advice for rule in RULES[kind] for advice in rule(run) if advice.saves >= LEAST_WORTH]
    return sorted(found, key=lambda advice: -advice.saves)
