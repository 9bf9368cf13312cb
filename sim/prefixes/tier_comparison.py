"""Prefix caches over tiers on one trace: what policies save net of loads, and the most."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.false_certificate import refuse_false_most
from vsim.sim.bounds.prefix_descent import Descent, descend
from vsim.sim.bounds.prefix_prices import solve_prefixes
from vsim.sim.bounds.prefix_tiers import TierCase, certify_tier_prefixes, tier_worth
from vsim.sim.bounds.prefix_tree import certify_prefixes
from vsim.sim.prefixes.comparison import (
    BELADY,
    ROUNDED,
    ValueAtCapacity,
    found_by,
    total_of,
)
from vsim.sim.prefixes.tier_found import TierFound
from vsim.sim.prefixes.tier_policies import (
    belady_over_tiers,
    lru_over_tiers,
    rounded_over_tiers,
)
from vsim.sim.prefixes.values import HITS, Value
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class AtTiers:
    """Hits and net seconds over some tiers.

    Args:
        tiers: which.
        values: hits, then seconds.
        found: by policy, the blocks found in each tier.
    """

    tiers: CacheTiers
    values: tuple[ValueAtCapacity, ...]
    found: Mapping[str, Sequence[int]]


def compare_over_tiers(
    requests: Requests,
    stacks: Sequence[CacheTiers],
    seconds: Value,
    policies: Sequence[str],
    progress: Callable[[str], None] = lambda doing: None,
    *,
    overlap: bool = False,
) -> Iterator[AtTiers]:
    """Compare policies over each stack of tiers, and hold each against its certificate.

    Args:
        requests: with prefix blocks, in the order in which they are admitted.
        stacks: tiers whose room is counted in blocks of the trace.
        seconds: what computing a block takes.
        policies: of `comparison.ONLINE` and `ORACLES`.
        progress: told what is under way.
        overlap: whether loads go on beside computing.

    Raises:
        FalseCertificateError: a policy saved more than was certified: a bug in vsim.
    """
    reuse = PrefixReuse.of(requests.prefix_offsets, requests.prefix_ids)
    lengths = np.diff(requests.prefix_offsets)
    needs = BlockNeeds.of_equal_blocks(int((reuse.depth + reuse.count).max(initial=0)))
    worth = tier_worth(seconds.name, reuse, needs, seconds.of_block)
    hits = Worth.of(HITS.name, reuse, HITS.of_block, whole=True)
    full = full_units(requests, seconds, worth) if overlap else None
    for tiers in stacks:
        case = TierCase(reuse, worth, needs, tiers, full)
        progress(f"{tiers.all_parts:,} blocks: certificate")
        descent = descend(case)
        certificate = certify_tier_prefixes(case, descent.prices)
        program = solve_prefixes(reuse, hits, tiers.all_parts)
        most_hits = certify_prefixes(reuse, hits, tiers.all_parts, program.prices)
        found: dict[str, TierFound] = {}
        for name in policies:
            progress(f"{tiers.all_parts:,} blocks: {name}")
            found[name] = _found(name, requests, case, descent)
        saved = {name: each.saved_units(case) for name, each in found.items()}
        blocks = {name: each.blocks_in(len(tiers.parts)) for name, each in found.items()}
        counted = {name: sum(each) for name, each in blocks.items()}
        certificate.refuse_if_false(saved)
        refuse_false_most(most_hits.units, counted, what=f"units of {HITS.name}")
        yield AtTiers(
            tiers,
            (
                ValueAtCapacity(
                    HITS, total_of(HITS, lengths), {n: float(u) for n, u in counted.items()},
                    most_hits,
                ),
                ValueAtCapacity(
                    seconds, total_of(seconds, lengths),
                    {name: float(units * worth.unit) for name, units in saved.items()}, certificate,
                ),
            ),
            blocks,
        )  # fmt: skip


def full_units(requests: Requests, seconds: Value, worth: Worth) -> _Ints:
    """What all of each prompt takes at most, in worth's units: int64[requests].

    A last part of a block counts as a whole one, and as many units more as blocks were rounded up.
    """
    blocks = -(-requests.prompt_tokens // requests.block_tokens)
    blocks = np.maximum(blocks, np.diff(requests.prefix_offsets))
    longest = int(blocks.max(initial=0))
    each = np.array([float(seconds.of_block(depth)) for depth in range(longest)])
    upto = np.concatenate([[0.0], np.cumsum(each)]) * (1 + 1e-9) / float(worth.unit)
    return (np.ceil(upto[blocks]) + blocks).astype(np.int64)


def _found(name: str, requests: Requests, case: TierCase, descent: Descent) -> TierFound:
    """What a policy finds where."""
    reuse, rooms = case.reuse, case.tiers.parts
    if name == ROUNDED:
        return TierFound.of_kept(reuse, rounded_over_tiers(case, descent))
    if name == BELADY:
        return TierFound.of_kept(reuse, belady_over_tiers(reuse, rooms))
    if name == "lru":
        return TierFound.of_kept(reuse, lru_over_tiers(reuse, rooms))
    return TierFound.of_copies([found_by(name, requests, reuse, room) for room in rooms])
