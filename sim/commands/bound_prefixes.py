"""What `vsim bound TRACE --capacity …` does: prefix caches of a request trace against the best."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from vsim.sim.commands.bound_capacities import MOST_BLOCKS, WrittenTier, read_capacities
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.sim.prefixes.comparison import ONLINE, ORACLES, check_policies, compare_prefixes
from vsim.sim.prefixes.group_comparison import GROUPED, compare_groups
from vsim.sim.prefixes.loads import load_s_per_byte
from vsim.sim.prefixes.model_blocks import ModelBlocks
from vsim.sim.prefixes.tier_comparison import compare_over_tiers
from vsim.sim.prefixes.tier_view import print_over_tiers, written_over_tiers
from vsim.sim.prefixes.values import HITS, Value, prefill_flops, prefill_seconds
from vsim.sim.prefixes.view import print_comparison, written_comparison
from vsim.sim.schedules.cache_tiers import CacheTiers
from vsim.sim.timing.step_cost import step_cost
from vsim.traces.faults import one_line, refuse
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.reading import read_imported
from vsim.traces.requests import Requests
from vsim.traces.trace_file import open_trace
from vsim.traces.writing import fresh_file, json_text, marked

RESULTS: Final = "prefix bound"


@dataclass(frozen=True, slots=True)
class PrefixBoundOptions:
    """The command's options as written; None where one was left out."""

    capacity: str | None = None
    capacity_blocks: str | None = None
    model: str | None = None
    machine: str | None = None
    kv: str | None = None
    loads: str | None = None
    policies: Sequence[str] = ()
    json_file: str | None = None


def run_bound_prefixes(trace: str | None, options: PrefixBoundOptions) -> None:
    """Compare prefix caches of some capacities, and print a table for each value.

    Raises:
        InputError: with the faults found.
    """
    if trace is None:
        refuse("vsim bound", "names no trace of requests; write one before --capacity")
    check_policies(options.policies)
    policies = tuple(dict.fromkeys(options.policies)) or (*ONLINE, *ORACLES)
    model = None if options.model is None else load_model(options.model)
    kv = _kv(options, model)
    if options.json_file is None:
        _compare(trace, options, policies, model, kv)
        return
    with fresh_file(options.json_file, RESULTS, inputs=[trace], option="--json") as file:
        results = _compare(trace, options, policies, model, kv)
        file.write(json_text(marked(RESULTS, results)))
        file.publish()


def _kv(options: PrefixBoundOptions, model: Model | None) -> Precision:
    if options.kv is not None and model is None:
        refuse("--kv", "does nothing without --model; leave it out, or name a model")
    known: tuple[Precision, ...] = ("bf16", "fp8", "int8", "int4")
    for name in known:
        if options.kv in (None, name):
            return name
    refuse("--kv", f"'{options.kv}' is unknown; write bf16, fp8, int8 or int4")


def _compare(
    trace: str,
    options: PrefixBoundOptions,
    policies: Sequence[str],
    model: Model | None,
    kv: Precision,
) -> dict[str, object]:
    with open_trace(trace) as opened:
        imported = read_imported(opened)
    requests = imported.requests
    for note in requests.notes:
        print(one_line(f"{trace}: note: {note}"), file=sys.stderr)
    if not len(requests.prefix_ids):
        refuse(trace, "has no prefix blocks, so that no cache finds anything; take another trace")
    blocks = None if model is None else ModelBlocks(model, kv, requests.block_tokens)
    machine = _machine(options, model)
    written = _written(options, blocks)
    if options.loads not in (None, "wait", "overlap"):
        refuse("--loads", f"'{options.loads}' is unknown; write wait or overlap")
    tiered = bool(written[0][0].name)
    if options.loads is not None and not tiered:
        refuse("--loads", "does nothing in one tier; leave it out, or write hbm=16GiB+host=64GiB")
    if tiered and (blocks is None or machine is None):
        refuse(_option(options), "names tiers, whose loads take time; add --model and --machine")
    if blocks is not None and blocks.grouped and options.loads == "overlap":
        refuse("--loads", "can't be overlap where KV is in groups of layers; leave it out")
    values = _values(requests, model, machine)
    tell = _progress()
    reuse = PrefixReuse.of(requests.prefix_offsets, requests.prefix_ids)
    if not tiered and (blocks is None or not blocks.grouped):
        in_bytes = blocks is not None and options.capacity is not None
        size = blocks.block_bytes if blocks is not None and in_bytes else 1
        capacities = [min(each.size // size, MOST_BLOCKS) for (each,) in written]
        found = list(compare_prefixes(requests, capacities, values, policies, tell))
        tell("")
        block_bytes = None if blocks is None else blocks.block_bytes
        print_comparison(requests, reuse, found, block_bytes)
        return written_comparison(requests, reuse, found)
    assert blocks is not None  # tiers and groups are both of a model
    stacks = [_tiers(each, blocks, machine, options) for each in written]
    if blocks.grouped:
        needs = blocks.needs(int(np.diff(requests.prefix_offsets).max()))
        names = policies if options.policies else GROUPED
        over = list(compare_groups(requests, stacks, needs, values, names, tell))
    else:
        overlap = options.loads == "overlap"
        over = list(
            compare_over_tiers(requests, stacks, values[-1], policies, tell, overlap=overlap)
        )
    tell("")
    texts = [[tier.text for tier in tiers] for tiers in written]
    print_over_tiers(requests, reuse, over, texts, groups=blocks.grouped)
    return written_over_tiers(requests, reuse, over, texts, blocks)


def _machine(options: PrefixBoundOptions, model: Model | None) -> Machine | None:
    if options.machine is None:
        return None
    if model is None:
        refuse("--machine", "does nothing without --model; leave it out, or name a model")
    return load_machine(options.machine)


def _values(requests: Requests, model: Model | None, machine: Machine | None) -> tuple[Value, ...]:
    """Hits, and FLOPs and seconds where a model and a machine say these."""
    values = [HITS]
    if model is not None:
        values.append(prefill_flops(model, requests.block_tokens))
        if machine is not None:
            cost = step_cost(machine, model, file="--machine")
            values.append(prefill_seconds(cost, requests.block_tokens))
    return tuple(values)


def _option(options: PrefixBoundOptions) -> str:
    return "--capacity" if options.capacity is not None else "--capacity-blocks"


def _written(
    options: PrefixBoundOptions, blocks: ModelBlocks | None
) -> list[tuple[WrittenTier, ...]]:
    """Capacities in the order in which they were written, each large enough for a block."""
    if options.capacity is not None and options.capacity_blocks is not None:
        refuse("--capacity-blocks", "stands beside --capacity; write one of them")
    if options.capacity_blocks is not None:
        if blocks is not None and blocks.grouped:
            refuse(
                "--capacity-blocks",
                f"{blocks.model.name} keeps KV in groups of layers, whose pieces of a block differ"
                " in size and need not all be there; write --capacity in bytes",
            )
        return read_capacities(options.capacity_blocks, "--capacity-blocks", bytes_=False)
    assert options.capacity is not None  # one of the two brought us here
    if blocks is None:
        refuse("--capacity", "needs a model, whose KV it holds; add --model, as llama-3.1-8b")
    written = read_capacities(options.capacity, "--capacity", bytes_=True)
    for tiers in written:
        for tier in tiers:
            share = blocks.part_bytes(tier.precision, "--capacity") / blocks.part_bytes()
            least = math.ceil(share * blocks.least_bytes())
            if tier.size < least:
                refuse(
                    "--capacity",
                    f"{tier.text} is less than a block of {blocks.block_tokens:,} tokens,"
                    f" {least:,} bytes; write at least that",
                )
    return written


def _tiers(
    written: Sequence[WrittenTier],
    blocks: ModelBlocks,
    machine: Machine | None,
    options: PrefixBoundOptions,
) -> CacheTiers:
    """Room of each tier in parts, and how long a request waits for one."""
    option = _option(options)
    rooms, loads = [], []
    for tier in written:
        part_bytes = blocks.part_bytes(tier.precision, option)
        room = int(tier.size / part_bytes) if options.capacity is not None else tier.size
        rooms.append(min(room, MOST_BLOCKS))
        load = Fraction(0)
        if machine is not None and tier.name:
            load = load_s_per_byte(machine, tier.name, option) * part_bytes
        loads.append(load)
    names = tuple(tier.name or "cache" for tier in written)
    return CacheTiers(names, tuple(rooms), tuple(loads))


def _progress() -> Callable[[str], None]:
    """Show on a terminal what runs now; an empty name clears the line."""
    shown = sys.stderr.isatty()

    def tell(doing: str) -> None:
        if shown:
            text = f"\r\x1b[K{doing} …" if doing else "\r\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)

    return tell
