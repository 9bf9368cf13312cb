"""Feasibility: whether a run's arrays fit this computer, and its times the clock.

Both are asked before anything is allocated. The arrays follow from settings and trace
(`vsim.sim.engine.setup`): every request that may hold pages has a row of a page table as long as
the longest request, every page that may lie in a tier a slot there. A step and a transfer are given
their worst: as many tokens as the settings allow, over all the KV that there is room for.
"""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from vsim.sim.engine import layout
from vsim.sim.engine.free_slots import roomy
from vsim.sim.eviction.state import GHOST, HEAP, LINK, POLICIES, WITH_GHOSTS, WITH_HEAP, WORTH
from vsim.sim.machine.machine import Machine
from vsim.sim.model.parallel import server_links
from vsim.sim.scenario.case import Case
from vsim.sim.scenario.limits import LONGEST_STEP_S
from vsim.sim.timing.step_time import Batch, step_time_ns
from vsim.traces.faults import InputError, refuse
from vsim.traces.machine_memory import memory_fault
from vsim.traces.units import format_bytes

MOST_NUMBERED = 2**31 - 64
"""Pages, keys and slots are numbered with 32 bits; some numbers stand for queues' ends."""

# What is neither a slot, a key, a row nor a request: logs as they start, flows, scratch.
_FIXED_BYTES = 16 * 2**20
# Bytes a request takes besides its record: columns of the trace, of the result and of its tables.
_COLUMNS_BYTES = 400
# Bytes an id of the trace takes: itself, its key, and the copies while keys are worked out.
_ID_BYTES = 48


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that one kind of array takes.

    Args:
        bytes: how many.
        words: what they are for, with the numbers that were multiplied.
        place: the field that asks for most of them.
    """

    bytes: int
    words: str
    place: str


def refuse_what_is_infeasible(case: Case) -> None:
    """Check a run's memory and its slowest step.

    Args:
        case: checked by `refuse_what_cannot_act`.

    Raises:
        InputError: saying what it would take.
    """
    _refuse_slow_steps(case)
    fault = memory_fault("scenario", *_told(memory_needs(case)))
    if fault is not None:
        raise InputError([fault])


def refuse_for_memory(case: Case) -> NoReturn:
    """Refuse a run whose arrays the system would not give, whatever they were worked out to be."""
    needed, what, place = _told(memory_needs(case))
    message = f"{what} take about {format_bytes(needed)}, and the system gives no more; ask for"
    refuse("scenario", f"{message} less", place=place)


def _told(needs: list[Need]) -> tuple[int, str, str]:
    """Bytes in all, the largest parts in words, and the field that asks for the largest."""
    asked = [need for need in needs if need.bytes != _FIXED_BYTES]
    largest = sorted(asked, key=lambda need: -need.bytes)[:3]
    parts = ", ".join(f"{need.words} ({format_bytes(need.bytes)})" for need in largest)
    return sum(need.bytes for need in needs), parts, largest[0].place


def memory_needs(case: Case) -> list[Need]:
    """List what the engine's arrays take, as far as they are touched.

    Raises:
        InputError: more slots or keys than can be numbered.
    """
    engine, tiers, requests = case.engine, case.scenario.tiers, case.requests
    n, count = len(requests), len(tiers)
    swaps = engine.preemption == "swap"
    rows = engine.max_running_requests * (2 if swaps else 1) + engine.max_loading_requests + 8
    beside = case.scenario.parallel.data if case.lockstep else 1  # servers at one time
    used = min(rows * beside, n)
    longest, live = _pages(case, used)
    room = sum(_capacity(case, i) for i in range(count)) + 2  # a longer request is rejected
    groups = len(case.pages.groups)
    if case.pages.grouped:
        longest, live = groups * (longest + 2), groups * (live + 2 * used)
    else:
        longest, live = min(longest, room), min(live, used * room)
    keys = groups * _keys(case)
    slots = sum(min(_capacity(case, i), keys + 2 * live) for i in range(count))
    for number, words in ((slots, "pages in the tiers"), (keys, "different pages of prompts")):
        if number >= MOST_NUMBERED:
            message = f"{number:,} {words} are more than 32 bits can number; write larger pages"
            refuse("scenario", f"{message} or smaller tiers", place="engine.page_tokens")
    slots = sum(min(beside * roomy(_capacity(case, i)), keys + 2 * live) for i in range(count))
    kinds = [POLICIES.get(tier.eviction, -1) for tier in tiers]
    # its key, flags, source, chain, users, mark and policy's key; a free one's place
    slot = 6 * 4 + 1 + 4 + LINK.itemsize
    if any(tier.eviction in ("priority", "cost") for tier in tiers):
        slot += layout.RANK.itemsize
    if any(kind in WITH_HEAP for kind in kinds):
        slot += WORTH.itemsize + HEAP.itemsize
    key = 4 * count + GHOST.itemsize * sum(kind in WITH_GHOSTS for kind in kinds)
    at_once = 4 * count + 4 + layout.OUT.itemsize * count
    waiting = beside * (rows + engine.prefetch_requests)
    each = layout.REQUEST.itemsize + 8 * count + _COLUMNS_BYTES
    running = "engine.max_running_requests"
    return [
        Need(_FIXED_BYTES, "logs and scratch", running),
        Need(slots * slot, f"{slots:,} page slots", f"tiers.{_largest(case)}.capacity"),
        Need(keys * key, f"{keys:,} keys of pages", "engine.page_tokens"),
        Need(requests.prefix_ids.size * _ID_BYTES, f"{requests.prefix_ids.size:,} ids", "workload"),
        Need(4 * used * longest, f"page tables of {used:,} x {longest:,} pages", running),
        Need(waiting * at_once, f"{waiting:,} requests at a time", running),
        Need(n * each, f"{n:,} requests", "workload"),
    ]


def _pages(case: Case, rows: int) -> tuple[int, int]:
    """Pages of the longest request, and of the `rows` longest together."""
    requests, page = case.requests, case.engine.page_or_block_tokens
    pages = (requests.prompt_tokens + requests.output_tokens) // page + 2
    if case.engine.batching == "static":  # padded to the longest prompt and the longest answer
        tokens = int(requests.prompt_tokens.max()) + int(requests.output_tokens.max())
        return tokens // page + 2, rows * (tokens // page + 2)
    largest = pages if rows >= len(pages) else np.partition(pages, len(pages) - rows)[-rows:]
    return int(pages.max()), int(largest.sum())


def _keys(case: Case) -> int:
    """Different pages of prompts and answers that can be cached, at most."""
    if not case.caching:
        return 0
    requests, page = case.requests, case.engine.page_or_block_tokens
    ids = requests.prefix_ids.size
    if ids * max(1, requests.block_tokens // page) > 2**28:  # worth the time to count
        ids = np.unique(requests.prefix_ids).size
    named = ids * requests.block_tokens // page + 1
    answers = int((requests.output_tokens // page + 1).sum())
    return named + answers


def _capacity(case: Case, index: int) -> int:
    """Pages that fit a tier's room for KV; of several groups, of the smallest."""
    tier = case.scenario.tiers[index]
    room = tier.capacity
    if room is None:
        room = case.cost.kv_capacity_bytes
        if index > 0:
            room = case.machine.tier(tier.tier).capacity.value
    return room // (case.pages.smallest(index) * case.pages.unit(index))


def _room_bytes(case: Case, index: int) -> int:
    """Bytes of whole pages that a tier gives to KV."""
    return _capacity(case, index) * case.pages.smallest(index) * case.pages.unit(index)


def _largest(case: Case) -> int:
    """The tier that has room for most pages."""
    return max(range(len(case.scenario.tiers)), key=lambda index: _capacity(case, index))


def _refuse_slow_steps(case: Case) -> None:
    """Refuse a machine on which a step or a transfer could take longer than LONGEST_STEP_S."""
    requests, engine, cost = case.requests, case.engine, case.cost
    rooms = [_room_bytes(case, i) for i in range(len(case.scenario.tiers))]
    longest = int((requests.prompt_tokens + requests.output_tokens).max())
    if not case.pages.grouped:  # who needs more than there is room for is rejected
        longest = min(longest, sum(rooms) // cost.kv_bytes_per_token)
    at_once = min(engine.max_running_requests, len(requests))
    tokens = min(engine.token_budget, at_once * longest)
    if not engine.chunked_prefill or engine.batching == "static":
        tokens = max(tokens, at_once * min(longest, int(requests.prompt_tokens.max())))
    most = at_once * longest
    held = [min(room, most * cost.kv_bytes_per_token) for room in rooms]
    context = held[0] // cost.kv_bytes_per_token if not case.pages.grouped else most
    below = [
        (float(held[i]), _slowest_way(case.machine, cost.gpus, tier.tier))
        for i, tier in enumerate(case.scenario.tiers)
        if i > 0
    ]
    step_s = 1e-9 * step_time_ns(
        cost,
        Batch(
            sampled=at_once,
            prefill_tokens=tokens,
            prefill_pairs=tokens * longest,
            prefill_context=context,
            near_prefill_pairs=tokens * longest,
            near_prefill_context=context,
            requests=at_once,
        ),
        lower_tiers=[
            each
            for each, tier in zip(below, case.scenario.tiers[1:], strict=True)
            if tier.access == "in_place"
        ],
    )
    name = case.machine.name
    if step_s > LONGEST_STEP_S:
        message = (
            f"a step of {tokens:,} tokens could take {step_s:.2g} s on {name}, and no server's "
            f"takes {LONGEST_STEP_S:.0e}; write a faster machine, or less in a step"
        )
        refuse("scenario", message, place="machine")
    for (count, bytes_per_s), tier in zip(below, case.scenario.tiers[1:], strict=True):
        if count / bytes_per_s > LONGEST_STEP_S:
            message = (
                f"moving {format_bytes(count)} to {tier.tier} could take "
                f"{count / bytes_per_s:.2g} s on {name}, more than {LONGEST_STEP_S:.0e}; write a "
                "faster memory, or a smaller one"
            )
            refuse("scenario", message, place="machine")


def _slowest_way(machine: Machine, gpus: int, tier: str) -> float:
    """Bytes per second of the narrowest part between HBM and a tier, in either direction."""
    links, found = server_links(machine, gpus), machine.tier(tier)
    rates = [found.read.value, found.write.value]
    for hop in machine.find_path(tier, machine.hbm.name) or ():
        link = links[hop.link]
        rates += [link.bytes_per_s, link.reverse_bytes_per_s]
        rates += [group.bandwidth.value for group in machine.groups if group.name == link.group]
    return min(rates)
