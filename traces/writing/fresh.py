"""`FreshFile` and `FreshFolder`: what is being written, until it is published in its place."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import Any

from vsim.traces.writing.marks import FolderKind, arrow_kind, json_text, marked
from vsim.traces.writing.target import Name, Target, file_target, folder_target
from vsim.traces.writing.workspace import FRESH, locked, move_into_place, workspace


class _Fresh:
    """What is being written for a target; stateful: it learns of inputs until it is published.

    Args:
        target: where it will be.
        inputs: what the command reads.
        work: the workspace.
    """

    def __init__(self, target: Target, inputs: Iterable[Name], work: Path) -> None:
        self.target = target
        self.path = work / FRESH
        self._work = work
        self._inputs = list(inputs)

    def protect(self, inputs: Iterable[Name]) -> None:
        """Name further inputs, of which the command knew nothing when the block began.

        Raises:
            InputError: the target is one of them, or holds one.
        """
        self._inputs.extend(inputs)
        self.target.check(self._inputs)

    def _move(self) -> None:
        with named(self.target.path), locked(self.target.path.parent):
            self.target.check(self._inputs)
            move_into_place(self._work, self.target)


class FreshFile(_Fresh):
    """A file that is being written, at `path`; it appears in its place when it is published."""

    def write_json(self, document: Mapping[str, Any]) -> None:
        """Write a JSON document, with the mark of its kind."""
        self.write(json_text(marked(str(self.target.kind), document)))

    def write(self, text: str) -> None:
        """Write a text. One of JSON must begin with the mark of its kind, see `marked`."""
        with named(self.path):
            self.path.write_text(text, encoding="utf-8")

    def publish(self) -> None:
        """Put the file in its place.

        Raises:
            InputError: what is there may not be replaced, or can't be.
        """
        self._move()


class FreshFolder(_Fresh):
    """A folder of Arrow files that is being written, at `path`; it appears when it is published."""

    def write_summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write the folder's JSON file, after all others: its mark lists them.

        Args:
            summary: goes into the file after the mark.

        Returns:
            The summary as written.
        """
        kind = self.target.kind
        assert isinstance(kind, FolderKind)
        files = {}
        for path in sorted(self.path.iterdir()):
            found = arrow_kind(path)
            assert found is not None, f"{path.name} carries no vsim.kind"
            files[path.name] = found
        written = marked(kind.name, summary, files)
        with named(self.path / kind.summary):
            (self.path / kind.summary).write_text(json_text(written), encoding="utf-8")
        return written

    def publish(self) -> None:
        """Put the folder in its place.

        Raises:
            InputError: what is there may not be replaced, or can't be.
        """
        self._move()


@contextmanager
def fresh_file(
    name: Name, kind: str, *, inputs: Iterable[Name] = (), option: str | None = None
) -> Iterator[FreshFile]:
    """Write a file: `with fresh_file(...) as fresh:` write `fresh.path`, then `fresh.publish()`.

    A block that ends without that leaves everything as it was. See the package for the contract.

    Args:
        name: where the file will be; its folder must be there.
        kind: what it holds: an Arrow file's `vsim.kind`, or what a JSON file's mark says.
        inputs: files and folders that the command reads.
        option: the option that `name` was given as; None from Python.

    Raises:
        InputError: the place may not be written, or can't be.
    """
    target, known = file_target(name, kind, option), tuple(inputs)
    with _held(target, known) as work:
        yield FreshFile(target, known, work)


@contextmanager
def fresh_folder(
    name: Name, kind: FolderKind, *, inputs: Iterable[Name] = (), option: str | None = None
) -> Iterator[FreshFolder]:
    """Write a folder: Arrow files in `fresh.path`, `fresh.write_summary(...)`, `fresh.publish()`.

    A block that ends without that leaves everything as it was. It may last as long as a run. See
    the package for the contract.

    Args:
        name: where the folder will be; those above it are made.
        kind: what it holds.
        inputs: files and folders that the command reads.
        option: the option that `name` was given as; None from Python.

    Raises:
        InputError: the place may not be written, or can't be.
    """
    target, known = folder_target(name, kind, option), tuple(inputs)
    with _held(target, known) as work:
        (work / FRESH).mkdir()
        yield FreshFolder(target, known, work)


@contextmanager
def sink(path: Path) -> Iterator[BufferedWriter]:
    """Open a file below `fresh.path`, or that of a fresh file itself, to write bytes into.

    Errors of the system say which file they are about, so that a full disk becomes one line about
    the target, and not about whatever else is open.
    """
    with named(path), open(path, "wb") as file:
        yield file


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an error of the system say which file it is about, as one from a write does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def _held(target: Target, inputs: Iterable[Name]) -> Iterator[Path]:
    """Check a target and hold a workspace for it; errors about either are about the target."""
    target.check(inputs)
    work: Path | None = None
    try:
        with workspace(target) as work:
            yield work
    except OSError as error:
        if work is None or _is_about(error, work, target):
            target.refuse_error(error)
        raise


def _is_about(error: OSError, work: Path, target: Target) -> bool:
    places = (work, target.path, target.path.parent)
    given = (error.filename, error.filename2)
    paths = [Path(os.fsdecode(name)) for name in given if isinstance(name, str | bytes)]
    return any(path in places or work in path.parents for path in paths)
