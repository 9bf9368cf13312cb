"""Random mapping, moving, growing and unmapping, held against a model, with failures in between."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.hwbackend.fake.control import Fake
from tests.hwbackend.on_fake.conftest import LIBRARY
from tests.hwbackend.on_fake.world import CHUNK, PLACES
from tests.seeds import examples

from vsim.hwbackend.cuda.buffers import copy, download, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError, OutOfMemory
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.chunks import Chunk, ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.hwbackend.memory.recovery import retry_after_draining

ROOM = 6
LIMIT = 8 * CHUNK  # of each place
places = st.sampled_from(PLACES)
numbers = st.integers(0, ROOM - 1)


class Mappings(RuleBasedStateMachine):
    """One range over pools of three places. `pages` is the model: place and word of each index."""

    def __init__(self) -> None:
        super().__init__()
        assert LIBRARY is not None
        self.fake = Fake(LIBRARY)
        self.fake.reset()
        for place in PLACES:
            self.fake.limit(str(place), LIMIT)
        self.context = Context(0)
        self.stream, self.fence = Stream(), Event()
        self.pools = {place: ChunkPool(place, CHUNK) for place in PLACES}
        self.range = AddressRange(ROOM, CHUNK, [self.context.device])
        self.staging = AddressRange(1, CHUNK, [self.context.device])
        self.pages: dict[int, tuple[object, int]] = {}
        self.words = 0

    def take(self, wanted: list[object]) -> list[Chunk] | None:
        taken: list[Chunk] = []
        try:
            for place in wanted:
                pool = self.pools[place]  # type: ignore[index]
                taken.append(retry_after_draining(pool.take, self.pools.values()))
        except OutOfMemory:
            self.give(taken)
            return None
        return taken

    def give(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.pools[chunk.place].give(chunk)

    def write(self, index: int, place: object) -> None:
        self.words += 1
        word = self.words % 251 + 1
        for at in self.ends(index):
            fill(at, word, 64, self.stream)
        self.pages[index] = (place, word)

    def ends(self, index: int) -> tuple[int, int]:
        address = self.range.address(index)
        return address, address + CHUNK - 64

    @rule(at=numbers, wanted=st.lists(places, min_size=1, max_size=3))
    def map(self, at: int, wanted: list[object]) -> None:
        chunks = self.take(wanted)
        if chunks is None:
            return
        indices = range(at, at + len(chunks))
        if indices.stop <= ROOM and not any(index in self.pages for index in indices):
            self.range.map(at, chunks)
            for index, place in zip(indices, wanted, strict=True):
                self.write(index, place)
            return
        try:
            self.range.map(at, chunks)
        except ValueError:
            self.give(chunks)
        else:
            raise AssertionError("mapped over something")

    @rule(wanted=st.lists(places, min_size=1, max_size=2))
    def grow(self, wanted: list[object]) -> None:
        end = max(self.pages, default=-1) + 1
        if end + len(wanted) > ROOM or (chunks := self.take(wanted)) is None:
            return
        assert self.range.grow(chunks) == end
        for index, place in enumerate(wanted, end):
            self.write(index, place)

    @precondition(lambda self: self.pages)
    @rule(which=st.integers(0, 99), place=places, fails=st.none() | st.integers(1, 6))
    def move(self, which: int, place: object, fails: int | None) -> None:
        index = sorted(self.pages)[which % len(self.pages)]
        if (chunks := self.take([place])) is None:
            return
        self.staging.map(0, chunks)
        copy(self.staging.address(0), self.range.address(index), CHUNK, self.stream)
        self.fence.record(self.stream)
        self.staging.unmap(0, 1, self.fence)
        begin = self.fake.call_count()
        if fails is not None:
            self.fake.fail("", fails, 304)
        try:
            old = self.range.remap(index, chunks[0], self.fence)
        except CudaError:
            self.give(chunks)
        else:
            self.give([old])
            self.pages[index] = (place, self.pages[index][1])
            assert fails is None or self.fake.call_count() - begin < fails
        self.fake.heal()

    @precondition(lambda self: self.pages)
    @rule(which=st.integers(0, 99), most=st.integers(1, 3))
    def unmap(self, which: int, most: int) -> None:
        index = sorted(self.pages)[which % len(self.pages)]
        count = 1
        while count < most and index + count in self.pages:
            count += 1
        self.fence.record(self.stream)
        chunks = self.range.unmap(index, count, self.fence)
        assert [chunk.place for chunk in chunks] == [
            self.pages.pop(at)[0] for at in range(index, index + count)
        ]
        self.give(chunks)

    @rule(place=places)
    def drain(self, place: object) -> None:
        self.pools[place].drain()  # type: ignore[index]

    @rule(which=st.integers(0, 99))
    def overwrite(self, which: int) -> None:
        if self.pages:
            index = sorted(self.pages)[which % len(self.pages)]
            self.write(index, self.pages[index][0])

    @invariant()
    def everything_is_where_the_model_says(self) -> None:
        found = np.zeros(64, np.uint8)
        for index in range(ROOM):
            chunk = self.range.chunk(index)
            assert (chunk is not None) == (index in self.pages)
            if chunk is not None:
                place, word = self.pages[index]
                assert chunk.place == place
                for at in self.ends(index):
                    assert (download(found, at, self.stream) == word).all()
        assert self.range.mapped_bytes == len(self.pages) * CHUNK
        live = self.fake.live()
        assert live.get("mapping", 0) == len(self.pages)
        for place, pool in self.pools.items():
            assert pool.taken_bytes == CHUNK * sum(p == place for p, _ in self.pages.values())
            assert self.fake.used(str(place)) == pool.taken_bytes + pool.free_bytes <= LIMIT

    def teardown(self) -> None:
        for chunk in self.range.close():
            self.pools[chunk.place].give(chunk)
        for held in (*self.pools.values(), self.staging, self.fence, self.stream, self.context):
            held.close()
        assert self.fake.live() == {}
        assert self.fake.hazards() == 0


Mappings.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=25, deadline=None, database=None
)
test_random_mappings_agree_with_a_model = Mappings.TestCase
