"""The fake driver does what CUDA's documentation says of the real one, and counts what is alive."""

import ctypes

import numpy as np
import pytest
from cuda.bindings import nvrtc
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.cuda.buffers import DeviceBuffer, PinnedBuffer, copy, download, fill, upload
from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import can_access, devices, granularity
from vsim.hwbackend.cuda.errors import CudaError, DeviceLost, NoDriver, OutOfMemory
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.places import device_place, host_place
from vsim.hwbackend.cuda.streams import Event, Stream

MiB = 1 << 20


def test_two_devices_describe_themselves(fake: Fake) -> None:
    first, second = devices()
    assert first.name == "Fake H200"
    assert first.capability == (9, 0)
    assert (first.multiprocessors, first.l2_bytes) == (132, 60 * MiB)
    assert (first.host, second.host) == (host_place(0), host_place(1))
    assert can_access(first, second)
    assert {granularity(place) for place in (device_place(1), host_place(1))} == {2 * MiB}


def test_a_copy_is_done_when_something_waits_for_it_and_not_before(
    fake: Fake, stream: Stream
) -> None:
    with DeviceBuffer(64) as buffer, PinnedBuffer(64) as there:
        fill(buffer.address, 7, 64, stream)
        copy(there.address, buffer.address, 64, stream)
        seen = there.array(np.uint8)
        assert not seen.any()
        assert fake.pending() == 2
        stream.synchronize()
        assert (seen == 7).all()


def test_a_query_says_at_least_once_that_work_is_not_done(fake: Fake, stream: Stream) -> None:
    with DeviceBuffer(64) as buffer:
        assert stream.done()
        fill(buffer.address, 7, 64, stream)
        assert [stream.done(), stream.done()] == [False, True]


def test_an_event_orders_two_streams(fake: Fake, stream: Stream) -> None:
    with Stream() as other, Event() as event, DeviceBuffer(64) as buffer:
        fill(buffer.address, 1, 64, stream)
        event.record(stream)
        other.wait(event)
        fill(buffer.address, 2, 64, other)
        found = np.zeros(64, np.uint8)
        other.synchronize()
        assert stream.done()
        assert (download(found, buffer.address, stream) == 2).all()


def test_an_event_is_of_the_gpu_that_it_was_made_on(fake: Fake, stream: Stream) -> None:
    with Event(timing=True) as here, Context(1), Stream() as there, Event(timing=True) as other:
        other.record(there)
        here.record(stream)
        for event, wrong in ((here, there), (other, stream)):
            with pytest.raises(CudaError, match=r"cuEventRecord.*INVALID_HANDLE"):
                event.record(wrong)
        stream.synchronize()
        there.synchronize()
        with pytest.raises(CudaError, match="cuEventElapsedTime"):
            other.us_since(here)


def test_time_passes_between_events(fake: Fake, stream: Stream) -> None:
    with Event(timing=True) as begin, Event(timing=True) as end, Event() as untimed:
        begin.record(stream)
        end.record(stream)
        untimed.record(stream)
        with pytest.raises(CudaError, match="cuEventElapsedTime failed: CUDA_ERROR_NOT_READY"):
            end.us_since(begin)
        stream.synchronize()
        assert end.us_since(begin) > 0
        with pytest.raises(CudaError, match="INVALID_HANDLE"):
            untimed.us_since(begin)


def test_a_graph_is_replayed_as_often_as_it_is_launched(fake: Fake, stream: Stream) -> None:
    with DeviceBuffer(4) as buffer:
        with capture(stream) as graph:
            fill(buffer.address, 9, 4, stream)
        with graph:
            stream.synchronize()
            found = np.zeros(4, np.uint8)
            assert not download(found, buffer.address, stream).any()
            for _ in range(2):
                fill(buffer.address, 0, 4, stream)
                graph.launch(stream)
                assert (download(found, buffer.address, stream) == 9).all()


def test_waiting_for_a_captured_stream_ends_the_capture(fake: Fake, stream: Stream) -> None:
    with pytest.raises(CudaError, match="STREAM_CAPTURE_UNSUPPORTED"), capture(stream):
        stream.synchronize()
    stream.synchronize()


def test_a_launch_is_written_down_with_its_arguments(fake: Fake, stream: Stream) -> None:
    with Module(b"kernel scale 8 4\nkernel other") as module:
        kernel = module.kernel("scale")
        values = [ctypes.c_uint64(0xFEED), ctypes.c_int(-3)]
        kernel.launch((2, 3, 1), (32, 1, 1), stream, values, 1024)
        kernel.launch((1, 1, 1), (64, 1, 1), stream, values, programmatic=True)
        stream.synchronize()
        first, second = fake.launches()
        assert (first.name, first.grid, first.block) == ("scale", (2, 3, 1), (32, 1, 1))
        assert first.shared_bytes == 1024
        assert first.arguments == (bytes(values[0]), bytes(values[1]))
        assert (first.attributes, second.attributes) == (0, 1)
        with pytest.raises(CudaError, match="cuModuleGetFunction of missing failed"):
            module.kernel("missing")


def test_a_launch_can_be_played_by_a_function(fake: Fake, stream: Stream) -> None:
    def play(name: str, grid: object, block: object, arguments: list[int]) -> None:
        address = ctypes.c_uint64.from_address(arguments[0]).value
        ctypes.c_int.from_address(address).value += 5

    fake.on_launch(play)
    with Module(b"kernel add 8") as module, DeviceBuffer(4) as buffer:
        upload(buffer.address, np.array([10], np.int32), stream)
        module.kernel("add").launch((1, 1, 1), (1, 1, 1), stream, [ctypes.c_uint64(buffer.address)])
        assert download(np.zeros(1, np.int32), buffer.address, stream).tolist() == [15]


def test_a_failure_comes_once_at_the_call_it_is_meant_for(fake: Fake, stream: Stream) -> None:
    fake.fail("cuMemAlloc", 2, code=2)
    with DeviceBuffer(MiB) as buffer:
        with pytest.raises(OutOfMemory, match=r"cuMemAlloc of 1,048,576 bytes failed: .*\(2\)"):
            DeviceBuffer(MiB)
        with DeviceBuffer(MiB) as again:
            assert again.address != buffer.address
    assert fake.failures_left() == 0


def test_nothing_works_on_a_lost_device(fake: Fake) -> None:
    context = Context(0)
    fake.lose_device_at(1)
    for _ in range(2):
        with pytest.raises(DeviceLost, match="ILLEGAL_ADDRESS"):
            context.synchronize()
    fake.heal()
    context.close()


def test_a_place_has_the_memory_that_a_test_gives_it(fake: Fake, context: Context) -> None:
    fake.limit("device:0", 4 * MiB)
    with DeviceBuffer(3 * MiB):
        assert context.free_bytes() == 0
        with pytest.raises(OutOfMemory):
            DeviceBuffer(1)
    assert context.free_bytes() == 4 * MiB


def test_work_on_memory_that_is_gone_loses_the_device(fake: Fake, context: Context) -> None:
    stream = Stream()
    with DeviceBuffer(64) as buffer:
        pass
    with pytest.raises(CudaError, match="INVALID_VALUE"):
        fill(buffer.address, 1, 64, stream)
    stream.close()


def test_a_driver_that_knows_no_gpu_is_no_driver(fake: Fake) -> None:
    fake.fail("cuInit", code=100)
    with pytest.raises(NoDriver, match="knows of no GPU; run it where there is one"):
        devices()


def test_what_was_current_before_a_context_is_current_after_it(fake: Fake) -> None:
    with Context(0) as first:
        with Context(1) as second, Context(0):
            assert int(call("cuCtxGetCurrent")) == int(first.handle)
            second.make_current()
        assert int(call("cuCtxGetCurrent")) == int(first.handle)
        first.synchronize()
    assert int(call("cuCtxGetCurrent")) == 0


def test_peer_access_that_somebody_else_has_enabled_is_fine(fake: Fake) -> None:
    with Context(0) as first, Context(1) as second:
        first.enable_peer(second)
        first.enable_peer(second)


def test_a_stream_that_is_captured_by_way_of_an_event_has_to_come_back(
    fake: Fake, stream: Stream
) -> None:
    with Stream() as other, Event() as fork, Event() as join, DeviceBuffer(4) as buffer:
        with capture(stream) as graph:
            fork.record(stream)
            other.wait(fork)
            fill(buffer.address, 4, 4, other)
            join.record(other)
            stream.wait(join)
        graph.launch(stream)
        assert (download(np.zeros(4, np.uint8), buffer.address, stream) == 4).all()
        graph.close()

        def forget_to_join() -> None:
            with capture(stream):
                fork.record(stream)
                other.wait(fork)
                fill(buffer.address, 5, 4, other)

        with pytest.raises(CudaError, match="STREAM_CAPTURE_UNJOINED"):
            forget_to_join()
        stream.synchronize()
        other.synchronize()


def test_an_error_of_a_block_comes_out_even_if_closing_fails_too(fake: Fake) -> None:
    with Context(0):
        buffer = DeviceBuffer(64)

        def work() -> None:
            with buffer:
                fake.fail("cuMemFree")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            work()
        second = "and then cuMemFree of 64 bytes failed: CUDA_ERROR_UNKNOWN (999)"
        assert caught.value.__notes__ == [second]
        buffer.close()
        buffer.close()


def test_what_is_compiled_beside_it_is_loaded_with_what_its_code_says(
    fake: Fake, stream: Stream
) -> None:
    source = b"""
    extern "C" __global__ void scale(float* at, int n, unsigned long long by) {
        __shared__ float part[64];
        part[threadIdx.x] = at[n];
        __syncthreads();
        at[n] = part[n & 63] * by;
    }
    struct Many { long long values[5]; };
    extern "C" __global__ void pick(const __grid_constant__ Many many, int* at) {
        *at = many.values[2];
    }"""
    code, program = nvrtc.nvrtcCreateProgram(source, b"scale.cu", 0, [], [])
    assert int(code) == 0
    assert int(nvrtc.nvrtcCompileProgram(program, 1, [b"-arch=sm_90a"])[0]) == 0
    cubin = b" " * nvrtc.nvrtcGetCUBINSize(program)[1]
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    with Module(cubin) as module:
        scale, pick = module.kernel("scale"), module.kernel("pick")
        assert 0 < scale.registers < 64
        assert scale.shared_bytes >= 256
        values = [ctypes.c_uint64(16), ctypes.c_int(7), ctypes.c_uint64(9)]
        scale.launch((1, 1, 1), (64, 1, 1), stream, values)
        pick.launch((1, 1, 1), (1, 1, 1), stream, [(ctypes.c_int64 * 5)(1, 2, 3), values[0]])
        stream.synchronize()
        first, second = fake.launches()
        assert first.arguments == tuple(bytes(value) for value in values)
        assert [len(argument) for argument in second.arguments] == [40, 8]
