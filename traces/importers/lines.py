"""Lines of a text file, plain or gzipped, and the faults found in them."""

import gzip
import os
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Final, cast

from vsim.traces.faults import Fault, InputError, refuse

GZIP_MAGIC: Final = b"\x1f\x8b"
MOST_FAULTS: Final = 20


class Faults:
    """Faults of one file, collected while it is read; state: the list of them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, message: str, *, line: int | None = None, place: str | None = None) -> None:
        """Keep a fault. Raises InputError with all of them once there are MOST_FAULTS."""
        self.found.append(Fault(self.file, message, line, None, place))
        if len(self.found) >= MOST_FAULTS:
            message = f"has {MOST_FAULTS} faults up to here; the rest was not read"
            self.found.append(Fault(self.file, message, line))
            self.settle()

    def settle(self) -> None:
        """Raise InputError if anything was found."""
        if self.found:
            raise InputError(self.found)


def json_cause(error: Exception) -> str:
    """Say in a few words why text is not JSON."""
    cause = error.msg if isinstance(error, JSONDecodeError) else "nested too deeply"
    return cause.removesuffix(" at").removesuffix(" starting")


def open_bytes(path: str | Path) -> IO[bytes]:
    """Open a file, through gzip where its content is gzipped. Raises InputError."""
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
        if zipped:
            return cast(IO[bytes], gzip.open(path, "rb"))
        return open(path, "rb")
    except OSError as error:
        refuse(str(path), f"cannot be read: {os.strerror(error.errno or 0)}")


def text_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, plain or gzipped, a byte order mark left out.

    Bytes that are not UTF-8 are passed on as surrogates, so that the line's own reader names it.

    Raises:
        InputError: the file cannot be opened, or its gzip data are cut off or damaged.
    """
    with open_bytes(path) as file:
        text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            yield from text
        except EOFError:
            refuse(str(path), "its gzip data are cut off; copy the file again, whole")
        except (gzip.BadGzipFile, zlib.error) as error:
            refuse(str(path), f"its gzip data are damaged ({error}); copy the file again")
