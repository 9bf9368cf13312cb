"""Write and read Arrow trace files: whole or not at all, and checked before anyone sees them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from vsim.traces.attention_by_page import by_row, is_by_page
from vsim.traces.faults import Fault, InputError, first_line, refuse, suggestion
from vsim.traces.schema import (
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    SCHEMAS,
    metadata_text,
    schema_of,
)
from vsim.traces.trace_file import TraceFile, open_trace
from vsim.traces.validation.tables import faults_in
from vsim.traces.writing import FreshFile, Name, fresh_file, sink

_WRITERS: Final = MappingProxyType(
    {
        "requests": "make one with `vsim trace import`",
        "attention": "`vsim record attention` writes one",
        "operations": "`vsim run --out` writes one with --set output.operations=all",
        "gpu_samples": "`vsim calibrate --gpu` writes one",
    }
)
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, TypeError, KeyError)
"""What pyarrow raises on a file that is cut off, damaged or made to deceive."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a file's rows are from.

    Args:
        source: what they were made from: a data set, a generator and its seed, a machine's run.
        licence: the SPDX name under which they may be passed on.
        machine: of a recording, the machine's name.
        calibration_hash: of a recording or prediction, the hash of the machine file.
        extra: further metadata, keys without the `vsim.` before them.
    """

    source: str
    licence: str = "not stated"
    machine: str | None = None
    calibration_hash: str | None = None
    extra: Mapping[str, str] | None = None


@cache  # the description that it stands in holds all of the README: five milliseconds a file
def _producer_version() -> str:
    try:
        return version("vsim")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def _metadata(kind: str, provenance: Provenance) -> dict[str, str]:
    metadata = {
        "vsim.kind": kind,
        "vsim.schema_version": str(SCHEMA_VERSION),
        "vsim.producer": "vsim",
        "vsim.producer_version": _producer_version(),
        "vsim.source": provenance.source,
        "vsim.licence": provenance.licence,
    }
    if provenance.machine is not None:
        metadata["vsim.machine"] = provenance.machine
    if provenance.calibration_hash is not None:
        metadata["vsim.calibration_hash"] = provenance.calibration_hash
    for key, value in (provenance.extra or {}).items():
        metadata[f"vsim.{key}"] = value
    return metadata


def file_metadata(kind: str, provenance: Provenance) -> dict[str, str]:
    """Return the metadata of a file of this kind, for those who write it batch by batch."""
    return _metadata(kind, provenance)


def conform(table: pa.Table, kind: str) -> pa.Table:
    """Order and type a table's columns as its schema has them, each with its unit and doc.

    Optional columns and further scores stay as they are. Raises KeyError or pa.ArrowInvalid
    where a column is missing or does not fit: a fault of the caller, not of a user.
    """
    required = schema_of(kind)
    fields = list(required)
    optional = {column.name: column for column in SCHEMAS[kind] if column.optional}
    for field in table.schema:
        if field.name in required.names:
            continue
        column = optional.get(field.name)
        metadata = {"unit": column.unit, "doc": column.doc} if column else field.metadata
        fields.append(pa.field(field.name, field.type, field.nullable, metadata))
    columns = []
    for field in fields:
        found = table.column(field.name)
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(found.type):
            found = found.cast(pa.string()).dictionary_encode()
        columns.append(found if found.type == field.type else found.cast(field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def write_table(
    table: pa.Table,
    path: Name | FreshFile,
    kind: str,
    provenance: Provenance,
    *,
    zstd_level: int | None = None,
) -> None:
    """Write a trace as an Arrow IPC file with zstd; a killed run leaves no half file.

    The same table and provenance give the same bytes.

    Args:
        table: columns of the kind's schema in any order, see `conform`.
        path: the file to write: new, empty, or one of the same kind that vsim wrote, which is
            replaced. Or a file that the caller began before the work that led to the table.
        kind: a key of SCHEMAS.
        provenance: where the rows are from.
        zstd_level: how hard to compress, 1 to 22; left out, as zstd does by itself.

    Raises:
        InputError: the file cannot be written there.
    """
    begun = nullcontext(path) if isinstance(path, FreshFile) else fresh_file(path, kind)
    with begun as fresh:
        put_table(table, fresh.path, kind, provenance, zstd_level=zstd_level)
        fresh.publish()


def put_table(
    table: pa.Table,
    path: Path,
    kind: str,
    provenance: Provenance,
    *,
    zstd_level: int | None = None,
) -> None:
    """Write as `write_table` does, below the path of a fresh folder or file, and nowhere else.

    Raises:
        OSError: the file cannot be written.
    """
    put_columns(
        conform(table, kind).combine_chunks().unify_dictionaries(),
        path,
        _metadata(kind, provenance),
        zstd_level=zstd_level,
    )


def put_columns(
    table: pa.Table, path: Path, metadata: Mapping[str, str], *, zstd_level: int | None = None
) -> None:
    """Write a table whose columns are as they are to be stored, see `put_table`.

    Raises:
        OSError: the file cannot be written.
    """
    table = table.replace_schema_metadata(dict(metadata))
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=zstd_level))
    with (
        sink(path) as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return a table's metadata without the `vsim.` before each key; other keys are left out."""
    found = metadata_text(table.schema)
    return {key[5:]: value for key, value in found.items() if key.startswith("vsim.")}


def kind_of(path: str | Path | TraceFile) -> str | None:
    """Return the kind that an Arrow trace says it is; None where a file says nothing of it."""
    try:
        with open_trace(path) as file:
            if not file.is_arrow:
                return None
            with _arrow_source(file) as source:
                return metadata_text(pa.ipc.open_file(source).schema).get("vsim.kind")
    except (InputError, *_BROKEN):
        return None


@contextmanager
def _arrow_source(file: TraceFile) -> Iterator[Any]:
    """Open a file for Arrow: by its path, which reads it without a copy, where it has one."""
    if file.is_spooled:
        python_file: Any = pa.PythonFile  # the stubs take no open file
        with file.open() as content, python_file(content, "r") as source:
            yield source
    else:
        with pa.OSFile(file.path, "rb") as source:
            yield source


def _load(file: TraceFile, kind: str | None) -> pa.Table:
    if not file.is_arrow:
        file.refuse_what_is_no_trace()
        writer = _WRITERS.get(kind or "requests", "name one that vsim wrote")
        refuse(file.name, f"is no Arrow IPC file; {writer}")
    try:
        with _arrow_source(file) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        _ = table.column_names, metadata_of(table)
    except MemoryError:
        refuse(file.name, "needs more memory than there is, or is damaged; write it again")
    except _BROKEN as error:
        refuse(file.name, f"is cut off or damaged ({first_line(error)}); write or copy it again")
    return table


def read_table(path: str | Path | TraceFile, kind: str | None = None) -> pa.Table:
    """Read a trace and check it: kind, version, columns, types, nulls, ranges and ordering.

    Args:
        path: an Arrow IPC file that `write_table` or another producer of the schema wrote, or a
            pipe with one.
        kind: the kind that must be found, or None for any.

    Returns:
        The table, its columns typed and ordered as the schema has them, with the file's metadata.

    Raises:
        InputError: one fault for each thing wrong, naming file, row and column.
    """
    with open_trace(path) as file:
        name = file.name
        table = _load(file, kind)
    metadata = metadata_of(table)
    found = metadata.get("kind")
    if found is None:
        refuse(name, "has no vsim.kind in its schema metadata; make it with `vsim trace import`")
    if found not in SCHEMAS:
        refuse(name, f"is of kind {found!r}{suggestion(found, SCHEMAS)}", place="vsim.kind")
    if kind is not None and found != kind:
        refuse(name, f"holds {found}, not {kind}; name a trace of {kind}", place="vsim.kind")
    written = metadata.get("schema_version", "none")
    if written not in map(str, READABLE_VERSIONS):
        readable = ", ".join(map(str, READABLE_VERSIONS))
        refuse(
            name,
            f"has schema version {written}; this vsim reads {readable}: import the original again",
            place="vsim.schema_version",
        )
    if found == "attention" and is_by_page(metadata):
        table = by_row(table, name)
        metadata = metadata_of(table)
    faults: list[Fault] = faults_in(table, found, name, metadata)
    if faults:
        raise InputError(faults)
    return conform(table, found).replace_schema_metadata(table.schema.metadata)
