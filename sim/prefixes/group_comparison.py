"""Prefix caches of models whose KV is in groups, by bytes: what policies save, and the most."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_descent import descend
from vsim.sim.bounds.prefix_tiers import TierCase, certify_tier_prefixes, tier_worth
from vsim.sim.prefixes.comparison import ROUNDED, ValueAtCapacity, total_of
from vsim.sim.prefixes.group_policies import lru_of_groups, rounded_of_groups
from vsim.sim.prefixes.tier_comparison import AtTiers
from vsim.sim.prefixes.values import Value
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.traces.faults import refuse
from vsim.traces.prefix_chain import dense_codes
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]
LRU: Final = "lru"
GROUPED: Final = (LRU, ROUNDED)
"""Policies that know pieces of several sizes."""


def compare_groups(
    requests: Requests,
    stacks: Sequence[CacheTiers],
    needs: BlockNeeds,
    values: Sequence[Value],
    policies: Sequence[str] = GROUPED,
    progress: Callable[[str], None] = lambda doing: None,
) -> Iterator[AtTiers]:
    """Compare policies over each stack of tiers, room counted in parts.

    Args:
        requests: with prefix blocks, in the order in which they are admitted.
        stacks: tiers; loads count against seconds alone.
        needs: of prefixes as long as the longest prompt.
        values: what to count; only seconds are net of loads.
        policies: of GROUPED. LRU keeps copies: each tier decides for itself, and a request takes
            the prefix of the tier that saves most.
        progress: told what is under way.

    Raises:
        InputError: a policy is not of GROUPED, or pieces differ so much that they can't be priced.
        FalseCertificateError: a policy saved more than was certified: a bug in vsim.
    """
    for name in policies:
        if name not in GROUPED:
            refuse(
                "--policy",
                f"{name} takes all blocks for equal, and this model keeps KV in groups of layers;"
                f" write {' or '.join(GROUPED)}",
            )
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    reuse, lengths = PrefixReuse.of(offsets, ids), np.diff(offsets)
    codes, _ = dense_codes(ids)
    for tiers in stacks:
        hits = []
        if LRU in policies:
            progress(f"{tiers.all_parts:,} parts: {LRU}")
            hits = [lru_of_groups(offsets, codes, needs, room) for room in tiers.parts]
        at = []
        for value in values:
            progress(f"{tiers.all_parts:,} parts: certificate of {value.name}")
            try:
                worth = tier_worth(value.name, reuse, needs, value.of_block, whole=value.whole)
            except ValueError:
                refuse("--model", "has pieces of a block so unequal that they can't be priced")
            case = TierCase(reuse, worth, needs, tiers if value.loads else tiers.without_loads())
            descent = descend(case)
            certificate = certify_tier_prefixes(case, descent.prices)
            saved: dict[str, int] = {}
            for name in policies:
                if name == ROUNDED:
                    saved[name] = rounded_of_groups(case, descent)
                else:
                    saved[name] = _saved_by_copies(case, hits)
            certificate.refuse_if_false(saved)
            in_value = {name: float(units * worth.unit) for name, units in saved.items()}
            at.append(ValueAtCapacity(value, total_of(value, lengths), in_value, certificate))
        yield AtTiers(tiers, tuple(at), {})


def _saved_by_copies(case: TierCase, hits: Sequence[_Ints]) -> int:
    """Units saved where each request takes its prefix from the tier that saves most."""
    lengths = np.arange(case.needs.longest + 1)
    needed = (case.needs.parts[:, None] * (lengths - case.needs.first)).sum(axis=0)
    net = np.zeros(len(hits[0]), np.int64)
    for found, load in zip(hits, case.load_units().tolist(), strict=True):
        net = np.maximum(net, case.worth.units[found] - load * needed[found])
    return sum(net.tolist())
