"""Random worlds whose layers keep KV in several groups, each drawn from a seed."""

from dataclasses import replace

import numpy as np

from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.timing.near_terms import token_bytes

from .worlds import World, draw_fine_world, draw_world

_ENTRY = 1024


def draw_groups(draw: np.random.Generator) -> tuple[KvGroup, ...]:
    """Any mix of kinds; at times no layer sees everything."""
    found: list[KvGroup] = []

    def size() -> int:
        return int(draw.integers(1, 6)) * _ENTRY

    copies = int(draw.choice([1, 1, 1, 2]))
    if draw.random() < 0.8:
        found.append(KvGroup("full", "full", 4, size(), copies=copies))
    if draw.random() < 0.3:
        found.append(KvGroup("coarse", "full", 2, size(), tokens_per_entry=4, copies=copies))
    for width in draw.permutation([1, 24, 100, 256])[: int(draw.integers(0, 3))].tolist():
        name = f"window_{width}"
        found.append(KvGroup(name, "window", 4, size(), tokens=width, copies=copies))
    if draw.random() < 0.3:
        found.append(KvGroup("chunk", "chunk", 4, size(), tokens=int(draw.choice([40, 128]))))
    if draw.random() < 0.5:
        room = int(draw.integers(1, 400)) * _ENTRY
        found.append(KvGroup("state", "state", 3, 0, request_bytes=room))
    if draw.random() < 0.15:
        found.append(KvGroup("image", "fixed", 3, 0, request_bytes=37 * _ENTRY))
    return tuple(found) or (KvGroup("window_64", "window", 4, size(), tokens=64),)


def with_groups(world: World, seed: int) -> World:
    """The same world with groups drawn, and without what groups don't do yet."""
    draw = np.random.Generator(np.random.PCG64((seed, 2)))
    groups, page = draw_groups(draw), world.engine["page_tokens"]
    near = [group for group in groups if group.kind in ("window", "chunk")][:1]
    kv_bytes = sum(map(token_bytes, groups))
    states = sum(group.request_bytes for group in groups if group.kind == "state")
    cost = replace(
        world.cost,
        kv_groups=groups,
        kv_bytes_per_token=kv_bytes,
        kv_read_bytes_per_token=float(kv_bytes),
        kv_write_bytes_per_token=float(kv_bytes),
        state_bytes_per_request=states,
        window_tokens=near[0].tokens if near else 0,
        chunked_window=bool(near) and near[0].kind == "chunk",
        window_share=token_bytes(near[0]) / kv_bytes if near else 0.0,
        measured=None,
    )
    longest = int((world.requests.prompt_tokens + world.requests.output_tokens).max())
    engine = world.engine | {"batching": "continuous", "movement": "paged"}
    step = engine["token_budget"] if engine["chunked_prefill"] else longest
    most = cost.pages(page).most_bytes(longest, step, engine["prefix_caching"])
    roomy = 6 if draw.random() < 0.5 else 1.6
    tiers = []
    for index, tier in enumerate(world.tiers):
        least, top = (0.9, roomy) if index == 0 else (0.1, 10 ** draw.uniform(-0.9, 1.3))
        room = int(most * draw.uniform(least, max(top, least + 0.1))) + 1
        tiers.append(tier | {"capacity": f"{room}B"})
    operations = "transfers" if world.operations == "all" else world.operations
    return replace(world, cost=cost, tiers=tuple(tiers), engine=engine, operations=operations)


def draw_group_world(seed: int) -> World:
    """Draw a world of little room; every other one of prompts many pages long, mostly LRU."""
    world = draw_fine_world(seed) if seed % 2 else draw_world(seed)
    return with_groups(world, seed)
