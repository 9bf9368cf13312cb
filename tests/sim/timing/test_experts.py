import numpy as np
import pytest
from tests.sim.timing.kernel_cases import PEAKS, made, tables

from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.alike import Alike
from vsim.sim.timing.experts import ExpertShape, experts_bound, experts_ns, independent_ns

FLOOR = 20_000.0
TOKENS = [1, 64, 4096]
MIXTRAL = ExpertShape(4096, 14336, 2, 8)


def of_efficiency(
    shares: dict[tuple[int, ...], float], precision: str = "bf16", variant: str = "balanced"
) -> Curves:
    """Experts that reach these shares of bound and floor; one more shape takes the floor."""
    ns = [
        (experts_bound(PEAKS, precision, TOKENS, ExpertShape(*shape)).ns + FLOOR) / share
        for shape, share in shares.items()
    ]
    far = np.full(len(TOKENS), np.nan)
    far[0] = FLOOR
    return made(
        "experts", [*(list(each)[:6] for each in shares), [1 << 40, 1, 1, 1, 1, 1]], TOKENS, [0],
        np.stack([*ns, far])[:, :, None], precision=precision, variant=variant,
    )  # fmt: skip


def test_one_token_reads_the_experts_it_goes_to_and_many_read_all() -> None:
    one, all_ = (experts_bound(PEAKS, "bf16", n, MIXTRAL).bytes_ns for n in (1, 10_000))
    expert = 3 * 4096 * 14336 * 2
    assert one == pytest.approx((2 * expert + 2 * 4096 * 2) / 1000)
    assert all_ == pytest.approx((8 * expert + 10_000 * 2 * 4096 * 2) / 1000)


def test_each_token_computes_three_matrices_of_each_of_its_experts() -> None:
    bound = experts_bound(PEAKS, "bf16", 100, MIXTRAL)
    assert bound.flops_ns == pytest.approx(100 * 2 * 6 * 4096 * 14336 / 1e6)


def test_gpus_share_experts_by_width_or_by_number() -> None:
    alone, cut, dealt = (
        experts_bound(PEAKS, "bf16", 5000, ExpertShape(*MIXTRAL[:4], *split))
        for split in ((1, 1), (4, 1), (1, 4))
    )
    assert cut.flops_ns == pytest.approx(alone.flops_ns / 4)
    assert dealt.flops_ns == pytest.approx(alone.flops_ns / 4)
    tokens = 5000 * 2 * 4096 * 2 / 1000
    assert cut.bytes_ns - tokens == pytest.approx((alone.bytes_ns - tokens) / 4)
    assert dealt.bytes_ns - tokens == pytest.approx((alone.bytes_ns - tokens) / 4)


def test_a_measured_shape_gets_its_own_times_and_no_tokens_take_none() -> None:
    curves = of_efficiency({MIXTRAL: 0.6, MIXTRAL._replace(tensor=8): 0.3})
    times = experts_ns(tables(curves), PEAKS, "bf16", [0, *TOKENS], MIXTRAL._replace(tensor=8))
    assert times[0] == 0
    assert times[1:] == pytest.approx(np.exp(curves.log_ns[1, :, 0]))


def test_a_distribution_that_was_not_measured_takes_the_other_one() -> None:
    even = of_efficiency({MIXTRAL: 0.6})
    skewed = of_efficiency({MIXTRAL: 0.4}, variant="power_law_1.2")
    bound = experts_bound(PEAKS, "bf16", 64, MIXTRAL).ns + FLOOR
    asked = PEAKS, "bf16", 64, MIXTRAL
    assert experts_ns(tables(even), *asked) == pytest.approx(bound / 0.6)
    assert experts_ns(tables(even, skewed), *asked) == pytest.approx(bound / 0.4)
    both = experts_ns(tables(even, skewed), *asked, distribution="balanced")
    assert both == pytest.approx(bound / 0.6)


def test_fp8_experts_that_were_not_measured_take_block_scaled_ones_efficiency() -> None:
    found = tables(
        of_efficiency({MIXTRAL: 0.6}),
        of_efficiency({MIXTRAL: 0.5}, precision="fp8_block"),
    )
    bound = experts_bound(PEAKS, "fp8", 64, MIXTRAL).ns + FLOOR
    assert experts_ns(found, PEAKS, "fp8", 64, MIXTRAL) == pytest.approx(bound / 0.5)


def test_time_grows_with_tokens_beyond_what_was_measured() -> None:
    curves = tables(of_efficiency({MIXTRAL: 0.6}))
    times = experts_ns(curves, PEAKS, "bf16", np.geomspace(1, 1e6, 50), MIXTRAL)
    assert (np.diff(times) > 0).all()


QWEN = ExpertShape(2048, 768, 8, 128)
FEW = [1, 16, 64]


def of_touched(touched: list[int], variant: str) -> Curves:
    """Experts of QWEN at the rate of the memory, after a floor; so many of them are read."""
    ns = experts_bound(PEAKS, "bf16", FEW, QWEN, touched).ns + FLOOR
    shapes = [list(QWEN[:6]), [1 << 40, 1, 1, 1, 1, 1]]
    floor = [FLOOR, np.nan, np.nan]
    return made("experts", shapes, FEW, [0], np.stack([ns, floor])[:, :, None], variant=variant)


def test_tokens_that_choose_for_themselves_read_as_many_experts_as_are_expected() -> None:
    # 16 balanced tokens touch all 128 experts, 16 skewed ones 63, 16 independent ones
    # 128 · (1 - (15/16)^16) = 82.42.
    found = tables(of_touched([8, 128, 128], "balanced"), of_touched([8, 63, 120], "power_law_1.2"))
    ours = independent_ns(found, PEAKS, "bf16", [0, 1, 16], QWEN)
    expert, tokens = 3 * 2048 * 768 * 2 / 1000, 16 * 2 * 2048 * 2 / 1000
    assert ours[0] == 0
    assert ours[1] == pytest.approx(8 * expert + tokens / 16 + FLOOR, rel=0.006)
    expected = 128 * (1 - (15 / 16) ** 16)
    assert ours[2] == pytest.approx(expected * expert + tokens + FLOOR, rel=0.006)


def test_a_skewed_load_that_takes_longer_is_waited_for() -> None:
    even, skewed = of_efficiency({QWEN: 0.8}), of_efficiency({QWEN: 0.4}, variant="power_law_1.2")
    found = tables(even, skewed)
    ours = independent_ns(found, PEAKS, "bf16", 4096, QWEN)
    assert ours == pytest.approx(experts_ns(found, PEAKS, "bf16", 4096, QWEN))


def test_tokens_under_one_opening_that_choose_alike_touch_what_one_of_them_does() -> None:
    assert Alike(1.0, 1).choosing([1, 7, 500]) == pytest.approx([1, 1, 1])
    assert Alike(0.5, 4).choosing(1) == pytest.approx(1)
    # 3 of 4 openings are expected among so many tokens: 4 · (1 - 0.75^n) = 3.
    tokens = np.log(0.25) / np.log(0.75)
    assert Alike(1.0, 4).choosing(tokens) == pytest.approx(3)
    # Each doubling of the tokens under an opening touches half as much again; of no share, twice.
    assert Alike(0.5, 1).choosing([1, 2, 4, 8]) == pytest.approx([1, 1.5, 1.5**2, 1.5**3])
    assert Alike(0.0, 1).choosing([1, 3, 50]) == pytest.approx([1, 3, 50])
    assert Alike(0.5, 4).choosing(tokens) == pytest.approx(3 * (tokens / 3) ** np.log2(1.5))
    found = tables(of_touched([8, 128, 128], "balanced"))
    alone, together = (
        independent_ns(found, PEAKS, "bf16", 16, QWEN, choosing) for choosing in (None, 4.0)
    )
    fewer = 128 * ((15 / 16) ** 4 - (15 / 16) ** 16) * 3 * 2048 * 768 * 2 / 1000
    assert alone - together == pytest.approx(fewer, rel=0.03)


def test_padding_chooses_as_alike_as_the_batch_but_nothing_that_it_does() -> None:
    assert Alike(1.0, 1).beside_padding([24, 17], [0, 7]) == pytest.approx([1, 2])
    half = Alike(0.5, 4)
    apart = half.choosing(17) + half.choosing(7)
    assert half.beside_padding(17, 7) == pytest.approx(apart)
    assert apart > half.choosing(24)


def test_without_curves_of_one_kind_the_other_is_taken() -> None:
    even, skewed = of_touched([8, 128, 128], "balanced"), of_touched([8, 63, 120], "power_law_1.2")
    asked = PEAKS, "bf16", FEW, QWEN
    assert independent_ns(tables(skewed), *asked) == pytest.approx(
        experts_ns(tables(skewed), *asked)
    )
    expected = [128 * (1 - (15 / 16) ** n) for n in FEW]
    bound = experts_bound(PEAKS, "bf16", FEW, QWEN, expected).ns + FLOOR
    assert independent_ns(tables(even), *asked) == pytest.approx(bound, rel=0.006)
