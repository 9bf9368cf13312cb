"""Write and read Arrow trace files: whole or not at all, and checked before anyone sees them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow as pa

from vsim.traces.faults import Fault, InputError, refuse, suggestion
from vsim.traces.schema import READABLE_VERSIONS, SCHEMA_VERSION, SCHEMAS, schema_of
from vsim.traces.validation import faults_in

ARROW_MAGIC = b"ARROW1"


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


def write_table(table: pa.Table, path: str | Path, kind: str, provenance: Provenance) -> None:
    """Write a trace as an Arrow IPC file with zstd; a killed run leaves no half file.

    The same table and provenance give the same bytes.

    Args:
        table: columns of the kind's schema in any order, see `conform`.
        path: the file to write; one that exists is replaced.
        kind: a key of SCHEMAS.
        provenance: where the rows are from.

    Raises:
        InputError: the file cannot be written there.
    """
    target = Path(path)
    table = conform(table, kind).combine_chunks().unify_dictionaries()
    table = table.replace_schema_metadata(_metadata(kind, provenance))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            open(temporary, "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            writer.write_table(table)
        os.replace(temporary, target)
    except OSError as error:
        refuse(str(path), f"cannot be written: {os.strerror(error.errno or 0)}; name another place")
    finally:
        temporary.unlink(missing_ok=True)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return a table's metadata without the `vsim.` before each key; other keys are left out."""
    found = table.schema.metadata or {}
    decoded = {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in found.items()}
    return {key[5:]: value for key, value in decoded.items() if key.startswith("vsim.")}


def is_arrow(path: str | Path) -> bool:
    """Say whether a file starts as an Arrow IPC file does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    except OSError:
        return False


def kind_of(path: str | Path) -> str | None:
    """Return the kind that an Arrow trace says it is; None where a file says nothing of it."""
    if not is_arrow(path):
        return None
    try:
        with pa.OSFile(str(path), "rb") as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
    except (pa.ArrowException, OSError):
        return None
    kind = metadata.get(b"vsim.kind")
    return None if kind is None else kind.decode("utf-8", "replace")


def _load(path: str | Path) -> pa.Table:
    name = str(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(ARROW_MAGIC)) != ARROW_MAGIC:
                refuse(name, "is no Arrow IPC file; make one with `vsim trace import`")
    except OSError as error:
        refuse(name, f"cannot be read: {os.strerror(error.errno or 0)}")
    try:
        with pa.OSFile(name, "rb") as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        refuse(name, f"is cut off or damaged ({cause}); write or copy it again")
    return table


def read_table(path: str | Path, kind: str | None = None) -> pa.Table:
    """Read a trace and check it: kind, version, columns, types, nulls, ranges and ordering.

    Args:
        path: an Arrow IPC file that `write_table` or another producer of the schema wrote.
        kind: the kind that must be found, or None for any.

    Returns:
        The table, its columns typed and ordered as the schema has them, with the file's metadata.

    Raises:
        InputError: one fault for each thing wrong, naming file, row and column.
    """
    name = str(path)
    table = _load(path)
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
    faults: list[Fault] = faults_in(table, found, name, metadata)
    if faults:
        raise InputError(faults)
    return conform(table, found).replace_schema_metadata(table.schema.metadata)
