"""Marks: how a file or folder that vsim wrote is told from other people's.

A JSON file's mark is its first key: `"vsim": {"kind": "bound"}`. The one of a folder's summary
lists the Arrow files beside it, too, each with its kind. An Arrow file's is its schema's metadata,
a JUnit file's the name of its suites: `<testsuites name="vsim check"`, and a YAML file's its first
line: `# vsim: machine`. A PNG's is a text in front of its pixels: `Software`, `vsim size plot`.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa

from vsim.traces.schema import metadata_text
from vsim.traces.trace_file import ARROW_MAGIC

KEY = "vsim"
_READ_BYTES = 2**20
_JUNIT_CHARACTERS = 2**10
_JUNIT = re.compile(r'\s*(?:<\?xml[^>]*\?>\s*)?<testsuites name="vsim (\w+)"')
_START = re.compile(r'\s*\{\s*"vsim"\s*:\s*')
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_MARK = re.compile(rb"tEXtSoftware\x00vsim ([a-z ]+)")
_PNG_BYTES = 2**10
_FIRST_LINE = re.compile(r"# vsim: (\w+)\n")


@dataclass(frozen=True, slots=True)
class FolderKind:
    """A kind of folder that vsim writes.

    Args:
        name: what it holds, as its mark says: `run`.
        summary: the JSON file in it that carries the mark.
    """

    name: str
    summary: str


def marked(
    kind: str, document: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Put the mark before a JSON document's other keys.

    Args:
        kind: what the document is.
        document: its keys; a mark that it has already is replaced.
        files: of a folder's summary, the kind of each Arrow file beside it.
    """
    mark = {"kind": kind} if files is None else {"kind": kind, "files": dict(files)}
    return {KEY: mark, **{key: value for key, value in document.items() if key != KEY}}


def png_text(kind: str) -> dict[str, str]:
    """Give the texts that a PNG of a kind carries."""
    return {"Software": f"vsim {kind}"}


def yaml_text(kind: str, text: str) -> str:
    """Put the mark before a YAML document."""
    return f"# vsim: {kind}\n{text}"


def json_text(document: Mapping[str, Any]) -> str:
    """Give a document as text, one value a line. Raises ValueError where a number is no number."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def kind_written(path: Path) -> str | None:
    """Return the kind of a file that vsim wrote; None for other people's, and for no file."""
    with _opened(path) as file:
        if file is None:
            return None
        if _is_arrow(file):
            metadata = _arrow_metadata(file)
            return metadata.get("vsim.kind") if metadata.get("vsim.producer") == "vsim" else None
        content = file.read(_READ_BYTES)
    if content.startswith(_PNG):
        drawn = _PNG_MARK.search(content[:_PNG_BYTES])
        return None if drawn is None else drawn[1].decode()
    text = content.decode("utf-8", "replace")
    suites = _JUNIT.match(text[:_JUNIT_CHARACTERS])
    if suites is not None:
        return suites[1]
    line = _FIRST_LINE.match(text)
    if line is not None:
        return line[1]
    mark = _json_mark(text)
    return None if mark is None else str(mark["kind"])


def arrow_kind(path: Path) -> str | None:
    """Return the kind that an Arrow file says it is; None for any other file."""
    with _opened(path) as file:
        if file is None or not _is_arrow(file):
            return None
        return _arrow_metadata(file).get("vsim.kind")


def not_written_here(folder: Path, kind: FolderKind) -> str | None:
    """Say what a folder holds that no vsim wrote: None for a former result or an empty folder.

    Raises:
        OSError: it can't be read.
    """
    names = sorted(os.listdir(folder))
    if not names:
        return None
    if kind.summary not in names:
        other = [name for name in names if not name.endswith(".arrow")]
        return other[0] if other else f"no {kind.summary}"
    with _opened(folder / kind.summary) as file:
        text = "" if file is None else file.read(_READ_BYTES).decode("utf-8", "replace")
    mark = _json_mark(text)
    if mark is None or mark["kind"] != kind.name:
        return f"a {kind.summary} that is not of this command"
    files = mark.get("files")
    known = files if isinstance(files, dict) else {}
    for name in names:
        if name == kind.summary:
            continue
        if name not in known:
            return name
        if known[name] != arrow_kind(folder / name):
            return f"another {name} than was written there"
    return None


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader | None]:
    """Open a regular file; None for anything else. A pipe is not waited for, a link not followed.

    Raises:
        OSError: it is there and can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink() or not path.is_file():
            yield None
            return
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        yield None
        return
    with open(descriptor, "rb") as file:
        yield file


def _is_arrow(file: BufferedReader) -> bool:
    start = file.read(len(ARROW_MAGIC))
    file.seek(0)
    return start == ARROW_MAGIC


def _arrow_metadata(file: BufferedReader) -> dict[str, str]:
    try:
        return metadata_text(pa.ipc.open_file(file).schema)
    except (pa.ArrowException, OSError):  # cut off or damaged: not as vsim wrote it
        return {}


def _json_mark(text: str) -> dict[str, Any] | None:
    """Read the mark alone from a file's start: it may be large, and may be no JSON at all."""
    start = _START.match(text)
    if start is None:
        return None
    try:
        mark, _ = json.JSONDecoder().raw_decode(text, start.end())
    except (ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) and isinstance(mark.get("kind"), str) else None
