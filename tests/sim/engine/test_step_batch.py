"""A step's batch is what following the operations says that it must be, without the engine's state.

The followed run keeps, for each slot, whose tokens were written there and how many; copies carry
that along. It never looks at the engine's arrays.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from tests.seeds import some

from vsim.sim.engine.backend import Completion, Operation, StepBatch
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.kept_batches import kept_batches
from vsim.sim.engine.run import collect, run_engine
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State
from vsim.traces.requests import Requests
from vsim.traces.validation.tables import faults_in

from .conftest import make_requests, make_state
from .worlds import World, draw_world

SEEDS = range(96)


@dataclass(frozen=True)
class Written:
    """What a slot holds: the first `tokens` of a request's page."""

    row: int
    page: int
    tokens: int


class Prefixes:
    """Which requests begin alike, by the trace alone."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.children: dict[int, list[int]] = {}
        for child, parent in enumerate(requests.parent.tolist()):
            if parent >= 0:
                self.children.setdefault(parent, []).append(child)

    def blocks(self, row: int) -> list[int]:
        """Ids of the full blocks of a prompt."""
        first, end = self.requests.prefix_offsets[row : row + 2].tolist()
        whole = int(self.requests.prompt_tokens[row]) // max(self.requests.block_tokens, 1)
        return self.requests.prefix_ids[first:end].tolist()[:whole]

    def named(self, row: int) -> list[list[int]]:
        """Chains that name tokens of a request: its own, and those that go on from its answer."""
        return [self.blocks(row)] + [
            chain for child in self.children.get(row, ()) for chain in self.named(child)
        ]

    def alike(self, row: int, other: int, tokens: int) -> bool:
        """Whether the first `tokens` of two requests are the same tokens."""
        if row == other:
            return True
        block = self.requests.block_tokens
        for one in self.named(row):
            for two in self.named(other):
                same = 0
                while same < min(len(one), len(two)) and one[same] == two[same]:
                    same += 1
                if same * block >= tokens:
                    return True
        return False


class FollowedBackend(SimulatedBackend):
    """A simulated backend that holds each batch against what was written and copied before."""

    def __init__(self, state: State, world: World) -> None:
        super().__init__(state)
        self.page_tokens = int(world.engine["page_tokens"])
        self.prefixes = Prefixes(world.requests)
        self.static = world.engine["batching"] == "static"
        ends = np.cumsum([int(tier["slots"]) for tier in state.arrays["t"]]).tolist()
        self.ranges = list(zip([0, *ends[:-1]], ends, strict=True))
        self.in_place = [True] + [tier.get("access") == "in_place" for tier in world.tiers[1:]]
        self.content: dict[int, Written] = {}
        self.copies: dict[int, Operation] = {}
        self.step: StepBatch | None = None
        self.totals: list[tuple[int, int]] = []
        self.shared = self.below = self.partly = self.owed = 0

    def submit(self, operation: Operation) -> None:
        if operation.kind == "copy":
            self.begin_copy(operation)
        elif operation.kind == "step":
            assert operation.batch is not None
            assert self.step is None, "two steps at one time"
            self.begin_step(operation.batch)
        else:
            assert operation.batch is None
        super().submit(operation)

    def wait(self) -> Completion | None:
        done = super().wait()
        if done is not None and done.kind == "copy":
            for serial in done.serials:
                copy = self.copies.pop(serial)
                for source, target in zip(
                    copy.sources.tolist(), copy.targets.tolist(), strict=True
                ):
                    self.content[target] = self.content[source]
        elif done is not None and done.kind == "step":
            assert self.step is not None
            self.end_step(self.step)
            self.step = None
        return done

    def tier_of(self, slot: int) -> int:
        (tier,) = (i for i, (first, end) in enumerate(self.ranges) if first <= slot < end)
        return tier

    def begin_copy(self, copy: Operation) -> None:
        for source, target in zip(copy.sources.tolist(), copy.targets.tolist(), strict=True):
            assert self.tier_of(source) == copy.source_tier
            assert self.tier_of(target) == copy.target_tier
            assert source in self.content, "nothing was ever written there"
            for other in self.copies.values():
                assert target not in other.targets, "two pages on their way to one slot"
                assert target not in other.sources, "overwritten while it is read"
                assert source not in other.targets, "read before it has come"
        assert len(set(copy.targets.tolist())) == len(copy.targets)
        self.copies[copy.serial] = copy

    def begin_step(self, batch: StepBatch) -> None:
        n, size = len(batch), self.page_tokens
        assert len(np.unique(batch.rows)) == n > 0
        assert batch.new_tokens.min() > 0
        assert batch.indptr.tolist() == [0, *np.cumsum(-(-batch.context_tokens // size)).tolist()]
        assert batch.indptr[-1] == len(batch.indices)
        full = np.diff(batch.indptr).astype(np.int64) - 1
        np.testing.assert_array_equal(full * size + batch.last_page_len, batch.context_tokens)
        assert batch.indptr.dtype == batch.indices.dtype == batch.last_page_len.dtype == np.int32
        on_their_way = {slot for copy in self.copies.values() for slot in copy.targets.tolist()}
        assert on_their_way.isdisjoint(batch.indices.tolist()), "attends to what has not come"
        written: list[int] = []
        copied = 0
        for i, row in enumerate(batch.rows.tolist()):
            before = int(batch.context_tokens[i] - batch.new_tokens[i])
            pages = batch.indices[batch.indptr[i] : batch.indptr[i + 1]].tolist()
            assert len(set(pages)) == len(pages)
            for page, slot in enumerate(pages):
                tier = self.tier_of(slot)
                assert self.in_place[tier], "a kernel can't read it there"
                self.below += tier > 0
                wanted = min(before - page * size, size)
                if wanted < size:
                    written.append(slot)
                if wanted > 0 and not self.static:
                    copied += self.check_page(row, page, slot, wanted)
        assert len(set(written)) == len(written), "two requests write into one page"
        being_read = {slot for copy in self.copies.values() for slot in copy.sources.tolist()}
        assert being_read.isdisjoint(written), "written while it is copied"
        # a request may stall or give way between the copy at its admission and its first step
        self.owed += batch.copied_tokens - copied
        assert self.owed >= 0, "tokens are there that nobody wrote or copied"
        self.partly += copied > 0
        self.step = batch

    def check_page(self, row: int, page: int, slot: int, wanted: int) -> int:
        """Hold a page against what lies there; returns the tokens copied into it in this step."""
        found = self.content.get(slot)
        if found is not None and found.page == page and found.tokens >= wanted:
            tokens = page * self.page_tokens + wanted
            if self.prefixes.alike(row, found.row, tokens):
                self.shared += found.row != row
                return 0
        assert 0 < wanted < self.page_tokens, "its tokens are not in this page"
        return wanted

    def end_step(self, batch: StepBatch) -> None:
        self.totals.append((int(batch.new_tokens.sum()), int(batch.context_tokens.sum())))
        for i, row in enumerate(batch.rows.tolist()):
            before = int(batch.context_tokens[i] - batch.new_tokens[i])
            for page in range(before // self.page_tokens, int(np.diff(batch.indptr)[i])):
                tokens = min(
                    int(batch.context_tokens[i]) - page * self.page_tokens, self.page_tokens
                )
                slot = int(batch.indices[batch.indptr[i] + page])
                self.content[slot] = Written(row, page, tokens)


@cache
def followed(seed: int) -> tuple[int, int, int]:
    """Run a world, its batches held against the operations and against the log of its steps.

    Returns:
        Pages that were shared, those read below HBM, and steps before which parts were copied.
    """
    world = draw_world(seed)
    state = world.state()
    backend = FollowedBackend(state, world)
    end = drive(state, backend)
    log = collect(state, end, 0).step_log
    assert log is not None
    new, context = zip(*backend.totals, strict=True) if backend.totals else ((), ())
    np.testing.assert_array_equal(log.prefill_tokens + log.decode_tokens, new)
    np.testing.assert_array_equal(log.context_tokens, context)
    return backend.shared, backend.below, backend.partly


@pytest.mark.parametrize("seed", some(SEEDS, 8))
def test_a_batch_is_what_the_operations_before_it_left_in_its_pages(seed: int) -> None:
    followed(seed)


def test_the_worlds_share_pages_read_below_hbm_and_copy_parts_of_pages() -> None:
    runs = [followed(seed) for seed in some(SEEDS, 8)]
    shared, below, partly = map(sum, zip(*runs, strict=True))
    assert min(shared, below, partly) > 0, (shared, below, partly)


@pytest.mark.parametrize("seed", some(SEEDS[::4], 3))
def test_the_log_of_all_operations_holds_the_same_batches(seed: int) -> None:
    world = replace(draw_world(seed), operations="all")
    state = world.state()
    batches = kept_batches(state)
    log = run_engine(world.state()).operations
    assert log is not None
    numbered = log.set_column(0, "id", pa.array(np.arange(log.num_rows)))
    assert list(faults_in(numbered, "operations", "log", {})) == []
    rows = log.to_pylist()
    steps = [row for row in rows if row["kind"] != "copy"]
    computes = [row for row in steps if row["kind"] == "compute"]
    assert len(computes) == len(batches)
    attends = defaultdict(list)
    for row in steps:
        if row["kind"] == "attend":
            attends[row["step"]].append(row)
    for batch, row in zip(batches, computes, strict=True):
        assert row["rows"] == batch.rows.tolist()
        assert row["new_tokens"] == batch.new_tokens.tolist()
        assert row["context_tokens"] == batch.context_tokens.tolist()
        assert row["samples"] == batch.samples.astype(int).tolist()
        read: list[list[int]] = [[] for _ in batch.rows]
        for attend in attends[row["step"]]:
            ends = np.cumsum(attend["row_pages"]).tolist()
            for i, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                read[i] += attend["pages"][first:end]
        wanted = np.split(batch.indices, batch.indptr[1:-1])
        assert [sorted(pages) for pages in read] == [sorted(pages.tolist()) for pages in wanted]
    for row in rows:
        assert row["kind"] == "compute" or row["rows"] == []
        assert row["kind"] == "attend" or row["row_pages"] == []


def test_a_chunked_prompt_beside_a_decode_has_these_batches() -> None:
    """Pages of 16 tokens, 32 tokens a step: 20 tokens at once, then 40 in two chunks."""
    requests = make_requests([0, 0], [20, 40], [3, 1])
    state = make_state(requests, page_tokens=16, token_budget=32, profile="vsim")
    batches = kept_batches(state)
    found = [
        (b.rows.tolist(), b.new_tokens.tolist(), b.context_tokens.tolist(), b.samples.tolist(),
         b.indptr.tolist(), b.last_page_len.tolist())
        for b in batches
    ]  # fmt: skip
    assert found == [
        ([0, 1], [20, 12], [20, 12], [True, False], [0, 2, 3], [4, 12]),
        ([0, 1], [1, 28], [21, 40], [True, True], [0, 2, 5], [5, 8]),
        ([0], [1], [22], [True], [0, 2], [6]),
    ]


def test_a_static_batch_computes_its_padding() -> None:
    requests = make_requests([0, 0], [20, 40], [3, 1])
    state = make_state(requests, page_tokens=16, batching="static", prefix_caching=False)
    batches = kept_batches(state)
    assert [b.new_tokens.tolist() for b in batches] == [[40, 40], [1, 1], [1, 1]]
    assert [b.context_tokens.tolist() for b in batches] == [[40, 40], [41, 41], [42, 42]]


def test_equal_prefixes_lie_in_the_same_slots() -> None:
    second = 10**10
    requests = make_requests([0, second], [40, 40], [2, 2], [[7, 8], [7, 9]], 16)
    state = make_state(requests, page_tokens=16)
    batches = kept_batches(state)
    first, last = batches[0], batches[-1]
    assert first.indices[0] == last.indices[0]
    assert first.indices[1] != last.indices[1]
