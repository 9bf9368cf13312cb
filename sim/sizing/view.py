"""What a person reads of a model's sizes: tables of 100 columns."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.scenario.precision import weight_words
from vsim.sim.sizing.machine_room import MachineRoom
from vsim.sim.sizing.shown_model import ShownModel
from vsim.traces import printed
from vsim.traces.faults import one_line
from vsim.traces.plain_table import plain_table


def show_model(shown: ShownModel, console: Console | None = None) -> None:
    """Print a model's arithmetic by group, what an engine holds of it, and where it fits."""
    to = console or Console(width=printed.WIDTH, highlight=False)
    for line in _head(shown):
        to.print(line)
    to.print()
    to.print(_groups(shown))
    for line in _sums(shown):
        to.print(line)
    to.print()
    to.print(_machines(shown))


def _head(shown: ShownModel) -> Iterator[Text]:
    sizes, model = shown.sizes, shown.sizes.model
    yield Text.assemble(
        (one_line(model.name), "bold"), f" · {model.layers:,} layers · {one_line(model.source)}"
    )
    active = model.active_parameters
    met = "" if active == model.parameters else f" · a token meets {printed.parameters(active)}"
    yield Text(f"{printed.parameters(model.parameters)} parameters{met}")
    if shown.counted is not None:
        own = shown.counted
        yield Text(
            f"transformers' {own.name}: {own.parameters:,} parameters, a token meets"
            f" {own.active_parameters:,}; here {model.parameters:,} and {active:,}"
        )
    beside = [f"{name} {printed.parameters(count)}" for name, count in model.apart.items()]
    if beside:
        yield Text(f"beside it, not counted: {', '.join(map(one_line, beside))}")
    said = dict.fromkeys(shown.declared, ", as the checkpoint declares")
    yield Text(
        f"weights {printed.size(sizes.weight_bytes)} in {weight_words(sizes.weights)}"
        f"{said.get('weights', '')} · KV in {sizes.kv}{said.get('kv', '')}"
    )


def _groups(shown: ShownModel) -> Table:
    sizes = shown.sizes
    engine = f"{shown.profile}: prefill"
    table = plain_table(
        "group", "layers", "KV a token", f"KV at {sizes.tokens:,}", engine, "after it"
    )
    for held in shown.held:
        group = held.group
        table.add_row(
            Text(f"{group.name} ({_keeps(group)})"),
            f"{group.layers:,}",
            printed.ABSENT
            if not group.entry_bytes
            else printed.size(group.entry_bytes / group.tokens_per_entry),
            printed.size(group.held_bytes(sizes.tokens)),
            printed.size(held.prefill_bytes),
            printed.size(held.bytes),
        )
    table.add_row(
        "all",
        f"{sizes.model.layers:,}",
        printed.size(sizes.kv_bytes_per_token),
        printed.size(sizes.kv_bytes_held + sizes.state_bytes_per_request),
        printed.size(sum(each.prefill_bytes for each in shown.held)),
        printed.size(sum(each.bytes for each in shown.held)),
    )
    return table


def _keeps(group: KvGroup) -> str:
    """Say what the layers of a group keep."""
    if group.kind == "full":
        each = group.tokens_per_entry
        return "every token" if each == 1 else f"one entry for {each:,} tokens"
    if group.kind == "window":
        return f"the last {group.tokens:,} tokens"
    if group.kind == "chunk":
        return f"chunks of {group.tokens:,} tokens"
    return "as much for any request"


def _sums(shown: ShownModel) -> Iterator[Text]:
    state = shown.sizes.state_bytes_per_request
    if state:
        yield Text(f"of it, {printed.size(state)} a request whatever its length")
    equal = ", all groups padded to equal sizes" if shown.equal_groups and shown.held[1:] else ""
    blocks = sorted({each.block_tokens for each in shown.held if each.block_tokens})
    tokens = " and ".join(f"{each:,}" for each in blocks)
    if blocks:
        yield Text(
            f"{shown.profile} takes blocks of {tokens} tokens in steps of at most"
            f" {shown.step_tokens:,}{equal}",
            style="dim",
        )


def _machines(shown: ShownModel) -> Table:
    tokens = shown.sizes.tokens
    table = plain_table(
        "machine", "GPUs", "weights", "left for KV", f"sequences of {tokens:,}", shown.profile
    )
    for each in shown.machines:
        table.add_row(Text(each.machine), *_room(each))
    return table


def _room(room: MachineRoom) -> Iterator[str | Text]:
    if not room.gpus:
        yield printed.ABSENT
        yield printed.ABSENT
        yield printed.ABSENT
        yield "can't be split"
        yield printed.ABSENT
        return
    yield f"{room.gpus:,}"
    yield printed.size(room.weight_bytes)
    if room.kv_bytes <= 0:
        yield f"{printed.size(-room.kv_bytes)} short"
        yield printed.ABSENT
        yield printed.ABSENT
        return
    yield printed.size(room.kv_bytes)
    yield f"{room.sequences:,}"
    yield f"{room.engine_sequences:,}"
