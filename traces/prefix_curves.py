"""Curves of LRU by tenant and by tier, sampled curves and working sets of a trace."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.prefix_sampling import sampled_curve
from vsim.traces.requests import Requests
from vsim.traces.working_set import WorkingSet, working_sets


@dataclass(frozen=True, slots=True)
class CurveOf:
    """LRU's hits at every size, as points between which hits lie on a line.

    Args:
        name: of the tenant whose hits these are, in one cache with all others.
        references: of its prompts.
        points: sizes in blocks, and references that are hit.
    """

    name: str
    references: int
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class TierHits:
    """Hits in one tier of an LRU stack over several.

    Args:
        blocks: that the tier holds.
        upto_blocks: that it holds with all above it.
        hit_ratio: references that lie in it when they come.
    """

    blocks: int
    upto_blocks: int
    hit_ratio: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled curve beside the exact one.

    Args:
        rate: the share of conversations asked for.
        requests: sampled.
        share: of references, sampled.
        sizes: in blocks.
        hit_ratios: estimated.
        exact: of one pass over everything.
    """

    rate: float
    requests: int
    share: float
    sizes: tuple[int, ...]
    hit_ratios: tuple[float, ...]
    exact: tuple[float, ...]

    @property
    def mean_error(self) -> float:
        """Mean absolute difference of hit ratios over the sizes."""
        pairs = zip(self.hit_ratios, self.exact, strict=True)
        return float(np.mean([abs(estimate - true) for estimate, true in pairs]))


@dataclass(frozen=True, slots=True)
class PrefixCurves:
    """What was asked for of a trace; empty or None what was not."""

    tenants: tuple[CurveOf, ...] = ()
    tiers: tuple[TierHits, ...] = ()
    sampled: Sampled | None = None
    working_sets: tuple[WorkingSet, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        written = asdict(self)
        if self.sampled is not None:
            written["sampled"]["mean_error"] = self.sampled.mean_error
        return written


def prefix_curves(
    requests: Requests,
    *,
    by_tenant: bool = False,
    tier_blocks: Sequence[int] = (),
    sample: float | None = None,
    windows_s: Sequence[float] = (),
) -> PrefixCurves:
    """Take curves from one pass over the trace, and sampled ones from another over the sample.

    Args:
        requests: with prefix blocks.
        by_tenant: a curve for each tenant.
        tier_blocks: sizes of tiers, from the top.
        sample: the share of conversations, above 0 and below 1.
        windows_s: of working sets.
    """
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    reuse, lengths = PrefixReuse.of(offsets, ids), np.diff(offsets)
    tenants = []
    for at, name in enumerate(requests.tenant_names if by_tenant else ()):
        theirs = requests.tenant == at
        points = curve_points(_of_tenant(reuse, theirs))
        tenants.append(CurveOf(name, int(lengths[theirs].sum()), points))
    return PrefixCurves(
        tuple(tenants),
        tier_hits(reuse, tier_blocks),
        None if sample is None else _sampled(requests, reuse, sample),
        working_sets(reuse, requests.arrival_ns, lengths, windows_s),
    )


def curve_points(reuse: PrefixReuse) -> tuple[tuple[int, int], ...]:
    """The curve's corners as pairs."""
    blocks, hits = reuse.lru_curve()
    return tuple(zip(blocks.tolist(), hits.tolist(), strict=True))


def tier_hits(reuse: PrefixReuse, tier_blocks: Sequence[int]) -> tuple[TierHits, ...]:
    """Hits in each tier of one LRU stack.

    What is used comes to the top of the first tier, and what each displaces goes down to the next
    in order of last use. So the first k1 blocks of the stack lie in the first tier, the k2 behind
    them in the second: hits there are those of a cache of k1 + k2 blocks less those of one of k1.
    """
    upto = np.concatenate([[0], np.cumsum(np.asarray(tier_blocks, np.int64))])
    hits = np.diff(reuse.lru_hits(upto)) / max(reuse.blocks, 1)
    columns = zip(tier_blocks, upto[1:].tolist(), hits.tolist(), strict=True)
    return tuple(TierHits(*each) for each in columns)


def _of_tenant(reuse: PrefixReuse, theirs: NDArray[np.bool_]) -> PrefixReuse:
    """The runs that some requests use again; what lies above them stays everybody's."""
    some = theirs[reuse.request]
    columns = (reuse.request, reuse.last_use, reuse.depth, reuse.count, reuse.above)
    return PrefixReuse(reuse.requests, reuse.blocks, *(column[some] for column in columns))


def _sampled(requests: Requests, reuse: PrefixReuse, rate: float) -> Sampled:
    """Estimate hits at powers of two, up to what everything takes."""
    made = sampled_curve(requests.prefix_offsets, requests.prefix_ids, rate)
    enough = int(reuse.lru_curve()[0][-1])
    sizes = [1 << power for power in range(enough.bit_length())] + [enough]
    at = np.array(sizes, np.int64)
    exact = reuse.lru_hits(at) / max(reuse.blocks, 1)
    return Sampled(
        rate, made.requests, made.share, tuple(sizes), tuple(made.hit_ratios(at).tolist()),
        tuple(exact.tolist()),
    )  # fmt: skip
