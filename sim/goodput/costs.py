"""Costs: what a server costs an hour, a million tokens, and what each tier below HBM is worth.

The break-even interval is the five-minute rule (Gray and Putzolu, SIGMOD 1987) for KV: how long a
block may be kept in a tier before keeping it has cost as much as computing it again would. Keeping
costs bytes times time, at the tier's price; computing costs the server's time, at its GPUs' price.
Loading is not charged: copies run beside compute.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vsim.sim.goodput.measured import Measured
from vsim.sim.goodput.prices import HOURS_PER_MONTH, Prices, usd_per_byte_s
from vsim.sim.prefixes.values import prefill_seconds
from vsim.sim.simulation import Server

_GB: Final = 1e9
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0
_NS: Final = 1e9
_BLOCK_TOKENS: Final = 64
"""Prefill is summed in blocks of so many tokens; its time is nearly linear within one."""


@dataclass(frozen=True, slots=True)
class TierCost:
    """A memory that is paid for.

    Args:
        name: the tier's.
        kind: its kind.
        capacity_bytes: that KV may take.
        usd_per_hour: what that costs.
    """

    name: str
    kind: str
    capacity_bytes: int
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class HourlyCost:
    """What a server costs an hour.

    Args:
        gpus: how many serve.
        gpus_usd: what they cost.
        tiers: the memories below HBM.
    """

    gpus: int
    gpus_usd: float
    tiers: tuple[TierCost, ...]

    @property
    def usd(self) -> float:
        """All of it."""
        return self.gpus_usd + sum(tier.usd_per_hour for tier in self.tiers)


@dataclass(frozen=True, slots=True)
class TierWorth:
    """What a tier below HBM costs and brings in a run.

    Args:
        cost: what it costs.
        break_even_s: how long a block may be kept before computing it again is cheaper; None where
            keeping costs nothing.
        kept_s: how long a page stayed in the mean; None where none came.
        saved_usd_per_hour: what computing its hits anew would have cost.
        written_bytes_per_day: as the run wrote.
        wear: those over what the memory is rated for; None where it does not wear.
        stored: pages written from above; None where they were not followed.
        never_loaded: of them, that nothing was loaded from.
    """

    cost: TierCost
    break_even_s: float | None
    kept_s: float | None
    saved_usd_per_hour: float
    written_bytes_per_day: float
    wear: float | None
    stored: int | None = None
    never_loaded: int | None = None


def hourly_cost(prices: Prices, server: Server) -> HourlyCost:
    """Add up what a server's GPUs and memories cost; `check_prices` has found all of the prices."""
    scenario, machine = server.scenario, server.machine
    gpu = prices.gpu(machine.gpu.name)
    assert gpu is not None  # it was checked
    gpus = server.cost.gpus * scenario.parallel.data
    tiers = []
    for settings in scenario.tiers[1:]:
        tier = machine.tier(settings.tier)
        size = settings.capacity or tier.capacity.value
        price = prices.memory(tier.kind)
        a_month = 0.0 if price is None else size / _GB * price.usd_per_gb_month
        usd = gpu.usd_per_hour if tier.kind == "peer" else a_month / HOURS_PER_MONTH
        tiers.append(TierCost(settings.tier, tier.kind, size, usd))
    return HourlyCost(gpus, gpus * gpu.usd_per_hour, tuple(tiers))


def usd_per_million(usd_per_hour: float, tokens: int, simulated_ns: int) -> float | None:
    """What a million tokens cost where so many come in a time; None without a token."""
    if not tokens:
        return None
    return usd_per_hour * (simulated_ns / _NS / _HOUR_S) / tokens * 1e6


def recompute_s_per_token(server: Server, prompt_tokens: float) -> float:
    """Seconds of the server that a token of a prompt of this length takes to compute."""
    of_block = prefill_seconds(server.cost, _BLOCK_TOKENS).of_block
    blocks = max(1, round(prompt_tokens / _BLOCK_TOKENS))
    return sum(float(of_block(depth)) for depth in range(blocks)) / (blocks * _BLOCK_TOKENS)


def break_even_s(
    recompute_usd_per_token: float, kv_bytes_per_token: int, byte_s_usd: float
) -> float | None:
    """How long keeping a token's KV costs less than computing it; None where keeping is free."""
    a_second = kv_bytes_per_token * byte_s_usd
    return recompute_usd_per_token / a_second if a_second else None


def tier_worths(
    prices: Prices, server: Server, hourly: HourlyCost, measured: Measured, prompt_tokens: float
) -> tuple[TierWorth, ...]:
    """Say of each tier below HBM what it costs and brings.

    Args:
        prices: what memory costs.
        server: what served.
        hourly: what it costs.
        measured: the run.
        prompt_tokens: length of a prompt in the mean, over which recomputation is priced.
    """
    token_s = recompute_s_per_token(server, prompt_tokens)
    return tuple(_worths(prices, server, hourly, measured, token_s))


def _worths(
    prices: Prices, server: Server, hourly: HourlyCost, measured: Measured, token_s: float
) -> Iterator[TierWorth]:
    server_usd_per_s = hourly.gpus_usd / server.scenario.parallel.data / _HOUR_S
    simulated_s = measured.simulated_ns / _NS
    stores = {each.tier: each for each in measured.stores}
    for cost, use in zip(hourly.tiers, measured.tiers[1:], strict=True):
        price, store = prices.memory(cost.kind), stores.get(cost.name)
        byte_s_usd = cost.usd_per_hour / _HOUR_S / cost.capacity_bytes
        if price is not None:
            byte_s_usd = usd_per_byte_s(price)
        came = use.inserted_pages * use.page_bytes
        a_day = use.written_bytes / simulated_s * _DAY_S if simulated_s else 0.0
        rated = None if price is None else price.drive_writes_per_day
        saved_s = use.hit_tokens * token_s
        yield TierWorth(
            cost,
            break_even_s(token_s * server_usd_per_s, server.cost.kv_bytes_per_token, byte_s_usd),
            use.mean_bytes * simulated_s / came if came else None,
            saved_s * server_usd_per_s / simulated_s * _HOUR_S if simulated_s else 0.0,
            a_day,
            None if rated is None else a_day / (rated * cost.capacity_bytes),
            None if store is None else store.pages,
            None if store is None else store.never_loaded,
        )
