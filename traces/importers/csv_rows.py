"""Rows of a CSV file with a header, plain or gzipped, each with its line."""

import csv
from collections.abc import Callable, Iterator
from typing import TypeVar

from vsim.traces.faults import repeated
from vsim.traces.importers.lines import Faults
from vsim.traces.trace_file import LONGEST_LINE, TraceFile

T = TypeVar("T")


class CsvRows:
    """Rows of a CSV file; state: where the reader stands.

    Args:
        file: the file.
        faults: where wrong lines are kept.

    Raises:
        InputError: the file cannot be read, or has no header or one with a name twice.
    """

    def __init__(self, file: TraceFile, faults: Faults) -> None:
        # The reader's own limit is 128 KiB, which the ids of one long prompt exceed; it can only
        # be set for all readers. The lines that reach it here are bounded already.
        csv.field_size_limit(LONGEST_LINE)
        self._reader = csv.reader(file.text_lines(), strict=True)
        self._faults = faults
        try:
            self.header = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            faults.add(f"is no CSV ({error})", line=1)
            faults.settle()
        if not any(self.header):
            faults.add("has no header; write the columns' names on the first line", line=1)
            faults.settle()
        for name in repeated(self.header):
            if name:
                faults.add("column is there more than once; keep one", line=1, place=name)
        faults.settle()

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._faults.add(f"is no CSV ({error})", line=self._reader.line_num)
                continue
            line = self._reader.line_num
            if not cells:
                continue
            if len(cells) != len(self.header):
                message = f"has {len(cells)} cells; the header has {len(self.header)}"
                self._faults.add(message, line=line)
                continue
            yield line, cells

    def parsed(
        self, line: int, cells: list[str], place: int, parse: Callable[[object], T]
    ) -> T | None:
        """Parse one cell; where it is wrong, keep the fault and return None."""
        try:
            return parse(cells[place])
        except ValueError as error:
            self._faults.add(str(error), line=line, place=self.header[place])
            return None
