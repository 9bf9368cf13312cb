"""Bailian traces of Qwen: JSON objects, one a line or in one list.

`chat_id`, `parent_chat_id` (-1 for a chat's first turn), `timestamp` (s), `input_length`,
`output_length`, `type` (text, search, image, file), `turn`, `hash_ids` (one id a block of 16
tokens). Each row's prompt holds the chat so far. An id stands for the content of its block alone:
where one stands after different blocks, ids are numbered anew so that each stands for its prefix.
The type becomes the tenant. Source: alibaba-edu/qwen-bailian-usagetraces-anon.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.importers.block_rows import LENGTHS, BlockRows
from vsim.traces.importers.block_size import block_tokens_of
from vsim.traces.importers.imported import (
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
    unread_note,
)
from vsim.traces.importers.json_rows import JsonValue, shown
from vsim.traces.importers.values import parse_name
from vsim.traces.prefix_chain import chained, first_broken
from vsim.traces.trace_file import TraceFile

BLOCK_TOKENS: Final = 16
KNOWN: Final = (
    "chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "type", "turn",
    "hash_ids",
)  # fmt: skip
_NONE: Final = -1
_EXAMPLE: Final = (
    '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 20, '
    '"output_length": 5, "type": "text", "turn": 1, "hash_ids": [0, 1]}'
)
_Ints = NDArray[np.int64]


def import_bailian(file: TraceFile, options: ImportOptions) -> Imported:
    """Import a Bailian trace. Raises InputError that names each wrong line."""
    needed = ("chat_id", "timestamp", *LENGTHS)
    table = BlockRows(file, ("s", 10**9), KNOWN, _EXAMPLE, needed)
    row_of: dict[int, int] = {}
    parents: list[int] = []
    tenants: dict[str, int] = {}
    tenant: list[int] = []

    def keep(row: dict[str, Any], value: JsonValue) -> None:
        chat, parent = row.get("chat_id"), row.get("parent_chat_id", _NONE)
        for name, found in (("chat_id", chat), ("parent_chat_id", parent)):
            if type(found) is not int:
                message = f"{shown(found)} is no chat; write a whole number"
                table.faults.add(message, line=value.line, place=value.field(name))
        at = len(table.rows.line) - 1
        if type(chat) is int and row_of.setdefault(chat, at) != at:
            message = f"is {chat}, as in a row before; write each chat_id once"
            table.faults.add(message, line=value.line, place=value.field("chat_id"))
        parents.append(parent if type(parent) is int else _NONE)
        try:
            kind = "" if row.get("type") is None else parse_name(row["type"])
        except ValueError as error:
            table.faults.add(str(error), line=value.line, place=value.field("type"))
            kind = ""
        tenant.append(tenants.setdefault(kind, len(tenants)))

    table.read(options.sort, keep)
    notes: list[str] = []
    rows = table.rows
    prompt = np.asarray(rows.prompt_tokens, dtype=np.int64)
    offsets, ids = table.ids.offsets(), table.ids.ids(notes)
    counts = np.diff(offsets)
    if not counts.any():
        refuse_moot(options, {"block_tokens": "the file has no prefix ids"})
    block = block_tokens_of(file.name, prompt, counts, BLOCK_TOKENS, options.block_tokens, notes)
    if first_broken(offsets, ids) is not None:
        ids = chained(offsets, ids)
        notes.append("ids stand for a block's content alone: numbered anew by their whole prefix")
    parent = _parents(parents, row_of, np.asarray(rows.arrival_ns, dtype=np.int64), notes)
    notes.extend(unread_note(table.unread()))
    requests = make_requests(
        file.name,
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        session=_sessions(parent),
        parent=parent,
        tenant=np.asarray(tenant, dtype=np.int64),
        tenant_names=tuple(tenants) or ("",),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block,
        notes=notes,
        source=options.source or f"Bailian trace {file.stem}",
        sort=options.sort,
        lines=rows.line,
        row_word="line" if table.in_lines else "entry",
    )
    return Imported(requests, options.licence or "not stated")


def _parents(
    chats: list[int], row_of: dict[int, int], arrival_ns: _Ints, notes: list[str]
) -> _Ints:
    """Return the row that each row continues, -1 for a first turn or where the file has it not."""
    rows = np.arange(len(chats))
    named = np.asarray([chat != _NONE for chat in chats], dtype=np.bool_)
    parent = np.asarray([row_of.get(chat, -1) for chat in chats], dtype=np.int64)
    parent[~named] = -1
    gone = int(np.count_nonzero(named & (parent < 0)))
    if gone:
        notes.append(f"{gone} turns continue a chat that the file does not hold: taken as first")
    above = np.maximum(parent, 0)
    late = (parent >= 0) & (
        (arrival_ns[above] > arrival_ns) | ((arrival_ns[above] == arrival_ns) & (above >= rows))
    )
    if late.any():
        notes.append(
            f"{np.count_nonzero(late)} turns arrive before the turn they continue: taken as first"
        )
        parent[late] = -1
    return parent


def _sessions(parent: _Ints) -> _Ints:
    """Number the conversations: rows that continue one another share a number."""
    root = np.where(parent >= 0, parent, np.arange(len(parent)))
    while True:
        above = root[root]
        if (above == root).all():
            break
        root = above
    codes: _Ints = np.unique(root, return_inverse=True)[1].astype(np.int64)
    return codes
