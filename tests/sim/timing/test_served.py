"""What kernels take within a server's steps, beside what tables have of them alone."""

import re

import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.served import Served
from vsim.sim.timing.constant_kernels import ConstantKernels
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.table_kernels import TableKernels
from vsim.traces.faults import InputError

CONSTANTS = ConstantKernels(PEAKS, 0.5, 0.8, 100e9, 1000.0)
ATTENTION = made("decode_attention", [[8, 2, 128, 0], [8, 2, 64, 0]], [1, 64], [100, 10_000],
                 [[[5e3, 15e3], [2e4, 5e5]]] * 2, variant="full")  # fmt: skip
EXPERTS = made("experts", [[64, 64, 2, 8, 1, 1]], [1, 16], [0], [[[4e3], [9e3]]],
               variant="balanced")  # fmt: skip
SERVED = """\
decode_attention:
  - {head_dim: 128, tiles: [2, 10], floor: [4us, 12us], hbm_efficiency: 0.5,
     source: assumption, note: for this test}
experts: {spread: 2, saves: 3us, source: assumption, note: for this test}
"""
NARROW, WIDE = HeadShape(8, 2, 64), HeadShape(8, 2, 128)


def served(text: str = SERVED) -> Served:
    return parse_yaml(text, "served.yaml", Served)


def both(*found: Curves) -> tuple[TableKernels, TableKernels]:
    """Kernels as tables have them, and as steps do."""
    measured = tables(*found)
    return TableKernels(measured, CONSTANTS), TableKernels(measured, CONSTANTS, served())


def test_decode_attention_takes_a_floor_and_its_reading_at_least() -> None:
    alone, in_step = both(ATTENTION)
    # 1 TB/s, a half of it: 1,024 bytes a token of context, 4,096 of queries and outputs a request.
    for requests, floor_ns in ((1, 4e3), (3, 8e3), (5, 12e3), (50, 12e3)):
        kv = requests * (3_000 * 1_024 + 4_096) / 1e3 / 0.5
        least = floor_ns + kv
        asked = "bf16", requests, 3_000, WIDE
        assert alone.decode_attention_ns(*asked) < least
        assert in_step.decode_attention_ns(*asked) == pytest.approx(least)
    slow = "bf16", 64, 10_000, WIDE
    slow_ns = made("decode_attention", [[8, 2, 128, 0]], [1, 64], [100, 10_000],
                   [[[5e3, 15e3], [2e4, 5e6]]], variant="full")  # fmt: skip
    assert both(slow_ns)[1].decode_attention_ns(*slow) == pytest.approx(5e6)  # by the table


def test_attention_that_nothing_was_measured_of_takes_what_tables_say() -> None:
    alone, in_step = both(ATTENTION)
    for asked in (("bf16", 4, 3_000, NARROW), ("fp8", 4, 3_000, WIDE), ("bf16", 0, 0, WIDE)):
        assert in_step.decode_attention_ns(*asked) == alone.decode_attention_ns(*asked)


def test_experts_of_few_tokens_are_not_sorted() -> None:
    alone, in_step = both(EXPERTS)
    shape = ExpertShape(64, 64, 2, 8)  # 2 experts for each of 2 choices a token: up to 2 tokens
    tokens = np.array([0, 1, 2, 3, 16])
    saved = alone.experts_ns("bf16", tokens, shape) - in_step.experts_ns("bf16", tokens, shape)
    assert saved == pytest.approx([0, 3e3, 3e3, 0, 0])
    dealt = shape._replace(expert_parallel=2)
    assert in_step.experts_ns("bf16", 1, dealt) == alone.experts_ns("bf16", 1, dealt)


def test_a_slower_card_s_kernels_take_longer_all_alike() -> None:
    slow = SERVED + "slowdown: {value: 1.25, source: assumption, note: for this test}\n"
    product = made("products", [[64, 64]], [1, 8], [0], [[[4000.0], [5000.0]]])
    prompt = made("prefill_attention", [[8, 2, 128, 0]], [64, 128], [0],
                  [[[5e3], [9e3]]], variant="full")  # fmt: skip
    measured = tables(product, prompt, ATTENTION, EXPERTS)
    there, here = (TableKernels(measured, CONSTANTS, served(text)) for text in (SERVED, slow))
    for asked in (
        lambda kernels: kernels.product_ns("bf16", 8, 64, 64),
        lambda kernels: kernels.decode_attention_ns("bf16", 3, 3_000, WIDE),
        lambda kernels: kernels.decode_attention_ns("bf16", 3, 3_000, NARROW),
        lambda kernels: kernels.prefill_attention_ns("bf16", 128, 128 * 129 / 2, WIDE),
        lambda kernels: kernels.experts_ns("bf16", 2, ExpertShape(64, 64, 2, 8)),
    ):
        assert asked(here) == pytest.approx(1.25 * asked(there))
    # the tables lack it
    assert here.collective_ns("all_reduce", 2, 1e6) == there.collective_ns("all_reduce", 2, 1e6)


def test_the_catalogue_s_h100_takes_what_a_trace_of_a_token_alone_says() -> None:
    # 41.0 us in kernels of Qwen3-30B-A3B's experts and six gaps of 0.5; H200: 32.5 (README there).
    shape = ExpertShape(2048, 768, 8, 128)
    for name, traced_us in (("h100", 41.0 + 3.0), ("h200", 32.5 + 3.0)):
        kernels = kernels_of(load_machine(name), "vllm")
        assert kernels.experts_ns("bf16", 1, shape) / 1e3 == pytest.approx(traced_us, rel=0.01)


FAULTS = {
    "tiles: [10, 2]": r"decode_attention.0.tiles: goes down",
    "tiles: [2, 2]": r"decode_attention.0.tiles: goes down or holds a number twice",
    "tiles: [2]": r"decode_attention.0.floor: has 2 values beside 1 tiles",
}


@pytest.mark.parametrize("written", FAULTS)
def test_a_wrong_row_is_one_clear_message(written: str) -> None:
    key = written.partition(":")[0]
    with pytest.raises(InputError, match=FAULTS[written]):
        served(re.sub(rf"{key}: \[[^]]*\]", written, SERVED))


def test_a_width_has_one_row() -> None:
    row = SERVED.partition("experts")[0].partition("\n")[2]
    with pytest.raises(InputError, match=r"decode_attention.1.head_dim: 128 has a row already"):
        served(f"decode_attention:\n{row}{row}")
