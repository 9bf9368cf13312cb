"""What things cost: each figure worked out by hand."""

import pytest

from vsim.sim.goodput.costs import (
    break_even_s,
    hourly_cost,
    recompute_s_per_token,
    tier_worths,
    usd_per_million,
)
from vsim.sim.goodput.measured import Measured, TierUse
from vsim.sim.goodput.prices import GpuPrice, MemoryPrice, Prices, usd_per_byte_s
from vsim.sim.goodput.stores import Stores
from vsim.sim.scenario.scenario import Parallel, Scenario, TierSettings, Workload
from vsim.sim.simulation import Server, serving

HOUR_NS = 3600 * 10**9
PRICES = Prices(
    date="2026-05-31",  # type: ignore[arg-type]  # read as it is written in a file
    gpus=(GpuPrice(name="NVIDIA H100 SXM", usd_per_hour=3.6, source="a test"),),
    memories=(
        MemoryPrice(kind="host", usd_per_gb_month=0.73, source="a test"),
        MemoryPrice(kind="nvme", usd_per_gb_month=0.0073, drive_writes_per_day=2, source="a test"),
    ),
)


def server(replicas: int = 1) -> Server:
    lower = () if replicas > 1 else (
        TierSettings(tier="host", capacity=100 * 10**9),
        TierSettings(tier="nvme", capacity=10**12),
    )  # fmt: skip
    return serving(
        Scenario(
            name="s",
            workload=Workload(trace="t.arrow"),
            machine="h100",
            model="llama-3.1-8b",
            parallel=Parallel(data=replicas),
            tiers=(TierSettings(tier="hbm"), *lower),
        )
    )


def use(name: str, **values: int) -> TierUse:
    nothing = dict.fromkeys(TierUse.model_fields, 0) | {"mean_bytes": 0.0}
    return TierUse(**{**nothing, "name": name, "capacity_bytes": 1, **values})  # type: ignore[arg-type]  # fields by name


def an_hour(*tiers: TierUse, stores: tuple[Stores, ...] = ()) -> Measured:
    return Measured(
        requests=1, rejected=0, good=1, latency_ns={}, classes=(), completed=1, prompt_tokens=1,
        output_tokens=1, simulated_ns=HOUR_NS, hit_ratio=0.0, preemptions=0, peak_requests=1,
        tiers=(use("hbm"), *tiers), busy={}, bound_by="", step_bound_by="", why="", stores=stores,
    )  # fmt: skip


def test_an_hour_costs_its_gpus_and_the_memory_that_kv_may_take() -> None:
    hourly = hourly_cost(PRICES, server())
    # 100 GB at 0.73 a month are 73 dollars over 730 hours; 1,000 GB at 0.0073 are 7.30
    assert [tier.usd_per_hour for tier in hourly.tiers] == pytest.approx([0.1, 0.01])
    assert hourly.usd == pytest.approx(3.71)


def test_every_replica_is_paid_for() -> None:
    assert hourly_cost(PRICES, server(replicas=3)).usd == pytest.approx(10.8)


def test_a_million_tokens_cost_the_hours_that_they_take() -> None:
    assert usd_per_million(3.6, 500_000, HOUR_NS // 2) == pytest.approx(3.6)
    assert usd_per_million(3.6, 0, HOUR_NS) is None


def test_the_break_even_interval_is_computing_s_price_over_keeping_s() -> None:
    # a token costs 1e-6 dollars to compute; its 1e5 bytes cost 1e-15 each a second
    assert break_even_s(1e-6, 100_000, 1e-15) == pytest.approx(10_000)
    assert break_even_s(1e-6, 100_000, 0.0) is None
    # 0.73 dollars for 1e9 bytes over a month of 730 hours
    assert usd_per_byte_s(PRICES.memories[0]) == pytest.approx(1e-12 / 3600)


def test_computing_again_costs_about_the_flops_of_a_token() -> None:
    """16 GFLOP a token at an H100's dense bf16 rate take 16.2 us; kernels reach a part of it."""
    short, long = (recompute_s_per_token(server(), tokens) for tokens in (512, 65_536))
    peak = 2 * 8.03e9 / 989e12
    assert peak < short < 2.5 * peak
    assert long > 1.5 * short, "attention to what is before adds up"


def test_a_tier_s_worth_follows_from_what_it_held_wrote_and_gave() -> None:
    served = server()
    hourly = hourly_cost(PRICES, served)
    # of 10,000 pages of 1 MB that came, 2 GB lay there in the mean: each stayed 3600 * 2 / 10 s
    nvme = use(
        "nvme", inserted_pages=10_000, page_bytes=10**6, written_bytes=5 * 10**11,
        hit_tokens=10_000_000,
    ).model_copy(update={"mean_bytes": 2e9})  # fmt: skip
    stores = (Stores(tier="nvme", pages=10_000, never_loaded=4_000),)
    host, drive = tier_worths(
        PRICES, served, hourly, an_hour(use("host"), nvme, stores=stores), 512
    )
    assert drive.kept_s == pytest.approx(720)
    # 0.5 TB an hour are 12 TB a day; two full writes of 1 TB a day are allowed
    assert drive.written_bytes_per_day == pytest.approx(12e12)
    assert drive.wear == pytest.approx(6.0)
    # 10 million tokens, at what one takes, at 3.6 dollars an hour: a thousandth a second
    token_s = recompute_s_per_token(served, 512)
    assert drive.saved_usd_per_hour == pytest.approx(1e7 * token_s * 1e-3)
    # 131,072 bytes a token in bf16, at 0.0073 / (1e9 * 730 * 3600) dollars a byte-second
    assert drive.break_even_s == pytest.approx(token_s * 1e-3 / (131_072 * 1e-14 / 3600))
    assert (drive.stored, drive.never_loaded) == (10_000, 4_000)
    assert (host.kept_s, host.wear, host.stored) == (None, None, None)
    assert host.break_even_s == pytest.approx(drive.break_even_s / 100)  # a hundred times dearer
