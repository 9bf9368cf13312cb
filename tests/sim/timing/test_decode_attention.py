import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.decode_attention import decode_attention_bound, decode_attention_ns
from vsim.sim.timing.head_shapes import KV_STAND_INS, HeadShape, head_places

FLOOR = 8000.0
BATCHES, CONTEXTS = [1, 16, 256], [1024, 4096, 16384]


def of_efficiency(
    shares: dict[tuple[int, int, int, int], float], precision: str = "bf16", variant: str = "full"
) -> Curves:
    """Attention that reaches these shares of bound and floor at every point, by head shape.

    One more shape, far from all, takes the floor: so that the floor is what it is.
    """
    batch, context = np.array(BATCHES)[:, None], np.array(CONTEXTS)[None, :]
    ns = [
        (decode_attention_bound(PEAKS, precision, batch, context, HeadShape(*shape)).ns + FLOOR)
        / share
        for shape, share in shares.items()
    ]
    far = np.full((len(BATCHES), len(CONTEXTS)), np.nan)
    far[0, 0] = FLOOR
    window = 1 << 40 if variant == "window" else 0
    return made(
        "decode_attention", [*map(list, shares), [1, 1, 1 << 20, window]], BATCHES, CONTEXTS,
        np.stack([*ns, far]), precision=precision, variant=variant,
    )  # fmt: skip


def test_attention_reads_keys_and_values_of_its_context_and_writes_its_queries_size() -> None:
    bound = decode_attention_bound(PEAKS, "bf16", 3, 1000, HeadShape(32, 8, 128))
    # Keys and values of 8 heads, and 32 heads of queries and outputs, 2 bytes each.
    assert bound.bytes_ns == pytest.approx(3 * (1000 * 2 * 8 * 128 * 2 + 2 * 32 * 128 * 2) / 1000)
    assert bound.flops_ns == pytest.approx(3 * 1000 * 4 * 32 * 128 / 1e6)
    half = decode_attention_bound(PEAKS, "fp8", 3, 1000, HeadShape(32, 8, 128))
    assert half.bytes_ns == pytest.approx(3 * (1000 * 2 * 8 * 128 + 2 * 32 * 128 * 2) / 1000)


def test_a_window_ends_what_is_read() -> None:
    inside, at, beyond = (
        float(
            decode_attention_bound(PEAKS, "bf16", 1, context, HeadShape(8, 1, 128, window=512)).ns
        )
        for context in (256, 512, 100_000)
    )
    assert inside < at == beyond


def test_a_measured_head_shape_gets_its_own_times() -> None:
    curves = of_efficiency({(32, 8, 128, 0): 0.7, (8, 1, 128, 0): 0.5})
    times = decode_attention_ns(
        tables(curves), PEAKS, "bf16", np.array(BATCHES)[:, None], CONTEXTS, HeadShape(32, 8, 128)
    )
    assert times.shape == (3, 3)
    assert times == pytest.approx(np.exp(curves.log_ns[0]))


def test_a_head_shape_between_two_has_an_efficiency_between_theirs() -> None:
    curves = of_efficiency({(32, 8, 128, 0): 0.8, (32, 2, 128, 0): 0.4})
    bound = decode_attention_bound(PEAKS, "bf16", 16, 4096, HeadShape(32, 4, 128)).ns
    share = (bound + FLOOR) / decode_attention_ns(
        tables(curves), PEAKS, "bf16", 16, 4096, HeadShape(32, 4, 128)
    )
    assert share == pytest.approx(np.sqrt(0.8 * 0.4))  # as far from one as from the other


def test_heads_of_another_size_are_farther_than_other_numbers_of_heads() -> None:
    wanted, same_size, other_size = head_places(
        np.array([[16, 2, 128, 0], [64, 8, 128, 0], [16, 2, 192, 0]])
    )
    assert ((wanted - same_size) ** 2).sum() < ((wanted - other_size) ** 2).sum() * 2
    curves = of_efficiency({(32, 1, 128, 0): 0.7, (16, 4, 128, 0): 0.7, (16, 2, 192, 0): 0.1})
    bound = decode_attention_bound(PEAKS, "bf16", 16, 4096, HeadShape(16, 2, 128)).ns
    share = (bound + FLOOR) / decode_attention_ns(
        tables(curves), PEAKS, "bf16", 16, 4096, HeadShape(16, 2, 128)
    )
    assert share == pytest.approx(0.7)


def test_time_grows_with_batch_and_context_also_beyond_what_was_measured() -> None:
    curves = of_efficiency({(32, 8, 128, 0): 0.7, (8, 1, 128, 0): 0.5})
    grow = np.geomspace(1, 2**22, 60)
    by_batch = decode_attention_ns(tables(curves), PEAKS, "bf16", grow, 1000, HeadShape(32, 8, 128))
    by_context = decode_attention_ns(tables(curves), PEAKS, "bf16", 7, grow, HeadShape(32, 8, 128))
    assert (np.diff(by_batch) > 0).all()
    assert (np.diff(by_context) > 0).all()
    assert by_context[0] > FLOOR
    bound = decode_attention_bound(PEAKS, "bf16", 7, grow[-1], HeadShape(32, 8, 128)).ns
    assert by_context[-1] == pytest.approx((bound + FLOOR) / 0.7)


def test_a_window_near_a_measured_one_is_looked_up_among_windows() -> None:
    windowed = of_efficiency({(32, 8, 128, 1024): 0.3, (8, 8, 128, 1024): 0.3}, variant="window")
    full = of_efficiency({(32, 8, 128, 0): 0.7, (8, 8, 128, 0): 0.7})
    found = tables(full, windowed)

    def share(window: int) -> float:
        bound = decode_attention_bound(PEAKS, "bf16", 16, 16384, HeadShape(32, 8, 128, window)).ns
        time = decode_attention_ns(found, PEAKS, "bf16", 16, 16384, HeadShape(32, 8, 128, window))
        return float((bound + FLOOR) / time)

    assert share(1024) == pytest.approx(0.3)
    assert share(4096) == pytest.approx(0.3)
    assert share(8192) == pytest.approx(0.7)  # as a context of 8,192 tokens
    assert share(0) == pytest.approx(0.7)


@pytest.mark.parametrize("precision", KV_STAND_INS)
def test_kv_that_was_not_measured_takes_bf16_s_efficiency_on_its_own_bytes(precision: str) -> None:
    curves = of_efficiency({(32, 8, 128, 0): 0.7})
    bound = decode_attention_bound(PEAKS, precision, 16, 4096, HeadShape(32, 8, 128)).ns
    time = decode_attention_ns(tables(curves), PEAKS, precision, 16, 4096, HeadShape(32, 8, 128))
    assert time == pytest.approx((bound + FLOOR) / 0.7)


def test_no_requests_take_no_time() -> None:
    curves = tables(of_efficiency({(32, 8, 128, 0): 0.7}))
    assert decode_attention_ns(
        curves, PEAKS, "bf16", [0, 0], 100, HeadShape(32, 8, 128)
    ).tolist() == [0, 0]


def test_where_a_large_batch_was_not_measured_the_next_smaller_one_s_efficiency_is_taken() -> None:
    curves = of_efficiency({(32, 8, 128, 0): 0.7})
    ns = np.exp(curves.log_ns[:1])
    ns[0, 2, 2] = np.nan
    ns[0, 1, 2] *= 2  # the efficiency is 0.35 there
    holed = made("decode_attention", [[32, 8, 128, 0]], BATCHES, CONTEXTS, ns, variant="full")
    bound = decode_attention_bound(PEAKS, "bf16", [16, 256], 16384, HeadShape(32, 8, 128)).ns
    time = decode_attention_ns(
        tables(holed), PEAKS, "bf16", [16, 256], 16384, HeadShape(32, 8, 128)
    )
    share = (bound + holed.floor_ns) / time
    assert share[1] == pytest.approx(share[0])
