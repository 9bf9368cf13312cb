"""What a comparison writes: its results as JSON and a folder of tables, both or neither."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsim.traces.writing import (
    FolderKind,
    FreshFile,
    FreshFolder,
    check_apart,
    fresh_file,
    fresh_folder,
)
from vsim.traces.writing.marks import json_text, marked
from vsim.traces.writing.target import file_target, folder_target


@dataclass(frozen=True, slots=True)
class ResultOutputs:
    """What is being written: the results as JSON, a folder of tables, both or none."""

    results: str
    json: FreshFile | None
    folder: FreshFolder | None

    def protect(self, inputs: Sequence[Path]) -> None:
        """Refuse outputs that are inputs, once the scenario has named those."""
        for each in (self.json, self.folder):
            if each is not None:
                each.protect(inputs)

    def publish(self, results: Mapping[str, Any]) -> None:
        """Write the results; put neither output in its place before both are written."""
        written = marked(self.results, results)
        if self.folder is not None:
            written = self.folder.write_summary(results)
        if self.json is not None:
            self.json.write(json_text(written))
        if self.folder is not None:
            self.folder.publish()
        if self.json is not None:
            self.json.publish()


@contextmanager
def result_outputs(
    json_file: str | None,
    out: str | None,
    inputs: Sequence[str],
    *,
    results: str,
    tables: FolderKind,
) -> Iterator[ResultOutputs]:
    """Open both before the work, so that none is for nothing.

    Args:
        json_file: where the results go as JSON, or None.
        out: a folder for tables, or None.
        inputs: what the command reads.
        results: the mark of the JSON.
        tables: the kind of the folder.

    Raises:
        InputError: a place may not be written, or one is the other's.
    """
    if json_file is not None and out is not None:
        check_apart(
            [folder_target(out, tables, "--out"), file_target(json_file, results, "--json")]
        )
    with ExitStack() as stack:
        file, folder = None, None
        if json_file is not None:
            file = stack.enter_context(
                fresh_file(json_file, results, inputs=inputs, option="--json")
            )
        if out is not None:
            folder = stack.enter_context(fresh_folder(out, tables, inputs=inputs, option="--out"))
        yield ResultOutputs(results, file, folder)
