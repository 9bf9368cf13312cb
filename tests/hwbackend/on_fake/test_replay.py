"""The whole engine on CUDA's own calls: the same decisions, and pages where the engine says."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tests.hwbackend.fake.control import Fake
from tests.hwbackend.replay.test_clocked_backend import Clock, lasting
from tests.seeds import some
from tests.sim.engine.worlds import World, draw_world

from vsim.hwbackend.cuda.buffers import download
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import devices
from vsim.hwbackend.cuda.places import place_of
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.memory.slots import TierSlots
from vsim.hwbackend.replay.clocked_backend import ClockedBackend, Ticket
from vsim.hwbackend.replay.contents import Contents, page_of
from vsim.hwbackend.replay.cuda_carrier import CudaCarrier
from vsim.hwbackend.replay.disk import DiskRoom, DiskSlots
from vsim.hwbackend.replay.page_names import PageNames
from vsim.hwbackend.replay.rooms import MappedRoom, PagedRoom, PageRoom
from vsim.sim.engine.backend import Operation, StepBatch
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import collect
from vsim.sim.engine.state import State

PLACES = ("device:0", "device:1", "host:0", "host:1")
CHUNK = 2 << 20


def tier_slots(state: State) -> list[TierSlots]:
    slots = state.arrays["t"]["slots"].tolist()
    pairs = zip(state.tier_names, PLACES, slots, strict=False)
    return [TierSlots(name, place_of(place), count) for name, place, count in pairs]


class ReadingWork:
    """In place of kernels: reads, where they would, the pages that were full before the step."""

    def __init__(self, room: PageRoom, names: PageNames, page_tokens: int) -> None:
        self.room, self.names, self.page_tokens = room, names, page_tokens
        self.read = self.launched = self.closed = 0

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        size = self.room.slot_bytes
        for i, row in enumerate(batch.rows.tolist()):
            full = int(batch.context_tokens[i] - batch.new_tokens[i]) // self.page_tokens
            for page in {0, full // 2, full - 1} & set(range(full)):
                unit = int(batch.indices[batch.indptr[i] + page])
                found = download(
                    np.empty(size // 4, np.uint32), self.room.base + unit * size, stream
                )
                assert np.array_equal(found, page_of(self.names.of(row, page), size // 4))
                self.read += 1

    def launch(self, stream: Stream) -> None:
        self.launched += 1

    def verify(self, stream: Stream) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class Both:
    """Done when a time has come and the GPU is done, too."""

    clock: Clock
    end: int
    body: int
    inner: Ticket
    host_ns: int = 0

    def done(self) -> bool:
        if self.clock.now < self.end:
            return False
        while not self.inner.done():  # a query does one piece of what is queued
            pass
        return True

    def took_ns(self) -> int:
        return self.body

    def finish(self) -> None:
        self.inner.finish()


class Delayed:
    """Lets what a carrier does take given times."""

    def __init__(
        self, carrier: CudaCarrier, clock: Clock, took: dict[int, int], body: dict[int, int]
    ) -> None:
        self.carrier, self.clock, self.took, self.body = carrier, clock, took, body

    def prepare(self, operation: Operation) -> None:
        self.carrier.prepare(operation)

    def start(self, operation: Operation) -> Ticket:
        end = self.clock.now + self.took[operation.serial]
        self.clock.ends.append(end)
        return Both(
            self.clock, end, self.body.get(operation.serial, 0), self.carrier.start(operation)
        )

    def close(self) -> None:
        self.carrier.close()


def on_driver(
    world: World,
    context: Context,
    took: dict[int, int],
    body: dict[int, int],
    *,
    mapped: bool,
    disk: Path | None = None,
) -> tuple[EngineResult, ReadingWork, Contents]:
    """Run a world on CUDA's calls, in given times; its lowest tier on a disk where one is named."""
    state = world.state()
    page_tokens = int(world.engine["page_tokens"])
    names = PageNames(state)
    tiers = tier_slots(state)
    gpu = devices()[:1]
    room: PageRoom
    if mapped:
        longest = int((world.requests.prompt_tokens + world.requests.output_tokens).max())
        rows = min(int(world.engine["max_running_requests"]), len(world.requests))
        room = MappedRoom(CHUNK, tiers, gpu, requests=rows, pages=longest // page_tokens + 2)
    elif disk is not None:
        memory = PagedRoom(4096, tiers[:-1], CHUNK, gpu)
        last = DiskSlots(tiers[-1].name, tiers[-1].slots, disk, direct=False)
        room = DiskRoom(memory, sum(tier.slots for tier in tiers[:-1]), last)
    else:
        room = PagedRoom(4096, tiers, CHUNK, gpu)
    try:
        work, contents = ReadingWork(room, names, page_tokens), Contents(names, page_tokens)
        clock = Clock()
        carrier = Delayed(CudaCarrier(context, room, work, contents), clock, took, body)
        backend = BookedBackend(state, ClockedBackend(carrier, clock, clock.pause))
        try:
            end = drive(state, backend)
        finally:
            backend.close()
        with Stream() as stream:
            contents.look_at_all(room, stream)
    finally:
        room.close()
    return collect(state, end, 0), work, contents


def small(seed: int) -> World:
    world = draw_world(seed)
    return replace(world, engine=world.engine | {"loading": "always"}, operations="all")


@pytest.mark.parametrize("seed", some(range(12), 2))
def test_simulated_times_on_cuda_s_calls_give_the_simulated_run_and_right_pages(
    seed: int, context: Context
) -> None:
    world = small(seed)
    recorder, took, body = lasting(world)
    simulated = collect(recorder._state, recorder.completions[-1].at_ns, 0)
    found, work, contents = on_driver(world, context, took, body, mapped=False)
    for name in ("admitted_ns", "first_token_ns", "last_token_ns", "hit_tokens", "preemptions"):
        np.testing.assert_array_equal(getattr(simulated, name), getattr(found, name), name)
    assert simulated.tiers == found.tiers
    assert work.launched == simulated.counters["steps"]
    assert contents.checked > 0


@pytest.mark.parametrize("seed", some([4, 6], 2))
def test_pages_of_the_lowest_tier_on_a_disk_are_right_and_decisions_as_simulated(
    seed: int, context: Context, fake: Fake, tmp_path: Path
) -> None:
    """Threads carry the copies out; when they end is given."""
    world = small(seed)
    recorder, took, body = lasting(world)
    simulated = collect(recorder._state, recorder.completions[-1].at_ns, 0)
    found, work, contents = on_driver(world, context, took, body, mapped=False, disk=tmp_path)
    np.testing.assert_array_equal(simulated.last_token_ns, found.last_token_ns)
    assert simulated.tiers == found.tiers
    assert found.tiers[-1].written_bytes > 0
    assert found.tiers[-1].read_bytes > 0
    assert work.launched == simulated.counters["steps"]
    assert contents.checked > 0
    assert list(tmp_path.iterdir()) == []


def test_pages_that_keep_their_addresses_hold_what_they_should(context: Context) -> None:
    """Few pages, for each is a chunk of 2 MiB, and they are all looked at again and again."""
    world = small(11)
    requests = world.requests.head(6)
    settings = {"page_tokens": 128, "max_running_requests": 3, "batching": "continuous"}
    engine = world.engine | settings | {"prefix_caching": True}
    world = replace(world, requests=requests, engine=engine, pacing="arrivals")
    recorder, took, body = lasting(world)
    simulated = collect(recorder._state, recorder.completions[-1].at_ns, 0)
    found, work, _ = on_driver(world, context, took, body, mapped=True)
    np.testing.assert_array_equal(simulated.last_token_ns, found.last_token_ns)
    assert work.read > 0
    assert sum(tier.read_bytes for tier in found.tiers[1:]) > 0, "nothing was ever promoted"
    assert work.room.mapped > 0
