"""Miss-ratio curves from one pass, each as a ratio to a plain walk over the same references.

Ten million references to blocks of prompts: of conversations whose prompts have hundreds of blocks,
as agents' have, and of short ones with eight a turn, where there is most to do for a reference.
Hits are asserted exactly, so that a faster version that does other work is caught.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
REFERENCES = 10_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """Conversations that take turns at random, and what a walk and a pass over them find.

    Args:
        open_talks: conversations at a time; each turn goes to one of them.
        new_blocks: that a turn adds.
        turns: of a conversation, then another takes its place.
        hits: of LRU caches of 1,000, 10,000 and 100,000 blocks.
        allowed: walks that a pass may take; 5 and 10 were measured, where a walk went over 950 and
            360 million references/s.
    """

    open_talks: int
    new_blocks: int
    turns: int
    hits: list[int]
    allowed: float


CASES = {
    "agents": Case(50, 40, 40, [242_920, 2_371_640, 9_498_960], 10.0),
    "chats": Case(2_000, 8, 4, [149_104, 1_430_832, 5_943_168], 20.0),
}


@kernel
def walk(ids: _Ints, counts: _Ints) -> None:
    """Count each block's references: one random read and write each, nothing to decide."""
    for i in range(len(ids)):
        counts[ids[i]] += 1


def trace(case: Case) -> tuple[_Ints, _Ints]:
    """Offsets and ids; a block's id is its conversation's first and its place."""
    draw = np.random.Generator(np.random.PCG64(1))
    most = case.turns * case.new_blocks
    fresh, made = case.open_talks, 0
    talks = [(talk * most, 0) for talk in range(case.open_talks)]
    parts, lengths = [], []
    while made < REFERENCES:
        at = int(draw.integers(case.open_talks))
        first, turn = talks[at]
        length = (turn + 1) * case.new_blocks
        parts.append(np.arange(first, first + length))
        lengths.append(length)
        made += length
        talks[at] = (first, turn + 1)
        if turn + 1 == case.turns:
            talks[at] = (fresh * most, 0)
            fresh += 1
    return np.cumsum([0, *lengths]), np.concatenate(parts)


@pytest.mark.parametrize("name", CASES)
def test_curve(benchmark: Any, name: str) -> None:
    case = CASES[name]
    offsets, ids = trace(case)
    counts = np.zeros(int(ids.max()) + 1, np.int64)
    walk(ids[:1], counts)
    walks = []
    for _ in range(5):
        start = time.process_time()
        walk(ids, counts)
        walks.append(time.process_time() - start)

    def scanned() -> PrefixReuse:
        reuse = PrefixReuse.of(offsets, ids)
        reuse.lru_curve()
        return reuse

    reuse = benchmark.pedantic(scanned, rounds=3, iterations=1, warmup_rounds=1)
    assert reuse.lru_hits(np.array([1_000, 10_000, 100_000])).tolist() == case.hits
    if benchmark.enabled:
        start = time.process_time()
        scanned()
        spent_s = time.process_time() - start
        benchmark.extra_info["cpu_s"] = round(spent_s, 2)
        benchmark.extra_info["walks"] = round(spent_s / min(walks), 2)
        benchmark.extra_info["million_references_per_s"] = round(len(ids) / spent_s / 1e6, 1)
        print(
            f"{name}: {len(ids):,} references in {spent_s:.2f} s, {spent_s / min(walks):.1f} walks"
        )
        assert spent_s / min(walks) < case.allowed
