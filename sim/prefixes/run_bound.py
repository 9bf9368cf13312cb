"""How far a run's prefix hits are from the most that any cache could have found.

A server admits requests while others run, so that two moments of a request matter. When it is
admitted, its leading pages that some tier holds are found. When its last token comes it holds all
pages of its chain, whatever was found, computed or evicted in between: from then on, at the latest,
each of them has to stay somewhere to be found by the next request. So a page's stay begins at the
latest end of a request that was admitted before, and takes no room where that one still runs. Slots
lie between admissions; a stay that begins in one takes room at its end, and all that stay at the
end of a slot are at most what all tiers hold together. With that the bound of
`vsim.sim.bounds.prefix_tree` holds.

A preempted request looks its prefix up again at a time that is not kept: all that an earlier
request used counts as found by it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_tree import certify_prefixes
from vsim.sim.compiled import kernel
from vsim.sim.engine.page_keys import PageKeys, page_keys
from vsim.sim.engine.result import EngineResult
from vsim.sim.prefixes.belady_prices import belady_prices
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RunPrefixBound:
    """What no cache of the run's size finds more than, in its order of admission.

    Args:
        tokens: of completed requests' prompts.
        unbounded_tokens: what a cache without limits finds at most.
        tight: whether there are no better prices.
    """

    tokens: int
    unbounded_tokens: int
    tight: bool


def bound_run(run: "RunReuse", *, tight: bool) -> RunPrefixBound:
    """Certify what a run could have found.

    Args:
        run: what its requests could have found.
        tight: take the time that the best prices need.
    """
    known, fine = run.known, run.fine_tokens
    worth = Worth.of("tokens", run.once, lambda depth: fine, whole=True)
    blocks = sum(run.rooms)
    prices = belady_prices(run.once, blocks)
    room, best = fine * prices.room.astype(np.float64), prices.best
    if tight and not best:
        # most runs need none of it
        from vsim.sim.bounds.prefix_prices import solve_prefixes

        program = solve_prefixes(run.once, worth, blocks)
        room, best = program.prices, program.solved
    certificate = certify_prefixes(run.once, worth, blocks, room)
    freed = fine * int(known[run.again].sum())
    return RunPrefixBound(int(certificate.most) + freed, fine * int(known.sum()), best)


def bound_in_any_order(
    requests: Requests, engine: EngineResult, page_tokens: int, block_tokens: int
) -> RunPrefixBound:
    """Certify what a run could have found without room, groups of KV and order of admission.

    Of all requests that look a part up, the first one that has it computes it: it finds it only
    where some request has made it as its answer. Everything else may be found.

    Args:
        requests: the trace, with prefix blocks.
        engine: what happened.
        page_tokens: of a page.
        block_tokens: of the engine's block, a divisor of it.
    """
    fine, keys, served = _shared_parts(requests, engine, page_tokens, block_tokens)
    lengths = keys.named[served] // keys.ratio
    looked_up = requests.prompt_tokens[served] // (fine * keys.ratio)
    ids = int(keys.ids.max()) + 1 if len(keys.ids) else 0
    found = _had_by_others(keys.offsets[served], lengths, looked_up, keys.ids, ids)
    tokens = fine * keys.ratio * int(found)
    return RunPrefixBound(tokens, tokens, False)


@kernel
def _had_by_others(
    starts: _Ints, lengths: _Ints, looked_up: _Ints, ids: NDArray[np.int32], distinct: int
) -> int:
    """Ids looked up, less one for each that none of the requests only makes."""
    made, seen = np.zeros(distinct, np.bool_), np.zeros(distinct, np.bool_)
    total = 0
    for row in range(len(starts)):
        for i in range(lengths[row]):
            each = ids[starts[row] + i]
            if i < looked_up[row]:
                total += 1
                seen[each] = True
            else:
                made[each] = True
    for each in range(distinct):
        if seen[each] and not made[each]:
            total -= 1
    return total


@dataclass(frozen=True, slots=True, eq=False)
class RunReuse:
    """What requests of a run could have found of what came before, in order of admission.

    Args:
        order: int64[n], completed requests, as they were admitted.
        once: the runs that requests look up which were never preempted, in parts of blocks.
        again: bool[n], whether each was preempted.
        known: int64[n], the parts of each that an earlier one used.
        fine_tokens: of a part.
        rooms: parts that each tier holds.
    """

    order: _Ints
    once: PrefixReuse
    again: NDArray[np.bool_]
    known: _Ints
    fine_tokens: int
    rooms: tuple[int, ...]

    @classmethod
    def of(
        cls, requests: Requests, engine: EngineResult, page_tokens: int, block_tokens: int
    ) -> "RunReuse":
        """Take it from a run.

        Args:
            requests: the trace, with prefix blocks.
            engine: what happened.
            page_tokens: of a page.
            block_tokens: of the engine's block, a divisor of it.
        """
        fine, keys, served = _shared_parts(requests, engine, page_tokens, block_tokens)
        order = served[np.argsort(engine.admitted_ns[served], kind="stable")]
        admitted, ended = engine.admitted_ns[order], engine.last_token_ns[order]
        until = np.searchsorted(admitted, ended, side="right") - 1
        ratio = keys.ratio
        lengths = keys.named[order] // ratio
        looked_up = np.minimum(lengths, requests.prompt_tokens[order] // (fine * ratio))
        until = np.maximum(until, np.arange(len(order)))
        reuse = PrefixReuse.of_held(keys.offsets[order], lengths, looked_up, until, keys.ids)
        reuse = _in_parts(reuse, ratio)
        known = np.bincount(reuse.request, weights=reuse.count, minlength=len(order))
        again = engine.preemptions[order] > 0
        rooms = tuple(tier.capacity_pages * (page_tokens // fine) for tier in engine.tiers)
        return cls(order, _without(reuse, again), again, known.astype(np.int64), fine, rooms)


def _shared_parts(
    requests: Requests, engine: EngineResult, page_tokens: int, block_tokens: int
) -> tuple[int, PageKeys, _Ints]:
    """Tokens of the finest part that can be shared, the parts' keys, and int64 rows served.

    A cache of pages holds no more of such parts than it has room for.
    """
    fine = min(page_tokens, max(block_tokens, requests.block_tokens))
    keys = engine.keys if fine == page_tokens else None
    if keys is None:
        keys = page_keys(requests, fine, min(block_tokens, fine))
    return fine, keys, np.flatnonzero(engine.status == 0)


def compile_bound() -> None:
    """Compile what it takes, or load it from the cache, so that no run's time holds that."""
    each = np.arange(3, dtype=np.int64)
    one = np.ones(3, np.int64)
    reuse = PrefixReuse.of_held(each, one, one, each, np.array([0, 1, 0], np.int32))
    worth = Worth.of("tokens", reuse, lambda depth: 1)
    certify_prefixes(reuse, worth, 0, belady_prices(reuse, 0).room.astype(np.float64))
    _had_by_others(each, one, one, np.zeros(3, np.int32), 1)


def _in_parts(reuse: PrefixReuse, ratio: int) -> PrefixReuse:
    """Count in parts of which `ratio` make a block of the trace; they are found and kept alike."""
    if ratio == 1:
        return reuse
    return PrefixReuse(
        reuse.requests, reuse.blocks * ratio, reuse.request, reuse.last_use, reuse.depth * ratio,
        reuse.count * ratio, reuse.above * ratio,
    )  # fmt: skip


def _without(reuse: PrefixReuse, left_out: NDArray[np.bool_]) -> PrefixReuse:
    """Leave out the runs that some requests look up."""
    if not left_out.any():
        return reuse
    stays = ~left_out[reuse.request]
    columns = (reuse.request, reuse.last_use, reuse.depth, reuse.count, reuse.above)
    return PrefixReuse(reuse.requests, reuse.blocks, *(column[stays] for column in columns))
