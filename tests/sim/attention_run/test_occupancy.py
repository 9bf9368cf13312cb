"""What each tier holds, step by step, is what counting page by page gives."""

from pathlib import Path

import numpy as np
import pytest
from tests.sim.engine.round_machine import round_machine

from vsim.sim.attention_run.batch import Batch, load_batch
from vsim.sim.attention_run.memory import Memory
from vsim.sim.attention_run.occupancy import occupancy
from vsim.sim.attention_run.placing import placements
from vsim.sim.attention_run.prefill import SlowTokens, chunks
from vsim.sim.engine.topology import topology
from vsim.sim.placement.case import Case
from vsim.sim.scenario.scenario import Workload

from .small import COLUMNS, MODEL, PAGE_TOKENS, ROUND, trace, write

HBM_PAGES = 30


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    names = write(tmp_path, trace(47, 35), trace(60, 30, seed=1), trace(9, 33, seed=2))
    workload = Workload.model_validate({"attention": names, "selection": {"sparsity": 0.5}})
    return load_batch(workload, MODEL, "bf16", tmp_path)


def case_of(batch: Batch, *, exclusive: bool) -> Case:
    net = topology(round_machine(), ROUND, ("hbm", "lpddr"))
    tiers = Memory.of(net, ROUND).two_tiers(hbm_pages=HBM_PAGES, exclusive=exclusive, norm=np.inf)
    return Case(batch.reads, tiers, "first-fill", batch.seen)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("placement", ["static", "lru", "learned-prefetch", "belady"])
@pytest.mark.parametrize("budget", [7, 64, 1_000])
def test_tiers_hold_what_counting_says(
    batch: Batch, placement: str, exclusive: bool, budget: int
) -> None:
    case, reads = case_of(batch, exclusive=exclusive), batch.reads
    schedule = placements()[placement](case, 0).schedule
    moves = case.cost(schedule)
    parts = chunks(batch.prompt_tokens, budget, True)
    start = case.resident()
    found = occupancy(batch, parts, start, moves.occupancy, keeps_copies=not exclusive)
    written = np.zeros(len(batch), np.int64)
    first_token = reads.position * PAGE_TOKENS
    for step in range(parts.steps):
        for i in np.flatnonzero(parts.step == step):
            written[parts.request[i]] = parts.end[i]
        begun = (reads.born < 0) & (first_token < written[reads.request])
        assert found.hbm_pages[step] == (begun & start).sum()
        below = begun & ~start if exclusive else begun
        assert found.slow_pages[step] == below.sum()
        assert found.used_tokens[step] == written.sum()
    held = schedule.resident(reads.steps, reads.n_pages)
    for t in range(reads.steps):
        below = (reads.born < t) & ~held[t] if exclusive else reads.born <= t
        step = parts.steps + t
        assert found.hbm_pages[step] == held[t].sum() <= HBM_PAGES
        assert found.slow_pages[step] == below.sum()
        assert found.used_tokens[step] == (batch.prompt_tokens + t + 1).sum()
        assert found.reserved_tokens[step] * COLUMNS == (reads.born <= t).sum() * PAGE_TOKENS
    assert (found.used_tokens <= found.reserved_tokens).all()


def test_tokens_below_are_those_of_pages_that_are_not_to_stay(batch: Batch) -> None:
    case, reads = case_of(batch, exclusive=True), batch.reads
    start = case.resident()
    slow = SlowTokens(batch, start)
    for request in range(len(batch)):
        mine = np.flatnonzero((reads.request == request) & (reads.born < 0) & ~start)
        for tokens in range(int(batch.prompt_tokens[request]) + 1):
            inside = np.clip(tokens - reads.position[mine] * PAGE_TOKENS, 0, PAGE_TOKENS).sum()
            assert slow.up_to(np.array([request]), np.array([tokens])) == [inside]
