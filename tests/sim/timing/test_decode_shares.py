"""Batches of unlike contexts: shared out as the planner does, and never by their mean alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import plan
from vsim.sim.machine.kernel_tables import kernel_tables
from vsim.sim.machine.loading import load_machine
from vsim.sim.timing.decode_shares import KEY, DecodeShares, shared_out, shares_of, shares_text
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.table_kernels import ragged_factor
from vsim.traces.faults import InputError

SHARES = DecodeShares(32, 8, 128, 264, 4, 2_500.0, 900.0, 5.0)
MACHINE = Path(__file__).parents[3] / "traces" / "recorded" / "gpu" / "2xh200.yaml"


@pytest.mark.parametrize("seed", range(40))
def test_pieces_and_rounds_of_blocks_are_the_planner_s(seed: int) -> None:
    random = np.random.default_rng(seed)
    kv_heads, blocks, warps = (int(random.choice(x)) for x in ((1, 3, 8), (7, 132, 264), (4, 8)))
    contexts = np.exp(random.uniform(0, np.log(30_000), random.integers(1, 60))).astype(int)
    pages = -(-contexts // 16)
    batch = DecodeBatch.of(
        np.concatenate([[0], np.cumsum(pages)]), np.zeros(pages.sum()), (contexts - 1) % 16 + 1
    )
    planned = plan(batch, PageLayout(16, kv_heads, 128), blocks)
    counts = np.diff(planned.block_items)
    slices = -(-(planned.items[:, 4] - planned.items[:, 3]) // 16)
    rounds = np.bincount(np.repeat(np.arange(blocks), counts), -(-slices // warps), blocks)
    found = shared_out(tuple(contexts.tolist()), kv_heads, blocks, warps)
    used = len(found[0])
    assert found[0].tolist() == counts[:used].tolist()
    assert found[1].tolist() == rounds[:used].tolist()
    assert counts[used:].sum() == 0


def test_equal_contexts_take_what_the_table_says() -> None:
    assert SHARES.factor(1e5, [4_000] * 32) == 1.0
    assert SHARES.factor(1e5, [4_000]) == 1.0


def test_short_contexts_side_by_side_take_longer_the_more_of_them_share_a_block() -> None:
    even = [SHARES.factor(1.3e5, [128] * n + [8_192] * 16) for n in (0, 8, 64)]
    assert even[0] == 1.0 < even[1] < even[2]


def test_times_of_any_size_give_a_finite_factor() -> None:
    for even_ns in (1.0, 1e5, 1e12):
        found = replace(SHARES, exponent=64.0).factor(even_ns, [16] * 200 + [100_000])
        assert np.isfinite(found)
        assert found >= 0.99


def test_a_table_s_shares_are_read_back_and_damaged_ones_are_refused() -> None:
    tables = kernel_tables("t", {KEY: shares_text([SHARES])}, [])
    assert shares_of(tables, HeadShape(32, 8, 128)) == SHARES
    assert shares_of(tables, HeadShape(32, 4, 128)) is None
    assert shares_of(tables, HeadShape(32, 8, 128, 4096)) is None
    for text in ("{", '[{"heads": 1}]', shares_text([replace(SHARES, blocks=0)])):
        with pytest.raises(InputError, match="calibrate again"):
            shares_of(kernel_tables("damaged", {KEY: text}, []), HeadShape(32, 8, 128))


def test_tables_of_other_stacks_take_batches_by_their_mean() -> None:
    machine = load_machine("h200-measured")
    contexts = [128] * 64 + [8_192] * 16
    assert ragged_factor(kernels_of(machine, "vllm"), HeadShape(32, 8, 128), 1e5, contexts) == 1.0


def test_the_recorded_calibration_s_tables_have_shares_of_every_head_shape() -> None:
    kernels = kernels_of(load_machine(MACHINE), "vsim")
    contexts = [128] * 64 + [8_192] * 16
    for heads in ((32, 8, 128), (64, 8, 128), (32, 32, 128), (9, 3, 64)):
        assert ragged_factor(kernels, HeadShape(*heads), 1.3e5, contexts) > 1.0
