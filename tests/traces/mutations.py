"""Small valid traces of every format, and seeded ways to spoil them."""

import gzip
import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vsim.traces.arrow_io import conform
from vsim.traces.attention_by_page import by_page
from vsim.traces.schema import schema_of

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_EXTREMES = [
    b"0", b"-0", b"-1", b"1e400", b"-1e400", b"NaN", b"Infinity", b"nan", b"inf", b"1e18", b"1e7",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"-9223372036854775808", b"1" * 400, b"9" * 5000, b"1.5", b"1e-400",
    b"0x10", b"1_000", b"\xd9\xa3", b"\xc2\xb2", b"true", b"null", b'"5"', b"[]", b"{}",
    b"2147483648", b"4611686018427387903", b"4503599627370496", b"1e15", b"3155760000",
    b"1073741825", b"+5", b".5",
]  # fmt: skip
_SNIPPETS = [
    b"\0", b"\n", b"\r", b"\r\n", b'"', b"'", b",", b",,", b"{", b"}", b"[", b"]", b":",
    b"\xef\xbb\xbf", b"\xff", b"\xe9", b"\xed\xa0\x80", b"\\ud800", b"\\u0000",
    b"\xe2\x80\xa8", b"[" * 3000, b'{"a":' * 3000, b"9999-12-31 23:59:59",
    b"0001-01-01 00:00:00", b"2023-02-30 00:00:00", b"2262-04-12 00:00:00",
    b"2023-11-16 18:15:46+99:99", b" ", b"\t", b"#", b"\x1f\x8b", b"PAR1", b"ARROW1", b'"a\nb"',
    b"x" * 200_000,
]  # fmt: skip


def _lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _mooncake() -> list[dict[str, Any]]:
    return [
        {
            "timestamp": 1000 * i,
            "input_length": 1100,
            "output_length": 5,
            "hash_ids": [0, 1, 10 + i],
        }
        for i in range(4)
    ]


def _bailian() -> list[dict[str, Any]]:
    return [
        {"chat_id": i, "parent_chat_id": i - 2 if i > 1 else -1, "timestamp": 0.5 * i, "turn": 1,
         "input_length": 40, "output_length": 5, "type": "text", "hash_ids": [7, 8, 10 + i]}
        for i in range(4)
    ]  # fmt: skip


def _session() -> dict[str, Any]:
    call = {"type": "n", "in": 130, "out": 5, "hash_ids": [1, 2]}
    inner = [{"t": 0.0, "type": "s", "in": 70, "out": 3, "hash_ids": [9]}]
    return {
        "id": "s", "block_size": 64, "hash_id_scope": "local",
        "requests": [
            {"t": 0.0, **call}, {"t": 1.0, "type": "subagent", "requests": inner},
            {"t": 9.0, **call, "think_time": 2.0, "api_time": 0.5},
        ],
    }  # fmt: skip


def _chats() -> list[dict[str, Any]]:
    turns = [("human", "a" * 90), ("gpt", "b" * 30), ("human", "c" * 20), ("gpt", "d")]
    return [
        {"conversations": [{"from": who, "value": text} for who, text in turns]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
        {"prompt": "x", "prompt_len": 33, "output_len": 7},
    ]


_AZURE = b"""TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690+00:00,396,109
2023-11-16 18:16:50.0000000,12,0
"""
_BURSTGPT = b"""Timestamp,Session ID,Model,Request tokens,Response tokens,Total tokens,Log Type
5,7,ChatGPT,472,18,490,Conversation log
45.25,,ChatGPT,1087,0,1087,API log
118,7,GPT-4,417,276,693,Conversation log
"""
_TABLE = b"""timestamp_ms,input_length,output_length,session_id,tenant
10,33,5,c1,a
12,40,6,c2,b
13.5,64,7,c1,a
"""

TEXTS: dict[str, bytes] = {
    "mooncake": _lines(*_mooncake()),
    "mooncake list": json.dumps(_mooncake(), indent=1).encode(),
    "bailian": _lines(*_bailian()),
    "session": json.dumps(_session(), indent=1).encode(),
    "sessions": _lines(_session(), _session()),
    "sharegpt": json.dumps(_chats()).encode(),
    "sharegpt lines": _lines(*_chats()),
    "azure": _AZURE,
    "burstgpt": _BURSTGPT,
    "table": _TABLE,
    "flat json": _lines({"timestamp_ms": 1, "prompt_tokens": 5, "output_tokens": 2}),
}


def _parquet(table: pa.Table, metadata: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def _agentic_table() -> pa.Table:
    return pa.table(
        {
            "session_id": ["a", "a", "a", "b"], "seq": [0, 1, 2, 0], "depth": [0, 1, 0, 0],
            "parent_seq": [-1, 0, -1, -1], "t_ms": [0, 20, 900, 0], "api_ms": [100, None, 10, 10],
            "think_ms": [0, 5, 800, 0], "input_length": [130, 64, 200, 64],
            "output_length": [5, 5, 0, 5],
            "hash_ids": pa.array([[1, 2], [7], [1, 2, 3], [1]], pa.list_(pa.int64())),
        }
    )  # fmt: skip


def _lengths_table() -> pa.Table:
    return pa.table(
        {
            "timestamp_ns": pa.array([1, 5, 9], pa.timestamp("ns")), "input_length": [33, 40, 64],
            "output_length": [5, 6, 7], "hash_ids": [[4, 5], [], [4, 5, 6]],
        }
    )  # fmt: skip


def _arrow(kind: str, rows: list[dict[str, Any]], **metadata: str) -> bytes:
    fields = [field.with_nullable(True) for field in schema_of(kind)]
    table = conform(pa.Table.from_pylist(rows, schema=pa.schema(fields)), kind)
    written = {"vsim.kind": kind, "vsim.schema_version": "1"}
    table = table.replace_schema_metadata(written | {f"vsim.{k}": v for k, v in metadata.items()})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _arrow_rows() -> dict[str, tuple[list[dict[str, Any]], dict[str, str]]]:
    request = {"prompt_tokens": 40, "output_tokens": 2, "priority": 0, "tenant": "a"}
    operation = {
        "kind": "copy", "source_tier": "hbm", "target_tier": "host", "pages": [1], "bytes": 8,
        "stream": 0, "depends_on": [], "submit_ns": 0, "start_ns": 1, "end_ns": 2,
        "predicted": True,
    }  # fmt: skip
    attention = {"request": 0, "layer": 0, "kv_head": 0}
    return {
        "requests": (
            [
                {"id": 1, "arrival_ns": 0, "prefix_blocks": [3, 4], **request},
                {"id": 2, "arrival_ns": 9, "parent": 1, "think_ns": 4, "session": 0,
                 "prefix_blocks": [3, 4, 5], **request},
            ],
            {"block_tokens": "16"},
        ),
        "operations": ([{"id": 1, **operation}, {"id": 2, "step": 0, **operation}], {}),
        "attention": (
            [{"step": i, "pages": [0, 1], **attention} for i in range(3)],
            {"page_tokens": "16", "page_bytes": "64", "prompt_tokens": "40", "source": "x"},
        ),
        "allocations": (
            [{"time_ns": 5, "thread": 1, "stream": 0, "op": "free", "handle": 3, "bytes": 8}],
            {},
        ),
    }  # fmt: skip


def binaries() -> dict[str, bytes]:
    """Make one small valid file of each Parquet form and each Arrow kind."""
    made = {
        "agentic": _parquet(_agentic_table(), {"block_size": "64"}),
        "lengths": _parquet(_lengths_table(), {"block_size": "16"}),
    }
    for kind, (rows, metadata) in _arrow_rows().items():
        made[f"arrow {kind}"] = _arrow(kind, rows, **metadata)
    made["arrow attention by page"] = _by_page(made["arrow attention"])
    return made


def _by_page(rows: bytes) -> bytes:
    with pa.ipc.open_file(rows) as file:
        table = file.read_all()
    metadata = table.schema.metadata | {
        b"vsim.rows": b"page",
        b"vsim.mass_scale": b"log2 step=0.5 fine=0.125 above=2^-6",
    }
    mass = pa.array([[7, 0]] * table.num_rows, pa.list_(pa.uint8()))
    stored = by_page(table.append_column("mass", mass)).replace_schema_metadata(metadata)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, stored.schema) as writer:
        writer.write_table(stored)
    return sink.getvalue()


def _place(draw: random.Random, data: bytes) -> int:
    return draw.randrange(len(data) + 1)


def _span(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = _place(draw, data)
    return start, min(len(data), start + draw.choice((1, 2, 5, 20, 80)))


def _number(draw: random.Random, data: bytes) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = draw.choice(found)
    return data[: match.start()] + draw.choice(_EXTREMES) + data[match.end() :]


def _insert(draw: random.Random, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.choice(_SNIPPETS) + data[at:]


def _drop(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def _again(draw: random.Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:end] * draw.choice((1, 1, 3)) + data[end:]


def _flip(draw: random.Random, data: bytes) -> bytes:
    spoiled = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if spoiled:
            spoiled[draw.randrange(len(spoiled))] = draw.choice((0, 255, draw.randrange(256)))
    return bytes(spoiled)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: _place(draw, data)]


def _swap(draw: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def _recoded(draw: random.Random, data: bytes) -> bytes:
    text = data.decode("latin-1")
    coding = draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig"))
    return text.encode(coding)


def _carriage(draw: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n")))


def _zipped(draw: random.Random, data: bytes) -> bytes:
    whole = gzip.compress(data, mtime=0)
    return draw.choice((lambda: whole, lambda: _cut(draw, whole), lambda: _flip(draw, whole)))()


_Mutation = Callable[[random.Random, bytes], bytes]
_OF_TEXT: tuple[_Mutation, ...] = (
    _number, _number, _number, _insert, _insert, _drop, _again, _flip, _cut, _swap, _recoded,
    _carriage, _zipped,
)  # fmt: skip
_OF_BINARY: tuple[_Mutation, ...] = (_flip, _flip, _flip, _cut, _drop, _again, _zipped)


def spoiled(draw: random.Random, data: bytes, *, binary: bool = False) -> bytes:
    """Spoil a file in one to three ways."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        data = draw.choice(_OF_BINARY if binary else _OF_TEXT)(draw, data)
    return data


_INTS = (-(2**63), -1, 0, 1, 2**31, 2**53 + 1, 2**62, 2**63 - 1)
_VALUES: tuple[tuple[tuple[Any, ...], tuple[pa.DataType | None, ...]], ...] = (
    (_INTS, (pa.int64(), *map(pa.timestamp, ("ms", "us", "ns")), *map(pa.duration, ("s", "ns")))),
    ((0, 2**63, 2**64 - 1), (pa.uint64(),)),
    ((0.5, -1.0, float("nan"), 1e300), (pa.float64(),)),
    (("", "a", "é", "1", "9" * 5000), (pa.string(),)),
    ((None,), (pa.int64(), pa.string(), pa.null())),
    (([], [1], [2**63 - 1, 1], [-5], None), (pa.list_(pa.int64()),)),
    (([2**64 - 1], [2**63], [1], []), (pa.list_(pa.uint64()),)),
    (([0.5], [None], [], [1e300]), (pa.list_(pa.float64()),)),
    ((b"\xff", b"", b"a", None), (pa.binary(),)),
    ((True, False, None), (pa.bool_(),)),
    ((0, 1, 2**31 - 1), (pa.date32(),)),
    (({"a": 1},), (None,)),
)
"""Values and the types that they may have in a column where they do not belong."""


def _odd_column(draw: random.Random, rows: int) -> Any:
    values, types = draw.choice(_VALUES)
    return pa.array([draw.choice(values) for _ in range(rows)], draw.choice(types))


def odd_parquet(draw: random.Random) -> bytes:
    """Make a Parquet file with a column or two of types and values that do not belong."""
    table = draw.choice((_agentic_table(), _lengths_table()))
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(table.num_columns)
        odd = _odd_column(draw, table.num_rows)
        table = table.set_column(at, table.column_names[at], odd)
    size = draw.choice(("16", "64", "0", "-1", "x", "9" * 5000, "\xb2", "1048577"))
    return _parquet(table, {"block_size": size})


_ODD_METADATA = (
    "",
    "0",
    "-1",
    "x",
    "1e9",
    "16.0",
    "9" * 5000,
    "9" * 30,
    "\u0663",
    "1048577",
    "nan",
)


def odd_arrow(draw: random.Random) -> bytes:
    """Make an Arrow trace whose schema is right and whose values or metadata are extreme."""
    kind = draw.choice(("requests", "operations", "attention", "allocations"))
    rows, metadata = _arrow_rows()[kind]
    with pa.ipc.open_file(_arrow(kind, rows, **metadata)) as file:
        table = file.read_all()
    for _ in range(draw.choice((0, 1, 1, 2))):
        at = draw.randrange(table.num_columns)
        field = table.schema.field(at)
        odd = _extreme(draw, field.type, table.num_rows)
        table = table.set_column(at, field.name, odd)
    if draw.random() < 0.4:
        name = draw.choice(("block_tokens", "page_tokens", "page_bytes", "prompt_tokens", "notes"))
        metadata = {**metadata, name: draw.choice(_ODD_METADATA)}
    written = {"kind": kind, "schema_version": "1", **metadata}
    table = table.replace_schema_metadata({f"vsim.{k}": v for k, v in written.items()})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _extreme(draw: random.Random, kind: pa.DataType, rows: int) -> Any:
    """Return a column of a type with values at its ends, or of another type."""
    if draw.random() < 0.2:
        return _odd_column(draw, rows)
    element = kind.value_type if pa.types.is_list(kind) else kind
    if not pa.types.is_integer(element):
        return pa.array([None] * rows, kind)
    bits = element.bit_width
    ends = (0, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), -1, 2 ** (bits - 2), 2**20)
    if element is kind:
        return pa.array([draw.choice(ends) for _ in range(rows)], kind)
    lists = [[draw.choice(ends) for _ in range(draw.choice((0, 1, 3)))] for _ in range(rows)]
    return pa.array(lists, kind)
