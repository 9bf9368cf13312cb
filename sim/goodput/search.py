"""The search for the highest load that meets an SLO, as a function of what is known so far.

Which loads to try next follows from the loads tried before and from nothing else: not from how
many processes there are, nor from who was done first. The bracket is found by doubling, and halved,
or cut in three, until two neighbours of the ladder stand side by side, the lower one meeting the
SLO and the upper one not: each a run. Latency is not always monotone in load (a fuller batch, a
cache that is warmer when users come sooner), so two further loads are tried, an eighth of an octave
beyond either. Where one contradicts the bracket the search goes on below the lowest load that
failed, so the answer is the highest load under which no tried load failed, and it says that the
rule was broken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vsim.sim.goodput.load import HIGHEST_RUNG, LOWEST_RUNG, RUNGS_PER_OCTAVE

PROBE_RUNGS: Final = RUNGS_PER_OCTAVE // 8

Met = Mapping[int, bool]
"""By rung, whether the run met the SLO."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Where a search ended.

    Args:
        below: the highest rung that meets the SLO with no failure under it; None if none does.
        above: the lowest rung that fails; None where every load is met.
        monotone: whether no rung above a failed one meets it.
    """

    below: int | None
    above: int | None
    monotone: bool


def bracket(met: Met) -> Bracket:
    """Say between which rungs the boundary lies, from at least one run."""
    above = min((rung for rung, good in met.items() if not good), default=None)
    below = max(
        (rung for rung, good in met.items() if good and (above is None or rung < above)),
        default=None,
    )
    monotone = above is None or not any(good for rung, good in met.items() if rung > above)
    return Bracket(below, above, monotone)


def next_rungs(met: Met, start: int, at_once: int) -> tuple[int, ...]:
    """Say which rungs to try next; none where the search is over.

    Args:
        met: of every rung tried, whether it met the SLO.
        start: the rung to begin at.
        at_once: how many to try side by side while the bracket is cut, 1 or 2.
    """
    if not met:
        return (start,)
    found = bracket(met)
    if found.above is None:
        top = max(met)
        return () if top == HIGHEST_RUNG else (min(top + _jump(top, start), HIGHEST_RUNG),)
    if found.below is None:
        bottom = min(met)
        return () if bottom == LOWEST_RUNG else (max(bottom - _jump(bottom, start), LOWEST_RUNG),)
    gap = found.above - found.below
    if gap > 1:
        parts = min(at_once, gap - 1) + 1
        return tuple(found.below + gap * part // parts for part in range(1, parts))
    probes = (found.below - PROBE_RUNGS, found.above + PROBE_RUNGS)
    return tuple(r for r in probes if LOWEST_RUNG <= r <= HIGHEST_RUNG and r not in met)


def _jump(rung: int, start: int) -> int:
    """An octave first, then twice as far as one has come."""
    return max(RUNGS_PER_OCTAVE, abs(rung - start))
