"""Arrow files: metadata, schemas, and what is refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vsim.traces.arrow_io import Provenance, kind_of, metadata_of, read_table, write_table
from vsim.traces.faults import InputError
from vsim.traces.requests import Requests, write_requests
from vsim.traces.schema import LATENCIES, SCHEMAS, schema_of

ROWS: dict[str, list[dict[str, Any]]] = {
    "requests": [
        {"id": 1, "arrival_ns": 0, "prompt_tokens": 20, "output_tokens": 1, "session": 1,
         "parent": None, "think_ns": None, "tenant": "a", "priority": 0, "prefix_blocks": [5]},
        {"id": 2, "arrival_ns": 4, "prompt_tokens": 40, "output_tokens": 1, "session": 1,
         "parent": 1, "think_ns": 3, "tenant": None, "priority": 0, "prefix_blocks": [5, 6]},
    ],
    "attention": [
        {"step": 0, "request": 0, "layer": 0, "kv_head": -1, "pages": [0, 2]},
        {"step": 0, "request": 0, "layer": 1, "kv_head": -1, "pages": []},
        {"step": 1, "request": 0, "layer": 0, "kv_head": -1, "pages": [1]},
    ],
    "allocations": [
        {"time_ns": 0, "thread": 1, "stream": 0, "op": "malloc", "handle": 9, "bytes": 64,
         "other_handle": None},
        {"time_ns": 3, "thread": 1, "stream": 0, "op": "memcpy", "handle": 9, "bytes": 8,
         "other_handle": 4},
    ],
    "allocator_series": [
        {"trace_row": row, "time_ns": 4, "live_bytes": 64, "allocated_bytes": 512,
         "reserved_bytes": 2**21}
        for row in (0, 3)
    ],
    "operations": [
        {"id": 0, "step": None, "kind": "map", "source_tier": None, "target_tier": "hbm",
         "pages": [1], "bytes": 64, "stream": 0, "depends_on": [], "submit_ns": 0, "start_ns": 0,
         "end_ns": 5, "predicted": True},
        {"id": 3, "step": 0, "kind": "copy", "source_tier": "host", "target_tier": "hbm",
         "pages": [1, 2], "bytes": 64, "stream": 1, "depends_on": [0], "submit_ns": 1,
         "start_ns": 5, "end_ns": 5, "predicted": True},
    ],
    "server_runs": [
        {"repeat": 0, "id": 0, "arrival_ns": 0, "sent_ns": -1, "queued_ns": 1, "scheduled_ns": 2,
         "engine_first_ns": 3, "first_token_ns": 4, "engine_last_ns": 5, "last_token_ns": 6,
         "prompt_tokens": 20, "output_tokens": 2, "gpu_hit_tokens": 16, "host_hit_tokens": 0,
         "preemptions": 1, "session": 1, "parent": None, "think_ns": None, "prefix_blocks": [5]},
        {"repeat": 0, "id": 1, "arrival_ns": 3, "sent_ns": None, "queued_ns": None,
         "scheduled_ns": None, "engine_first_ns": None, "first_token_ns": None,
         "engine_last_ns": None, "last_token_ns": 9, "prompt_tokens": 2, "output_tokens": 1,
         "gpu_hit_tokens": None, "host_hit_tokens": None, "preemptions": None, "session": 1,
         "parent": 0, "think_ns": 3, "prefix_blocks": []},
    ],
    "server_steps": [
        {"end_ns": end_ns, "has_tokens": True, "running": 1, "waiting": 0, "skipped": 0,
         "kv_used": 0.5, "finished_prompt_tokens": 20, "generated_tokens": 1, "preempted": 0}
        for end_ns in (4, 6)
    ],
    "kernel_tables": [
        {"kernel": "products", "precision": "bf16", "variant": "", "shape": [64, 128],
         "first": [1, 8, 9], "second": [0], "time_code": [640, -1, 700]},
        {"kernel": "decode_attention", "precision": "fp8", "variant": "full",
         "shape": [8, 1, 128, 0], "first": [1, 2], "second": [16, 64],
         "time_code": [800, 801, 802, 900]},
    ],
    "gpu_samples": [
        {"probe": "read", "variant": "hbm", "sizes": '{"bytes": 64, "streams": 1}', "bytes": 64,
         "unit": "us", "samples": [1.5, 1.0]},
        {"probe": "power", "variant": "idle", "sizes": "{}", "bytes": 0, "unit": "W",
         "samples": [75.0]},
    ],
    "gpu_cases": [
        {"name": "a", "class": "copies", "case": "{}", "repeats_ns": [5, 6]},
        {"name": "b", "class": "attention", "case": "{}", "repeats_ns": [7]},
    ],
    "size_runs": [
        {"configuration": 0, "changes": "no host", "rate_scale": 0.5, "offered_per_s": 1.5,
         "met": True, "best": True, "requests": 5, "rejected": 1, "good": 4, "good_per_s": 0.25,
         **{f"{name}_ns": 7 for name in LATENCIES}, "prompt_tokens": 100, "output_tokens": 10,
         "simulated_ns": 2, "hit_ratio": 0.5, "usd_per_hour": 3.5, "usd_per_million_output": 1.5,
         "bound_by": "arrivals"},
        {"configuration": 0, "changes": "no host", "rate_scale": 1.0, "offered_per_s": None,
         "met": False, "best": False, "requests": 5, "rejected": 5, "good": 0, "good_per_s": 0.0,
         **{f"{name}_ns": None for name in LATENCIES}, "prompt_tokens": 0, "output_tokens": 0,
         "simulated_ns": 0, "hit_ratio": 0.0, "usd_per_hour": 3.5, "usd_per_million_output": None,
         "bound_by": "capacity"},
    ],
}  # fmt: skip
METADATA = {"requests": {"block_tokens": "16"}}


def written(path: Path, kind: str, rows: list[dict[str, Any]], **extra: str) -> Path:
    """Write rows as they are, unchecked."""
    table = pa.Table.from_pylist(rows, schema=schema_of(kind))
    provenance = Provenance("a test", "CC0-1.0", extra={**METADATA.get(kind, {}), **extra})
    write_table(table, path, kind, provenance)
    return path


@pytest.mark.parametrize("kind", SCHEMAS)
def test_each_kind_is_read_as_it_was_written(tmp_path: Path, kind: str) -> None:
    table = read_table(written(tmp_path / "t.arrow", kind, ROWS[kind]), kind)
    assert table.to_pylist() == ROWS[kind]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_each_field_of_a_file_says_its_unit_and_meaning(tmp_path: Path, kind: str) -> None:
    table = read_table(written(tmp_path / "t.arrow", kind, ROWS[kind]))
    for field in table.schema:
        assert field.metadata[b"unit"]
        assert len(field.metadata[b"doc"]) > 3
    for column in SCHEMAS[kind]:
        if column.type == pa.bool_():
            assert column.unit == "flag"
            continue
        for suffix, unit in (("_ns", "ns"), ("_tokens", "tokens"), ("bytes", "bytes")):
            if column.name.endswith(suffix):
                assert column.unit == unit


def test_a_file_says_what_it_is_and_where_it_is_from(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS["operations"], schema=schema_of("operations"))
    provenance = Provenance("a run", "Apache-2.0", "two H200", "abc", {"note": "x"})
    write_table(table, tmp_path / "t.arrow", "operations", provenance)
    metadata = metadata_of(read_table(tmp_path / "t.arrow"))
    assert metadata.pop("producer_version")
    assert metadata == {
        "kind": "operations", "schema_version": "1", "producer": "vsim", "source": "a run",
        "licence": "Apache-2.0", "machine": "two H200", "calibration_hash": "abc", "note": "x",
    }  # fmt: skip


def change(rows: list[dict[str, Any]], row: int, **values: object) -> list[dict[str, Any]]:
    return [{**old, **values} if i == row else old for i, old in enumerate(rows)]


WRONG_VALUES = [
    ("requests", 1, {"arrival_ns": -1}, "row 1, column arrival_ns: is -1; write 0 or more"),
    ("requests", 0, {"arrival_ns": 9}, "row 1, column arrival_ns: is 4 after 9; sort the rows"),
    ("requests", 0, {"prompt_tokens": 0}, "row 0, column prompt_tokens: is 0; write 1 or more"),
    ("requests", 1, {"output_tokens": 0}, "row 1, column output_tokens: is 0; write 1 or more"),
    ("requests", 1, {"id": 1}, "row 1, column id: is 1, as in a row before"),
    ("requests", 1, {"parent": 77}, "row 1, column parent: is 77, which is no row's id"),
    ("requests", 0, {"parent": 2}, "row 0, column parent: is 2, in row 1; a parent stands in an"),
    ("requests", 1, {"parent": 2}, "row 1, column parent: is 2, in row 1; a parent stands in an"),
    ("requests", 1, {"think_ns": -5}, "row 1, column think_ns: is -5; write 0 or more"),
    ("requests", 1, {"prefix_blocks": [5, -6]}, "row 1, column prefix_blocks: holds -6; write 0"),
    ("requests", 0, {"prefix_blocks": [5, 6, 7]},
     "row 0, column prefix_blocks: holds 3 ids; 20 tokens fill at most 2 blocks of 16"),
    ("requests", 1, {"prefix_blocks": [6, 5]}, "row 1, column prefix_blocks: holds id 5 after"),
    ("requests", 1, {"prefix_blocks": [5, 5]}, "row 1, column prefix_blocks: holds id 5 after"),
    ("requests", 1, {"prefix_blocks": [5, None]}, "row 1, column prefix_blocks: holds a null"),
    ("attention", 1, {"layer": 0}, "row 1, column step: is out of order or twice there"),
    ("attention", 2, {"step": 0}, "row 2, column step: is out of order or twice there"),
    ("attention", 0, {"kv_head": -2}, "row 0, column kv_head: is -2; write -1 or more"),
    ("attention", 2, {"pages": [-1]}, "row 2, column pages: holds -1; write 0 or more"),
    ("allocations", 0, {"time_ns": 8}, "row 1, column time_ns: is 3 after 8"),
    ("allocations", 0, {"op": "mallok"}, "column op: 'mallok' is unknown (did you mean 'malloc'?)"),
    ("allocations", 1, {"other_handle": None}, "column other_handle: is null; a memcpy has one"),
    ("allocations", 1, {"bytes": -8}, "row 1, column bytes: is -8; write 0 or more"),
    ("allocations", 0, {"bytes": 0}, "row 0, column bytes: is 0; a malloc that succeeds has 1"),
    ("allocations", 0, {"bytes": 2**48 + 1}, "row 0, column bytes: is 281474976710657; write at"),
    ("allocations", 1, {"op": "realloc"}, "row 1, column handle: is 9, as in row 0; an allocation"),
    ("allocator_series", 0, {"time_ns": 8}, "row 1, column time_ns: is 4 after 8"),
    ("allocator_series", 0, {"trace_row": 7}, "row 1, column trace_row: is 3 after 7; rows rise"),
    ("operations", 1, {"id": 0}, "row 1, column id: is 0 after 0; ids rise from row to row"),
    ("operations", 1, {"start_ns": 0}, "row 1, column start_ns: is 0, before submit_ns 1"),
    ("operations", 0, {"submit_ns": 7, "start_ns": 7}, "column end_ns: is 5, before start_ns 7"),
    ("operations", 1, {"depends_on": [1]}, "row 1, column depends_on: holds [1]; an operation"),
    ("operations", 1, {"depends_on": [0, 3]}, "row 1, column depends_on: holds [0, 3]; an"),
    ("kernel_tables", 0, {"kernel": "product"}, "'product' is unknown (did you mean 'products'?)"),
    ("kernel_tables", 1, {"shape": [8, -1]}, "row 1, column shape: holds -1; write 0 or more"),
    ("kernel_tables", 0, {"first": [1, 9, 9]}, "row 0, column first: does not rise; write rising"),
    ("kernel_tables", 1, {"second": [64, 16]}, "row 1, column second: does not rise; write rising"),
    ("kernel_tables", 1, {"first": [], "time_code": []}, "row 1, column first: is empty; write"),
    ("kernel_tables", 1, {"time_code": [1, 2, 3]},
     "row 1, column time_code: holds 3 codes for 4 pairs of points"),
    ("kernel_tables", 0, {"time_code": [640, -2, 700]}, "column time_code: holds -2; write -1"),
    ("kernel_tables", 0, {"time_code": [640, 4000, 700]}, "holds a code above 3008, which is more"),
    ("kernel_tables", 0, {"time_code": [-1, -1, -1]}, "column time_code: holds no measured time"),
    ("size_runs", 1, {"good": 6}, "row 1, column good: is 6 of 5 requests; write at most those"),
    ("size_runs", 0, {"rejected": 9}, "row 0, column rejected: is 9 of 5 requests"),
    ("gpu_samples", 0, {"probe": "reed"}, "'reed' is unknown (did you mean 'read'?)"),
    ("gpu_samples", 1, {"samples": []}, "row 1, column samples: is empty; write at least one"),
    ("gpu_samples", 0, {"samples": [1.0, float("nan")]}, "column samples: holds what is no number"),
    ("gpu_samples", 0, {"samples": [-1.0]}, "row 0, column samples: holds what is no number of 0"),
    ("gpu_samples", 0, {"sizes": '{"b": 1, "a": 1}'}, "row 0, column sizes: holds '{\"b\": 1"),
    ("gpu_samples", 0, {"sizes": '{"a": 1.5}'}, "write whole numbers, as {\"chunks\": 8}"),
    ("gpu_samples", 0, {"sizes": "[1]"}, "row 0, column sizes: holds '[1]'"),
    ("gpu_samples", 1, {"probe": "read", "variant": "hbm", "unit": "us",
                        "sizes": '{"bytes": 64, "streams": 1}'},
     "row 1, column sizes: is a point before; keep one of the two"),
    ("operations", 0, {"kind": "maps"}, "column kind: 'maps' is unknown (did you mean 'map'?)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "values", "message"), WRONG_VALUES)
def test_a_wrong_value_is_named_by_file_row_and_column(
    tmp_path: Path, kind: str, row: int, values: dict[str, object], message: str
) -> None:
    path = written(tmp_path / "t.arrow", kind, change(ROWS[kind], row, **values))
    with pytest.raises(InputError) as raised:
        read_table(path)
    assert any(str(fault).startswith(f"{path}: ") for fault in raised.value.faults)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "column"),
    [(kind, c.name) for kind, columns in SCHEMAS.items() for c in columns
     if not c.nullable and not c.optional],
)  # fmt: skip
def test_a_null_where_none_may_be_is_named(tmp_path: Path, kind: str, column: str) -> None:
    path = written(tmp_path / "t.arrow", kind, change(ROWS[kind], 1, **{column: None}))
    with pytest.raises(InputError, match=f"row 1, column {column}: is null; write a value"):
        read_table(path)


def test_all_faults_are_shown_at_once_and_counted(tmp_path: Path) -> None:
    rows = [{**row, "prompt_tokens": -1, "output_tokens": 0} for row in ROWS["requests"]]
    with pytest.raises(InputError) as raised:
        read_table(written(tmp_path / "t.arrow", "requests", rows))
    assert [str(fault).split(": ", 1)[1] for fault in raised.value.faults] == [
        "row 0, column prompt_tokens: is -1; write 1 or more (and 1 more rows)",
        "row 0, column output_tokens: is 0; write 1 or more (and 1 more rows)",
    ]


def rewritten(path: Path, alter: Callable[[pa.Table], pa.Table]) -> Path:
    """Write a file again as another producer might: unchecked, with the same metadata."""
    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    table = alter(table)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def meta(**changes: str | None) -> Callable[[pa.Table], pa.Table]:
    def alter(table: pa.Table) -> pa.Table:
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        for key, value in changes.items():
            metadata.pop(f"vsim.{key}", None)
            if value is not None:
                metadata[f"vsim.{key}"] = value
        return table.replace_schema_metadata(metadata)

    return alter


def retyped(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def alter(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(place, name, table.column(name).cast(kind))

    return alter


WRONG_FILES = [
    (meta(schema_version="2"), "vsim.schema_version: has schema version 2; this vsim reads 1"),
    (meta(schema_version=None), "has schema version none; this vsim reads 1"),
    (meta(kind=None), "has no vsim.kind in its schema metadata"),
    (meta(kind="request"), "vsim.kind: is of kind 'request' (did you mean 'requests'?)"),
    (meta(kind="operations"), "vsim.kind: holds operations, not requests"),
    (meta(block_tokens=None), "vsim.block_tokens: is 0 or missing, but there are prefix_blocks"),
    (meta(block_tokens="-4"), "vsim.block_tokens: '-4' is no whole number of tokens"),
    (lambda t: t.drop_columns(["session"]), "column session: is missing; add it as int64"),
    (lambda t: t.append_column("tennant", t.column("tenant")),
     "column tennant: is unknown (did you mean 'tenant'?)"),
    (lambda t: t.append_column("id", t.column("id")), "column id: is there more than once"),
    (retyped("arrival_ns", pa.float64()), "column arrival_ns: is double; write int64"),
    (retyped("prefix_blocks", pa.list_(pa.int32())), "column prefix_blocks: is list<"),
    (lambda t: t.slice(0, 0), "is empty; write at least one row of requests"),
]  # fmt: skip


@pytest.mark.parametrize(("alter", "message"), WRONG_FILES)
def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, alter: Callable[[pa.Table], pa.Table], message: str
) -> None:
    path = rewritten(written(tmp_path / "t.arrow", "requests", ROWS["requests"]), alter)
    with pytest.raises(InputError) as raised:
        read_table(path, "requests")
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")


def test_scores_stand_one_a_page_and_are_finite(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"

    def with_mass(values: list[Any], kind: pa.DataType, **extra: str) -> Path:
        table = pa.Table.from_pylist(ROWS["attention"], schema=schema_of("attention"))
        table = table.append_column("mass", pa.array(values, pa.list_(kind)))
        write_table(table, path, "attention", Provenance("a test", extra=extra))
        return path

    read_table(with_mass([[0.5, 0.25], [], [1.0]], pa.float16()))
    read_table(with_mass([[9, 250], [], [3]], pa.uint8(), mass_scale="log2 8"))
    for values, kind, message in (
        ([[0.5], [], [1.0]], pa.float16(), "row 0, column mass: holds 1 scores for 2 pages"),
        ([[0.5, float("nan")], [], [1.0]], pa.float16(), "row 0, column mass: holds NaN"),
        ([[0.5, 0.5], [], [-1.0]], pa.float16(), "row 2, column mass: holds NaN, an infinity or"),
        ([[0.5, 0.5], None, [1.0]], pa.float16(), "row 1, column mass: is null"),
        ([[9, 250], [], [3]], pa.uint8(), "vsim.mass_scale: is missing, but mass is uint8"),
        ([[9, 250], [], [3]], pa.int64(), "column mass: is list<item: int64>"),
    ):
        with pytest.raises(InputError) as raised:
            read_table(with_mass(values, kind))
        assert message in str(raised.value)


def test_a_further_score_needs_a_name_that_says_so(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS["attention"], schema=schema_of("attention"))
    scores = pa.array([[1.0, 2.0], [], [-3.0]], pa.list_(pa.float32()))
    path = tmp_path / "t.arrow"
    write_table(table.append_column("score_q", scores), path, "attention", Provenance("a test"))
    assert read_table(path).column("score_q").to_pylist()[0] == [1.0, 2.0]
    write_table(table.append_column("quest", scores), path, "attention", Provenance("a test"))
    with pytest.raises(InputError, match="column quest: is unknown"):
        read_table(path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_cut_off_file_is_one_fault(tmp_path: Path, requests: Requests, share: float) -> None:
    path = tmp_path / "t.arrow"
    write_requests(requests, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError) as raised:
        read_table(path)
    assert len(raised.value.faults) == 1
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_refused_or_read_and_never_crashes(
    tmp_path: Path, requests: Requests
) -> None:
    path = tmp_path / "t.arrow"
    write_requests(requests, path)
    whole = path.read_bytes()
    draw = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            read_table(path, "requests")
        except InputError:
            refused += 1
    assert refused > 30


def test_what_is_no_arrow_file_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "t.arrow").write_text("a,b\n")
    with pytest.raises(InputError, match="is no Arrow IPC file; make one with `vsim trace import`"):
        read_table(tmp_path / "t.arrow")
    with pytest.raises(InputError, match=r"no\.arrow: cannot be read: No such file"):
        read_table(tmp_path / "no.arrow")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_kind_is_told_without_reading_the_rows(tmp_path: Path, kind: str) -> None:
    assert kind_of(written(tmp_path / "t.arrow", kind, ROWS[kind])) == kind


def test_a_file_that_says_nothing_of_its_kind_has_none(tmp_path: Path) -> None:
    whole = written(tmp_path / "t.arrow", "attention", ROWS["attention"]).read_bytes()
    (tmp_path / "cut.arrow").write_bytes(whole[:300])
    (tmp_path / "words.txt").write_text("a,b")
    with pa.OSFile(str(tmp_path / "plain.arrow"), "wb") as sink:
        table = pa.table({"a": [1]})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    for name in ("cut.arrow", "words.txt", "plain.arrow", "none.arrow"):
        assert kind_of(tmp_path / name) is None
