"""Prefix caches of several capacities on one trace: what policies save, and what none can pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.false_certificate import refuse_false_most
from vsim.sim.bounds.prefix_prices import solve_prefixes
from vsim.sim.bounds.prefix_tiers import TierPrefixCertificate
from vsim.sim.bounds.prefix_tree import PrefixCertificate, certify_prefixes
from vsim.sim.eviction.cache_replay import replay_prefixes
from vsim.sim.eviction.registry import ALGORITHMS
from vsim.sim.prefixes.belady import belady
from vsim.sim.prefixes.expected_returns import expected_returns
from vsim.sim.prefixes.rounding import rounded
from vsim.sim.prefixes.values import Value
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.faults import refuse, suggestion
from vsim.traces.prefix_chain import dense_codes
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]

EXPECTED_RETURNS: Final = "expected-returns"
BELADY: Final = "belady"
ROUNDED: Final = "lp-rounding"
ONLINE: Final = (*ALGORITHMS, EXPECTED_RETURNS)
ORACLES: Final = (BELADY, ROUNDED)


@dataclass(frozen=True, slots=True, eq=False)
class ValueAtCapacity:
    """One value at one capacity.

    Args:
        value: what is counted.
        total: of all blocks of all prompts.
        saved: by policy.
        certificate: that none saves more than.
    """

    value: Value
    total: float
    saved: Mapping[str, float]
    certificate: PrefixCertificate | TierPrefixCertificate

    def share(self, policy: str) -> float:
        """What a policy saves of everything; 0 where there is nothing."""
        return self.saved[policy] / self.total if self.total else 0.0

    @property
    def most_share(self) -> float:
        """What is certified that no policy passes, of everything."""
        return float(self.certificate.most) / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class AtCapacity:
    """All values at one capacity, in blocks."""

    blocks: int
    values: tuple[ValueAtCapacity, ...]


def check_policies(names: Sequence[str]) -> None:
    """Refuse names that are no policies.

    Raises:
        InputError: with every such name.
    """
    known = (*ONLINE, *ORACLES)
    for name in names:
        if name not in known:
            refuse("--policy", f"'{name}' is unknown{suggestion(name, known)}")


def compare_prefixes(
    requests: Requests,
    capacities: Sequence[int],
    values: Sequence[Value],
    policies: Sequence[str] = (*ONLINE, *ORACLES),
    progress: Callable[[str], None] = lambda doing: None,
) -> Iterator[AtCapacity]:
    """Compare policies at each capacity, and hold each against its certificate.

    Args:
        requests: with prefix blocks, in the order in which they are admitted.
        capacities: in blocks, at least 1 each.
        values: what to count.
        policies: of ONLINE and ORACLES.
        progress: told what is under way.

    Raises:
        FalseCertificateError: a policy saved more than was certified: a bug in vsim.
    """
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    reuse = PrefixReuse.of(offsets, ids)
    lengths = np.diff(offsets)
    counted = []
    for value in values:
        known = value.known_to(int(lengths.max(initial=0)))
        worth = Worth.of(value.name, reuse, known.of_block, whole=value.whole)
        counted.append((value, total_of(known, lengths), worth))
    for blocks in capacities:
        found: dict[str, _Ints] = {}
        for name in policies:
            if name != ROUNDED:
                progress(f"{blocks:,} blocks: {name}")
                found[name] = found_by(name, requests, reuse, blocks)
        at: list[ValueAtCapacity] = []
        for value, total, worth in counted:
            progress(f"{blocks:,} blocks: certificate of {value.name}")
            program = solve_prefixes(reuse, worth, blocks)
            certificate = certify_prefixes(reuse, worth, blocks, program.prices)
            units = {name: worth.of_leading(hits) for name, hits in found.items()}
            if ROUNDED in policies:
                kept = rounded(reuse, worth, blocks, program.shares)
                units[ROUNDED] = worth.of_leading(kept.found())
            refuse_false_most(certificate.units, units, what=f"units of {value.name}")
            saved = {name: float(units[name] * worth.unit) for name in policies}
            at.append(ValueAtCapacity(value, total, saved, certificate))
        yield AtCapacity(blocks, tuple(at))


def total_of(value: Value, lengths: _Ints) -> float:
    """Everything that the prompts' blocks are worth, found or not."""
    longest = int(lengths.max(initial=0))
    prompts = len(lengths) - np.cumsum(np.bincount(lengths, minlength=longest + 1))[:longest]
    return float(sum(int(n) * value.of_block(depth) for depth, n in enumerate(prompts)))


def found_by(name: str, requests: Requests, reuse: PrefixReuse, blocks: int) -> _Ints:
    """Leading blocks that each request finds under a policy."""
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    if name == BELADY:
        return belady(reuse, blocks).found()
    if name == EXPECTED_RETURNS:
        return expected_returns(offsets, ids, requests.arrival_ns, blocks)
    if name == "lru":
        return reuse.lru_hits_of_requests(blocks)
    codes, count = dense_codes(ids)
    ranks: Any = None
    if name == "priority":
        ranks = np.zeros(count, np.int64)
        ranks[codes] = np.repeat(requests.priority, np.diff(offsets))
    elif name == "cost":  # a deeper block costs more to compute again
        ranks = np.zeros(count, np.int64)
        ranks[codes] = np.arange(len(codes)) - np.repeat(offsets[:-1], np.diff(offsets)) + 1
    capacity = min(blocks, count)
    return replay_prefixes(offsets, codes, capacity, name, n_keys=count, ranks=ranks).hits
