from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_file import KernelFile
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.timing.collectives import Collective, Exchange
from vsim.sim.timing.constant_kernels import ConstantKernels, constant_kernels
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import Kernels, kernels_of
from vsim.sim.timing.roofline import Peaks
from vsim.sim.timing.table_kernels import TableKernels
from vsim.traces.faults import InputError
from vsim.traces.schema import KERNELS

CONSTANTS = ConstantKernels(PEAKS, 0.5, 0.8, 100e9, 1000.0)


def test_constants_take_the_slower_of_bytes_and_flops_and_a_floor() -> None:
    small = CONSTANTS.product_ns("bf16", 1, 1000, 1000)
    assert small == pytest.approx(3000 + (2 * (1000 + 1000 * 1000 + 1000) / 1000) / 0.8)
    large = CONSTANTS.product_ns("bf16", 100_000, 10_000, 10_000)
    assert large == pytest.approx(3000 + 2 * 100_000 * 1e8 / 1e6 / 0.5)
    assert CONSTANTS.product_ns("bf16", [0, 1], 10, 10)[0] == 0
    kv = CONSTANTS.decode_attention_ns("bf16", 1, 10_000, HeadShape(8, 1, 128))
    assert kv == pytest.approx(9000 + (10_000 * 512 + 2 * 8 * 128 * 2) / 1000 / 0.8)
    experts = CONSTANTS.experts_ns("bf16", 100_000, ExpertShape(1000, 10_000, 1, 8))
    assert experts == pytest.approx(20_000 + 100_000 * 6e7 / 1e6 / 0.5)
    prompt = CONSTANTS.prefill_attention_ns("bf16", 40_000, 800_020_000, HeadShape(8, 1, 128))
    assert prompt == pytest.approx(9000 + 4 * 8 * 128 * 800_020_000 / 1e6 / 0.5)


def test_constants_send_what_each_collective_has_to() -> None:
    size = 8_000_000
    assert CONSTANTS.collective_ns("all_reduce", 4, size) == pytest.approx(
        2000 + 2 * 0.75 * size / 100
    )
    others: tuple[Collective, ...] = ("all_gather", "reduce_scatter", "all_to_all")
    for collective in others:
        time = CONSTANTS.collective_ns(collective, 4, size)
        assert time == pytest.approx(1000 + 0.75 * size / 100)
    assert CONSTANTS.collective_ns("all_reduce", 1, size) == 0
    # Of 2 GPUs, a token with one expert stays on one of them half of the time.
    dispatch = CONSTANTS.expert_exchange_ns("expert_dispatch", 1000, 500, 1, 2)
    assert dispatch == pytest.approx(1000 + 1000 * 500 * 2 * 0.5 / 100)
    assert CONSTANTS.expert_exchange_ns("expert_combine", 1000, 500, 1, 2) == dispatch
    with pytest.raises(LookupError, match="no link between GPUs"):
        replace(CONSTANTS, link_bytes_per_s=0.0).collective_ns("all_reduce", 2, size)


def test_a_kernel_that_the_tables_lack_is_timed_by_constants_and_named() -> None:
    product = made("products", [[64, 64]], [1, 8], [0], [[[4000.0], [5000.0]]])
    kernels = TableKernels(tables(product), CONSTANTS)
    assert kernels.rough == tuple(name for name in KERNELS if name != "products")
    assert kernels.product_ns("bf16", 8, 64, 64) == pytest.approx(5000)
    asked = "bf16", 4, 1000, HeadShape(8, 1, 128)
    assert kernels.decode_attention_ns(*asked) == CONSTANTS.decode_attention_ns(*asked)
    assert kernels.prefill_attention_ns(*asked) == CONSTANTS.prefill_attention_ns(*asked)
    moe = "bf16", 64, ExpertShape(4096, 14336, 2, 8)
    assert kernels.experts_ns(*moe) == CONSTANTS.experts_ns(*moe)
    for collective in get_args(Collective):
        ours = kernels.collective_ns(collective, 4, 1e6)
        assert ours == CONSTANTS.collective_ns(collective, 4, 1e6)
    sent = 64, 4096, 2, 8
    for direction in get_args(Exchange):
        ours = kernels.expert_exchange_ns(direction, *sent)
        assert ours == CONSTANTS.expert_exchange_ns(direction, *sent)


def test_a_shape_asked_for_again_takes_the_same_time() -> None:
    kernels = kernels_of(load_machine("h200"), "vllm")
    first = kernels.product_ns("bf16", [1, 300], 5000, 3000)
    kernels.product_ns("fp8", [1, 300], 5000, 3000)
    assert kernels.product_ns("bf16", [1, 300], 5000, 3000).tolist() == first.tolist()
    assert kernels.product_ns("bf16", 300, 5000, 3000) == first[1]


@pytest.mark.parametrize("name", catalogue_names())
def test_every_machine_of_the_catalogue_times_every_kernel(name: str) -> None:
    machine = load_machine(name)
    kernels: Kernels = kernels_of(machine, "vllm")
    assert (kernels.rough == KERNELS) == (not machine.kernels)
    assert kernels.source.startswith("tables of" if machine.kernels else "constants")
    tokens = np.array([1.0, 17.0, 512.0, 9000.0])
    slower = tokens * 100 + tokens * (tokens + 1) / 2
    times = [
        *(kernels.product_ns(p, tokens, 5120, 3584) for p in ("bf16", "fp8", "int8", "int4")),
        *(
            kernels.decode_attention_ns(p, tokens, 3000, HeadShape(28, 4, 128))
            for p in ("bf16", "fp8")
        ),
        kernels.decode_attention_ns("bf16", tokens, 3000, HeadShape(32, 8, 128, window=1024)),
        kernels.prefill_attention_ns("bf16", tokens, slower, HeadShape(28, 4, 128)),
        kernels.experts_ns("bf16", tokens, ExpertShape(2048, 768, 8, 128)),
    ]
    bounds = [
        kernels.peaks.bound(2 * 5120 * 3584, 0, "bf16").ns,
        kernels.peaks.bound(0, 2 * tokens * 5120 * 3584, "bf16").ns,
    ]
    for time in times:
        assert time.shape == (4,)
        assert (time > 1000).all()  # nothing takes less than a microsecond
        assert time[-1] > time[0]
    for bound in bounds:
        assert (times[0] > bound).all()
    if machine.gpu.count > 1:
        assert 1000 < kernels.collective_ns("all_reduce", 2, 8192) < 20_000


def test_times_of_an_h200_are_those_measured() -> None:
    """Rows of aiconfigurator-core 0.12.0, systems/data/h200_sxm, by hand.

    gemm/vllm/0.24.0: bf16, n 6144, k 4096: m 1: 0.016140 ms, 64: 0.017794, 256: 0.022116,
    2048: 0.132173. attention/vllm/0.24.0, 32 heads, 8 KV heads of 128, bf16: batch 32, step 8191:
    0.2694 ms; batch 256, step 1023: 0.2725. comm/vllm/0.24.0: all-reduce in a graph over 8 GPUs of
    4,096 numbers of 2 bytes: 0.0051 ms.
    """
    kernels = kernels_of(load_machine("8xh200-nvlink"), "vllm")
    half_a_step = 2 ** (0.5 / 64) - 1
    products = kernels.product_ns("bf16", [1, 64, 256, 2048], 6144, 4096)
    assert products == pytest.approx([16140, 17794, 22116, 132173], rel=half_a_step + 1e-4)
    attention = kernels.decode_attention_ns("bf16", [32, 256], [8192, 1024], HeadShape(32, 8, 128))
    assert attention == pytest.approx([269_400, 272_500], rel=half_a_step + 3e-4)
    assert kernels.collective_ns("all_reduce", 8, 2 * 4096) == pytest.approx(5100, rel=0.02)


def test_decode_attention_of_an_h200_reads_as_fast_as_we_measured() -> None:
    """FlashAttention 3 in vLLM's build as a graph, page 16, on 2026-11-26, GB/s of KV read."""
    kernels = kernels_of(load_machine("h200"), "vllm")
    for batch, context, measured in ((32, 8192, 4141), (256, 1024, 3909), (1, 131072, 3747)):
        kv = batch * context * 2 * 8 * 128 * 2
        found = kv / float(
            kernels.decode_attention_ns("bf16", batch, context, HeadShape(32, 8, 128))
        )
        assert found == pytest.approx(measured, rel=0.08)


def test_each_stack_has_its_own_tables_and_another_takes_the_first() -> None:
    machine = load_machine("h200")
    sources = {
        stack: kernels_of(machine, stack).source  # type: ignore[arg-type]
        for stack in ("vllm", "sglang", "trtllm")
    }
    assert all(f"under {stack}:" in source for stack, source in sources.items())
    assert kernels_of(machine).source == sources["vllm"]
    alone = load_machine("l40s")
    assert kernels_of(alone, "trtllm").source == kernels_of(alone, "vllm").source


def test_a_machine_without_tables_is_rough_in_all() -> None:
    machine = load_machine("rtx4090")
    kernels = kernels_of(machine)
    assert kernels == constant_kernels(machine)
    assert kernels.rough == KERNELS
    assert kernels.peaks == Peaks(1008e9, 165.2e12, 330.3e12, 660.6e12)


def test_a_table_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    entry = KernelFile(stack="vllm", file=str(tmp_path / "no.arrow"), source="datasheet")
    machine = load_machine("h200").model_copy(update={"kernels": (entry,)})
    with pytest.raises(InputError, match=r"no\.arrow: cannot be read: No such file"):
        kernels_of(machine)
