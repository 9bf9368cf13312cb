"""Rows of a CSV file with a header, plain or gzipped, each with its line."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vsim.traces.importers.lines import Faults, text_lines

T = TypeVar("T")


class CsvRows:
    """Rows of a CSV file; state: where the reader stands.

    Args:
        path: the file.
        faults: where wrong lines are kept.

    Raises:
        InputError: the file cannot be read or has no header.
    """

    def __init__(self, path: str | Path, faults: Faults) -> None:
        self._reader = csv.reader(text_lines(path), strict=True)
        self._faults = faults
        try:
            self.header = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            faults.add(f"is no CSV ({error})", line=1)
            faults.settle()
        if not any(self.header):
            faults.add("has no header; write the columns' names on the first line", line=1)
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
