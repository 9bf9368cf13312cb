"""What the tests of writing write, and how they see that nothing else changed."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pytest

from vsim.traces.writing import FolderKind, FreshFile, FreshFolder, fresh_file, fresh_folder, sink

KIND = FolderKind("run", "summary.json")
Seen = dict[str, tuple[int, object]]
Put = Callable[..., None]
Refused = Callable[..., str]


def seen(folder: Path) -> Seen:
    """Everything below a folder, hidden or not: mode, and content or a link's target."""
    found: Seen = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def put_file(place: Path | str, kind: str = "curves", text: str = "x", **more: object) -> None:
    with fresh_file(place, kind, **more) as fresh:  # type: ignore[arg-type] # inputs and option
        fresh.write_json({"text": text})
        fresh.publish()


def put_folder(place: Path | str, rows: int = 1, **more: object) -> None:
    with fresh_folder(place, KIND, **more) as fresh:  # type: ignore[arg-type] # inputs and option
        table = pa.table({"x": list(range(rows))}).replace_schema_metadata({"vsim.kind": "steps"})
        path = fresh.path / "steps.arrow"
        with sink(path) as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        fresh.write_summary({"rows": rows})
        fresh.publish()


def rows_of(folder: Path) -> int:
    return int(json.loads((folder / "summary.json").read_text())["rows"])


BOTH = pytest.mark.parametrize("put", [put_file, put_folder])


def begin(put: Put, place: Path) -> AbstractContextManager[FreshFile | FreshFolder]:
    """What `put` writes, begun and not yet written."""
    return fresh_file(place, "curves") if put is put_file else fresh_folder(place, KIND)
