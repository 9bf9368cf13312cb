"""Random worlds, each drawn from a seed: little room, many requests, any settings."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from tests.sim.timing.drawn_curves import drawn_curves

from vsim.sim.engine.state import State
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.estimate import Estimate
from vsim.sim.profiles.profile import Admission
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.timing.curve import curve, line
from vsim.sim.timing.step_cost import StepCost, step_cost
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state

POLICIES = ("lru", "clock", "lfu", "fifo", "2q", "arc", "sieve", "s3-fifo", "priority", "cost")
MACHINES = ("h100", "gh200", "2xh200-nvlink")


@dataclass(frozen=True, slots=True)
class World:
    """All that `make_state` takes."""

    requests: Requests
    tiers: tuple[dict[str, Any], ...]
    machine: Machine
    cost: StepCost
    pacing: str
    engine: dict[str, Any]
    operations: str = "transfers"
    rules: ServerRules | None = None

    def state(self, **engine: Any) -> State:
        """A fresh state; `engine` replaces settings."""
        return make_state(
            self.requests,
            self.tiers,
            self.machine,
            cost=self.cost,
            pacing=self.pacing,
            operations=self.operations,
            rules=self.rules,
            **(self.engine | engine),
        )


@cache
def machine(name: str) -> Machine:
    return load_machine(name)


@cache
def llama(name: str) -> StepCost:
    return step_cost(machine(name), load_model("llama-3.1-8b"))


@dataclass
class _Chains:
    """Prompts that go on from earlier ones, in the trace's blocks. Mutable: it names new blocks."""

    draw: np.random.Generator
    block: int
    fresh: int = 0

    def extend(self, chain: list[int], tokens: int) -> list[int]:
        """Name the full blocks of a prompt that begins as `chain`; sometimes its partial one."""
        blocks = tokens // self.block
        wanted = blocks + int(self.draw.random() < 0.3)
        new = max(wanted - len(chain), 0)
        longer = [*chain, *range(self.fresh, self.fresh + new)]
        self.fresh += new
        return longer[: blocks + 1]


def _requests(draw: np.random.Generator, block: int) -> Requests:
    n = int(draw.integers(3, 40))
    chains = _Chains(draw, block)
    prefixes: list[list[int]] = []
    prompt, output = np.zeros(n, np.int64), draw.integers(1, 120, n)
    parent, think = np.full(n, -1), np.full(n, -1)
    conversations = draw.random() < 0.4
    for i in range(n):
        base: list[int] = []
        earlier = int(draw.integers(0, i)) if i else -1
        if conversations and i and draw.random() < 0.5 and earlier not in parent:
            parent[i], think[i] = earlier, int(draw.integers(0, 3e8))
            base = prefixes[earlier]
            prompt[i] = prompt[earlier] + output[earlier] + draw.integers(1, 100)
        else:
            if i and draw.random() < 0.6:
                seen = prefixes[earlier]
                base = seen[: int(draw.integers(0, len(seen) + 1))]
            prompt[i] = len(base) * block + draw.integers(1, 400)
        prefixes.append(chains.extend(base, int(prompt[i])))
    rate_per_s = 10 ** draw.uniform(0, 3)
    arrival = np.cumsum(draw.exponential(1e9 / rate_per_s, n)).astype(np.int64)
    if draw.random() < 0.3:
        arrival = arrival // 10**8 * 10**8  # many at one time
    tenants = int(draw.integers(1, 4))
    return make_requests(
        arrival.tolist(),
        prompt.tolist(),
        output.tolist(),
        prefixes,
        block,
        parent=parent.astype(np.int64),
        think_ns=think.astype(np.int64),
        tenant=draw.integers(0, tenants, n).astype(np.int32),
        tenant_names=("a", "b", "c")[:tenants],
        priority=draw.integers(0, 3, n).astype(np.int32),
    )


def _cost(draw: np.random.Generator, machine_name: str) -> StepCost:
    """Llama's cost, at times with windowed layers, experts, stages, or tiers that add up."""
    cost = llama(machine_name)
    if draw.random() < 0.3:
        cost = replace(cost, window_tokens=int(draw.choice([64, 200])), window_share=0.5)
    if draw.random() < 0.2:
        experts = {"experts": 8, "experts_per_token": 2, "expert_bytes": 5e8}
        cost = replace(cost, micro_batches=int(draw.choice([1, 2])), **experts)
    if draw.random() < 0.2:
        cost = replace(cost, comm_fixed_ns=20_000.5, comm_ns_per_token=37.25)
    if draw.random() < 0.3:
        cost = replace(cost, attend_exponent=3.0)
    return cost


def draw_world(seed: int) -> World:
    """Draw a world. Capacities are a few requests' worth, so that pages are in demand."""
    draw = np.random.Generator(np.random.PCG64(seed))
    block, page = int(draw.choice([16, 32, 64, 512])), int(draw.choice([16, 32, 64, 128]))
    if block % page and page % block:
        page = block
    requests = _requests(draw, block)
    name = str(draw.choice(MACHINES))
    found = machine(name)
    lower = [tier.name for tier in found.tiers if tier.kind != "hbm"]
    lower = draw.permutation(lower)[: int(draw.integers(0, 4))].tolist()
    cost = _cost(draw, name)
    if seed % 3 == 0:  # by tables; drawn apart, so that nothing else of the world depends on it
        apart = np.random.Generator(np.random.PCG64([seed, 1]))
        cost = replace(cost, measured=drawn_curves(apart, windows=cost.window_tokens > 0))
    longest = int((requests.prompt_tokens + requests.output_tokens).max()) // page + 2
    page_bytes = page * cost.kv_bytes_per_token

    def some_pages(least: float, most: float) -> str:
        return f"{(int(longest * draw.uniform(least, most)) + 1) * page_bytes}B"

    roomy = 6 if draw.random() < 0.5 else 1.6
    tiers: list[dict[str, Any]] = [
        {"tier": "hbm", "capacity": some_pages(0.9, roomy), "eviction": str(draw.choice(POLICIES))}
    ]
    for tier in lower:
        in_place = found.tier(tier).attend_in_place and draw.random() < 0.4
        tiers.append(
            {
                "tier": tier,
                "capacity": some_pages(0.1, 10 ** draw.uniform(-0.9, 1.3)),
                "eviction": str(draw.choice(POLICIES)),
                "access": "in_place" if in_place else "promote",
                "write": str(draw.choice(["back", "through"])),
            }
        )
    engine = {
        "block_tokens": 16,
        "page_tokens": page,
        "max_running_requests": int(draw.integers(1, 4 if draw.random() < 0.3 else 40)),
        "token_budget": int(draw.choice([16, 64, 256, 2048])),
        "chunked_prefill": bool(draw.random() < 0.8),
        "scheduler": str(draw.choice(["fcfs", "priority", "fair"])),
        "preemption": str(draw.choice(["recompute", "swap"])) if lower else "recompute",
        "max_loading_requests": int(draw.integers(1, 20)),
        "prefetch_requests": int(draw.integers(0, 6)) if lower else 0,
        "placement": str(draw.choice(["hbm_first", "balanced"])),
        "prefix_caching": bool(draw.random() < 0.85),
        "reclaim_low": float(draw.choice([0, 0.02, 0.1])),
        "reclaim_high": float(draw.choice([0.1, 0.2])),
        "batching": "static" if draw.random() < 0.1 else "continuous",
        "loading": "cheaper" if draw.random() < 0.5 else "always",
        "movement": "mapped" if draw.random() < 0.2 else "paged",
    }
    pacing = "think_times" if draw.random() < 0.4 else "arrivals"
    operations = "all" if draw.random() < 0.1 else "transfers"
    for each in tiers[1:]:
        each["backlog"] = str(draw.choice(["drop", "wait"]))
    rules = None if engine["batching"] == "static" or draw.random() < 0.4 else draw_rules(draw)
    return World(requests, tuple(tiers), found, cost, pacing, engine, operations, rules)


def draw_rules(draw: np.random.Generator) -> ServerRules:
    """An engine that sees tokens late, with host times that are shorter and longer than steps."""
    small = float(draw.choice([0, 1e5, 3e6, 1e8]))
    large = small * float(draw.choice([1, 4]))
    admissions: tuple[Admission, ...] = ("first_chunk", "whole_prompt", "whole_sequence")
    return ServerRules(
        admission=admissions[int(draw.integers(3))],
        watermark=float(draw.choice([0, 0, 0.1])),
        null_pages=int(draw.integers(2)),
        pipelined=bool(draw.random() < 0.8),
        delays_tokens=bool(draw.random() < 0.7),
        offloads=bool(draw.random() < 0.3),
        graph_launch=curve(lambda tokens: small if tokens <= 16 else large, (0, 16, 17, 18)),
        eager_launch=line(large / 1000, large),
        prepare_ns=int(small / 2),
        drain_ns=int(draw.choice([0, 200_000])),
        join_ns=int(small / 8),
        schedule_ns=int(small / 4),
        arrival_ns=int(draw.choice([0, 1_500_000])),
        prompt_token_ns=float(draw.choice([0, 250.5])),
        delivery_ns=int(draw.choice([0, 1_300_000])),
        first_ns=50 if small else 0,
    )


def draw_fine_world(seed: int) -> World:
    """Draw a world of prompts many pages long, which fork anywhere; mostly LRU; slots not shown."""
    world = draw_world(seed)
    draw = np.random.Generator(np.random.PCG64((seed, 1)))
    block = int(draw.choice([16, 64]))  # a page, or as many as four
    n = int(draw.integers(10, 50))
    chains = _Chains(draw, block)
    prefixes: list[list[int]] = []
    prompt = np.zeros(n, np.int64)
    for i in range(n):
        seen = prefixes[int(draw.integers(0, i))] if i and draw.random() < 0.8 else []
        kept = len(seen) if draw.random() < 0.5 else int(draw.integers(0, len(seen) + 1))
        most = 400 if draw.random() < 0.5 else 4000
        prompt[i] = min(kept * block, 12_000) + draw.integers(1, most)
        prefixes.append(chains.extend(seen[:kept], int(prompt[i]))[: int(prompt[i]) // block])
    arrival = np.cumsum(draw.exponential(1e9 / 10 ** draw.uniform(0, 2), n)).astype(np.int64)
    output = draw.integers(1, 120, n)
    requests = make_requests(
        arrival.tolist(),
        prompt.tolist(),
        output.tolist(),
        prefixes,
        block,
        parent=np.full(n, -1),
        think_ns=np.full(n, -1),
        tenant=draw.integers(0, 2, n).astype(np.int32),
        tenant_names=("a", "b"),
        priority=draw.integers(0, 3, n).astype(np.int32),
    )
    longest = int((prompt + output).max()) // 16 + 2
    page_bytes = 16 * world.cost.kv_bytes_per_token
    tiers = [
        tier
        | {"capacity": f"{int(longest * draw.uniform(1.0, 4.0) * 2**number) * page_bytes}B"}
        | ({"eviction": "lru"} if draw.random() < 0.8 else {})
        for number, tier in enumerate(world.tiers)
    ]
    engine = world.engine | {
        "page_tokens": 16,
        "token_budget": int(draw.choice([256, 2048])),
        "prefix_caching": True,
        "batching": "continuous",
    }
    return replace(
        world,
        requests=requests,
        tiers=tuple(tiers),
        pacing="arrivals",
        engine=engine,
        operations="none",
    )


def draw_prefill_first_world(seed: int) -> World:
    """Draw a world of an engine that computes prompts first; pages of one token now and then."""
    world = draw_world(seed)
    draw = np.random.Generator(np.random.PCG64((seed, 2)))
    page = 1 if draw.random() < 0.3 else world.engine["page_tokens"]
    longest = int((world.requests.prompt_tokens + world.requests.output_tokens).max()) // page + 2
    page_bytes = page * world.cost.kv_bytes_per_token
    tiers = [
        tier | ({"access": "promote"} if number else {}) | {
            "capacity": f"{int(longest * draw.uniform(0.9, 3.0) * 2**number) * page_bytes}B",
            "eviction": "lru" if draw.random() < 0.7 else tier["eviction"],
        }
        for number, tier in enumerate(world.tiers)
    ]  # fmt: skip
    engine = world.engine | {
        "block_tokens": min(page, 16),
        "page_tokens": page,
        "token_budget": page * int(draw.choice([1, 4, 16, 64])),
        "chunked_prefill": True,
        "scheduler": "fcfs",
        "preemption": "recompute",
        "placement": "hbm_first",
        "movement": "paged",
        "batching": "continuous",
        "reclaim_low": 0.0,
        "reclaim_high": 0.0,
    }
    first = float(draw.choice([0.01, 0.3, 0.7, 1.0]))
    least = first * float(draw.choice([0.14, 1.0]))
    estimate = Estimate(
        first_ratio=first,
        least_ratio=least,
        decay=(first - least) / int(draw.choice([5, 600])),
        clip_tokens=int(draw.choice([10, 4096])),
        retract_steps=int(draw.choice([1, 20])),
        most_new_tokens=int(draw.choice([0, 0, 60])),
        ignore_eos=bool(draw.random() < 0.1),
    )
    rules = replace(draw_rules(draw), admission="estimate", watermark=0.0, offloads=False)
    cost = world.cost
    if cost.measured is not None and draw.random() < 0.5:
        other = drawn_curves(draw, windows=cost.window_tokens > 0)
        cost = replace(cost, measured=replace(cost.measured, prompts=replace(
            cost.measured, products=other.products, small=other.small)))  # fmt: skip
    return replace(
        world,
        tiers=tuple(tiers),
        cost=cost,
        engine=engine,
        rules=replace(rules, estimate=estimate),
    )


PREFILL_FIRST = 1 << 20
"""Seeds from here on are worlds of an engine that computes prompts first."""


def draw_any_world(seed: int) -> World:
    """Draw a world of either kind."""
    return draw_world(seed) if seed < PREFILL_FIRST else draw_prefill_first_world(seed)
