"""A ring of pinned buffers: nothing is overwritten before it was copied, whatever the sizes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.hwbackend.fake.control import Fake
from tests.seeds import examples

from vsim.hwbackend.cuda.buffers import DeviceBuffer, copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.memory.files import PageFile
from vsim.hwbackend.memory.staging import Staging

BUFFER = 8192


def some_bytes(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@settings(
    deadline=None, database=None, max_examples=examples(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    count=st.integers(1, 4),
    sizes=st.lists(st.tuples(st.booleans(), st.integers(0, 5 * BUFFER)), max_size=5),
)
def test_arrays_go_up_and_down_whole(
    stream: Stream, count: int, sizes: list[tuple[bool, int]]
) -> None:
    with Staging(count, BUFFER) as ring, DeviceBuffer(5 * BUFFER) as there:
        expected = some_bytes(5 * BUFFER, 0)
        ring.upload(there.address, expected, stream)
        for seed, (up, size) in enumerate(sizes, 1):
            if up:
                source = some_bytes(size, seed)
                ring.upload(there.address, source, stream)
                expected[:size] = source
                source[:] = 0  # it may be changed at once
            found = np.zeros(size, np.uint8)
            ring.download(found, there.address, stream)
            assert (found == expected[:size]).all()


def test_an_upload_does_not_wait_for_its_last_copies(fake: Fake, stream: Stream) -> None:
    with Staging(2, BUFFER) as ring, DeviceBuffer(4 * BUFFER) as there:
        ring.upload(there.address, some_bytes(4 * BUFFER, 1), stream)
        assert fake.pending() > 0


def test_a_download_copies_ahead_while_the_host_empties(fake: Fake, stream: Stream) -> None:
    with Staging(3, BUFFER) as ring, DeviceBuffer(9 * BUFFER) as there:
        begin = fake.call_count()
        ring.download(np.zeros(9 * BUFFER, np.uint8), there.address, stream)
        calls = [name for name in fake.calls(begin) if "Memcpy" in name or "EventSync" in name]
        # Waits before the first three copies are for uploads; none of them is for a copy down.
        assert calls[:6] == ["cuEventSynchronize", "cuMemcpyAsync"] * 3


def test_a_file_is_read_to_the_gpu_and_written_from_it(stream: Stream, tmp_path: Path) -> None:
    size = 5 * BUFFER
    with (
        PageFile(tmp_path / "pages", 4 * size, direct=False) as file, Staging(2, BUFFER) as ring,
        DeviceBuffer(size) as first, DeviceBuffer(size) as second,
    ):  # fmt: skip
        wanted = some_bytes(size, 3)
        ring.upload(first.address, wanted, stream)
        ring.store(file, size, first.address, size, stream)
        ring.load(second.address, file, size, size, stream)
        found = np.zeros(size, np.uint8)
        ring.download(found, second.address, stream)
        assert (found == wanted).all()


def test_an_array_that_is_not_contiguous_can_be_copied_up_but_not_into(stream: Stream) -> None:
    with Staging(2, BUFFER) as ring, DeviceBuffer(BUFFER) as there:
        odd = np.arange(200, dtype=np.int32).reshape(10, 20)[:, ::2]
        ring.upload(there.address, odd, stream)
        found = np.zeros((10, 10), np.int32)
        ring.download(found, there.address, stream)
        assert (found == odd).all()
        with pytest.raises(ValueError, match="must be contiguous"):
            ring.download(odd, there.address, stream)


@pytest.mark.parametrize("what", ["upload", "download", "load", "store"])
def test_a_ring_can_be_used_again_after_any_call_has_failed(
    fake: Fake, tmp_path: Path, what: str
) -> None:
    size = 5 * BUFFER
    with Context(0), PageFile(tmp_path / "pages", size, direct=False) as file, Stream() as stream:
        wanted, found = some_bytes(size, 3), np.zeros(size, np.uint8)
        with Staging(2, BUFFER) as ring, DeviceBuffer(size) as there:
            act = {
                "upload": lambda: ring.upload(there.address, wanted, stream),
                "download": lambda: ring.download(found, there.address, stream),
                "load": lambda: ring.load(there.address, file, 0, size, stream),
                "store": lambda: ring.store(file, 0, there.address, size, stream),
            }[what]
            ring.upload(there.address, wanted, stream)
            ring.store(file, 0, there.address, size, stream)
            begin = fake.call_count()
            act()
            calls = fake.calls(begin)
            for at, name in enumerate(calls):
                fake.fail("", at + 1, 304)
                with pytest.raises(CudaError, match=name):
                    act()
                assert fake.failures_left() == 0
                fake.heal()
                act()
                found[:] = 0
                ring.download(found, there.address, stream)
                assert (found == wanted).all()


def test_what_a_failed_download_left_under_way_does_not_get_into_an_upload(
    fake: Fake, stream: Stream
) -> None:
    with Staging(1, BUFFER) as ring, DeviceBuffer(BUFFER) as old, DeviceBuffer(BUFFER) as there:
        ring.upload(old.address, some_bytes(BUFFER, 1), stream)
        found = np.zeros(BUFFER, np.uint8)
        fake.fail("cuEventRecord")
        with pytest.raises(CudaError):
            ring.download(found, old.address, stream)
        wanted = some_bytes(BUFFER, 2)
        ring.upload(there.address, wanted, stream)
        ring.download(found, there.address, stream)
        assert (found == wanted).all()


def test_every_failure_of_making_and_closing_gives_all_back(fake: Fake) -> None:
    with Context(0):
        begin = fake.call_count()
        Staging(3, BUFFER).close()
        for at, name in enumerate(fake.calls(begin)):
            fake.fail("", at + 1, 304)
            ring = None

            def work() -> Staging:
                made = Staging(3, BUFFER)
                nonlocal ring
                ring = made
                made.close()
                return made

            with pytest.raises(CudaError, match=name):
                work()
            if ring is not None:
                ring.close()
            assert fake.live() == {"context": 1}


def test_closing_waits_for_copies_that_still_read_the_buffers(fake: Fake, stream: Stream) -> None:
    with DeviceBuffer(BUFFER) as there, DeviceBuffer(BUFFER) as other:
        ring = Staging(1, BUFFER)
        ring.upload(there.address, np.full(BUFFER, 7, np.uint8), stream)
        copy(other.address, there.address, BUFFER, stream)
        ring.close()
        ring.close()
        assert fake.hazards() == 0


@pytest.mark.parametrize(("count", "size"), [(0, BUFFER), (2, 0)])
def test_a_ring_of_nothing_is_refused(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="stage nothing"):
        Staging(count, size)
