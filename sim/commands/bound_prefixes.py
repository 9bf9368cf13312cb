"""What `vsim bound TRACE --capacity …` does: prefix caches of a request trace against the best."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Precision
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.sim.prefixes.comparison import ONLINE, ORACLES, check_policies, compare_prefixes
from vsim.sim.prefixes.values import HITS, Value, prefill_flops, prefill_seconds
from vsim.sim.prefixes.view import print_comparison, written_comparison
from vsim.sim.timing.step_cost import step_cost
from vsim.traces.faults import one_line, refuse
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.reading import read_imported
from vsim.traces.requests import Requests
from vsim.traces.trace_file import open_trace
from vsim.traces.units import parse_bytes
from vsim.traces.writing import fresh_file, json_text, marked

RESULTS: Final = "prefix bound"
_MOST_BLOCKS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class PrefixBoundOptions:
    """The command's options as written; None where one was left out."""

    capacity: str | None = None
    capacity_blocks: str | None = None
    model: str | None = None
    machine: str | None = None
    kv: str | None = None
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
    block_bytes = None
    if model is not None:
        block_bytes = requests.block_tokens * model.kv_bytes_per_token(kv)
    capacities = _capacities(options, requests, block_bytes)
    values = _values(options, requests, model)
    tell = _progress()
    found = list(compare_prefixes(requests, capacities, values, policies, tell))
    tell("")
    reuse = PrefixReuse.of(requests.prefix_offsets, requests.prefix_ids)
    print_comparison(requests, reuse, found, block_bytes)
    return written_comparison(requests, reuse, found)


def _values(
    options: PrefixBoundOptions, requests: Requests, model: Model | None
) -> tuple[Value, ...]:
    values = [HITS]
    if model is not None:
        values.append(prefill_flops(model, requests.block_tokens))
    if options.machine is not None:
        if model is None:
            refuse("--machine", "does nothing without --model; leave it out, or name a model")
        cost = step_cost(load_machine(options.machine), model, file="--machine")
        values.append(prefill_seconds(cost, requests.block_tokens))
    return tuple(values)


def _capacities(
    options: PrefixBoundOptions, requests: Requests, block_bytes: int | None
) -> list[int]:
    """Capacities in blocks, in the order in which they were written."""
    if options.capacity is not None and options.capacity_blocks is not None:
        refuse("--capacity-blocks", "stands beside --capacity; write one of them")
    if options.capacity_blocks is not None:
        return [_blocks(text) for text in _listed(options.capacity_blocks, "--capacity-blocks")]
    assert options.capacity is not None  # one of the two brought us here
    if block_bytes is None:
        refuse("--capacity", "needs a model, whose KV it holds; add --model, as llama-3.1-8b")
    capacities = []
    for text in _listed(options.capacity, "--capacity"):
        try:
            size = parse_bytes(text)
        except ValueError as error:
            refuse("--capacity", f"'{text}' {error}")
        if size < block_bytes:
            refuse(
                "--capacity",
                f"{text} is less than a block of {requests.block_tokens:,} tokens,"
                f" {block_bytes:,} bytes; write at least that",
            )
        capacities.append(min(size // block_bytes, _MOST_BLOCKS))
    return capacities


def _listed(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        refuse(option, f"'{text}' is no list; write sizes with commas between them")
    return parts


def _blocks(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_BLOCKS:
        message = f"'{text}' is no number of blocks; write one from 1 to {_MOST_BLOCKS:,}"
        refuse("--capacity-blocks", message)
    return int(text)


def _progress() -> Callable[[str], None]:
    """Show on a terminal what runs now; an empty name clears the line."""
    shown = sys.stderr.isatty()

    def tell(doing: str) -> None:
        if shown:
            text = f"\r\x1b[K{doing} …" if doing else "\r\x1b[K"
            print(text, end="", file=sys.stderr, flush=True)

    return tell
