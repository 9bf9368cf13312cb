"""Sums over GPUs are one group, in place, without NVLink multicast."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.dense.all_reduce import AllReduce
from vsim.traces.faults import InputError

STREAMS: Any = [SimpleNamespace(handle=11), SimpleNamespace(handle=22)]


class RefusedError(Exception):
    """What nccl4py raises."""


class Nccl:
    """Stands for nccl4py's bindings: keeps what it is called with."""

    NCCLError = RefusedError

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            if name == "comm_init_all":
                assert os.environ["NCCL_NVLS_ENABLE"] == "0"
                return ["first", "second"]
            if name == self._fails:
                raise RefusedError("unhandled cuda error\nand more")
            return None

        return call


@pytest.fixture(autouse=True)
def multicast_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "1")


def test_a_sum_is_one_group_of_calls_in_place_and_in_each_gpu_s_stream() -> None:
    nccl = Nccl()
    with AllReduce([0, 1], nccl) as sums:
        sums.sum(STREAMS, [0x100, 0x200], 4096)
    assert nccl.calls == [
        ("comm_init_all", 2, [0, 1]),
        ("group_start",),
        ("all_reduce", 0x100, 0x100, 4096, 9, 0, "first", 11),  # ncclBfloat16, ncclSum
        ("all_reduce", 0x200, 0x200, 4096, 9, 0, "second", 22),
        ("group_end",),
        ("comm_destroy", "second"),
        ("comm_destroy", "first"),
    ]


def test_multicast_stays_off_whatever_the_environment_says() -> None:
    AllReduce([0, 1], Nccl()).close()
    assert os.environ["NCCL_NVLS_ENABLE"] == "0"


def test_nothing_is_launched_for_no_numbers() -> None:
    nccl = Nccl()
    AllReduce([0, 1], nccl).sum(STREAMS, [0x100, 0x200], 0)
    assert [call[0] for call in nccl.calls] == ["comm_init_all"]


def test_a_group_is_closed_when_a_call_in_it_fails() -> None:
    nccl = Nccl(fails="all_reduce")
    with pytest.raises(CudaError, match="nccl all_reduce failed: unhandled cuda error"):
        AllReduce([0, 1], nccl).sum(STREAMS, [0x100, 0x200], 8)
    assert nccl.calls[-1] == ("group_end",)


def test_as_many_streams_as_gpus_are_needed() -> None:
    with pytest.raises(ValueError, match="argument 3 is longer"):
        AllReduce([0, 1], Nccl()).sum(STREAMS[:1], [0x100], 8)


def test_without_the_bindings_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nccl.bindings.nccl", None)
    with pytest.raises(InputError, match=r"nccl4py can't be imported .*vsim\[gpu\]"):
        AllReduce([0, 1])
