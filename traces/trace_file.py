"""TraceFile: a file that can be read from its start as often as need be, also if it is a pipe.

What is no regular file is spooled once to an unnamed temporary file, in pieces. So are gzipped
Arrow and Parquet files, which are read at random; gzipped text is unpacked as it is read.
"""

import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final, NoReturn, cast

from vsim.traces.faults import InputError, refuse, refuse_empty_name

ARROW_MAGIC: Final = b"ARROW1"
PARQUET_MAGIC: Final = b"PAR1"
GZIP_MAGIC: Final = b"\x1f\x8b"
LONGEST_LINE: Final = 1 << 28
"""Characters of a line; what has none shorter is no text of lines."""

_PIECE: Final = 1 << 20
_HEAD: Final = 4096
_NO_TRACES: Final = (
    (b"PK\x03\x04", "is a zip archive; unpack it and name the file in it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first, or use gzip"),
    (b"\xfd7zXZ\x00", "is compressed with xz; unpack it first, or use gzip"),
    (b"BZh", "is compressed with bzip2; unpack it first, or use gzip"),
    (b"\xff\xff\xff\xff", "is an Arrow stream; write it as an Arrow file (pa.ipc.new_file)"),
    (b"FEA1", "is a Feather file of version 1; write it as an Arrow file"),
    (GZIP_MAGIC, "is gzipped twice; unpack it once"),
    (b"\xff\xfe", "is UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text; save it as UTF-8"),
)
_SPECIAL: Final = (
    (stat.S_ISDIR, "cannot be read: Is a directory"),
    (stat.S_ISCHR, "is a device; name a file or a pipe"),
    (stat.S_ISBLK, "is a device; name a file or a pipe"),
    (stat.S_ISSOCK, "is a socket; name a file or a pipe"),
)


class TraceFile:
    """An open trace; state: where its one descriptor stands. Read it by one reader at a time.

    Args:
        name: the file as the user named it, for faults.
        file: the content, seekable; gzipped only if it is text.
        path: a path under which the content can be opened again while this is open.
    """

    def __init__(self, name: str, file: IO[bytes], path: str) -> None:
        self.name = name
        self.path = path
        self.is_spooled = path != name
        self._file = file
        self._readers: list[IO[bytes]] = []
        self.is_zipped = self._raw(len(GZIP_MAGIC)) == GZIP_MAGIC
        self.head = b""
        with self.open() as content:
            self.head = self.guarded(content.read, _HEAD)

    def __str__(self) -> str:
        return self.name

    @property
    def stem(self) -> str:
        """The name without its folders, as text that can be written anywhere."""
        if self.name.startswith("/dev/"):  # what a shell calls a pipe differs from run to run
            return "from a pipe"
        return Path(self.name).name.encode("utf-8", "replace").decode("utf-8")

    @property
    def is_arrow(self) -> bool:
        """Whether the content starts as an Arrow IPC file does."""
        return self.head.startswith(ARROW_MAGIC)

    @property
    def is_parquet(self) -> bool:
        """Whether the content starts as a Parquet file does."""
        return self.head.startswith(PARQUET_MAGIC)

    def refuse_what_is_no_trace(self) -> None:
        """Refuse files of kinds that are known and are no traces. Raises InputError."""
        for magic, message in _NO_TRACES:
            if self.head.startswith(magic):
                refuse(self.name, message)
        if b"\0" in self.head and not (self.is_arrow or self.is_parquet):
            refuse(self.name, "holds NUL bytes, so it is no text; name a trace (see the README)")

    def open(self) -> IO[bytes]:
        """Open the content at its start, gzip undone."""
        handle = os.fdopen(os.dup(self._file.fileno()), "rb")
        handle.seek(0)
        self._readers.append(handle)
        if not self.is_zipped:
            return handle
        return cast(IO[bytes], _OwningGzip(fileobj=handle))

    def close(self) -> None:
        """Close what was opened and not read to its end, as where a fault ends the reading."""
        for reader in self._readers:
            reader.close()

    def text_lines(self) -> Iterator[str]:
        """Yield the lines of UTF-8 text, a byte order mark left out.

        Bytes that are not UTF-8 are passed on as surrogates, so that the line's own reader names
        it. Raises InputError where gzip data are cut off or damaged.
        """
        with self.open() as content:
            text = TextIOWrapper(
                content, encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            number = 0
            while line := self.guarded(text.readline, LONGEST_LINE):
                number += 1
                if len(line) >= LONGEST_LINE:
                    refuse(self.name, f"is longer than {LONGEST_LINE:,} characters", line=number)
                yield line

    def text(self) -> str:
        """Return all of the text. Raises InputError as `text_lines` does."""
        with self.open() as content:
            text = TextIOWrapper(
                content, encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            return str(self.guarded(text.read, -1))

    def _raw(self, count: int) -> bytes:
        self._file.seek(0)
        start: bytes = self.guarded(self._file.read, count)
        return start

    def guarded(self, read: Any, count: int) -> Any:
        """Read as `read(count)` does; what is wrong with the file is an InputError."""
        try:
            return read(count)
        except EOFError:
            refuse(self.name, "its gzip data are cut off; copy the file again, whole")
        except (gzip.BadGzipFile, zlib.error) as error:
            refuse(self.name, f"its gzip data are damaged ({error}); copy the file again")
        except OSError as error:
            _unreadable(self.name, error)


class _OwningGzip(gzip.GzipFile):
    """A gzip reader that closes the file under it; the standard one leaves it open."""

    def close(self) -> None:
        under: Any = self.fileobj
        super().close()
        if under is not None:
            under.close()


def _unreadable(name: str, error: OSError | ValueError) -> NoReturn:
    cause = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    refuse(name, f"cannot be read: {cause}")


def _spooled(name: str, content: IO[bytes], guarded: Any) -> IO[bytes]:
    """Copy what can be read only once into an unnamed temporary file."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 # closed by whoever reads it
    try:
        while piece := guarded(content.read, _PIECE):
            spool.write(piece)
        spool.flush()
    except InputError:
        spool.close()
        raise
    except OSError as error:
        spool.close()
        refuse(
            name, f"cannot be copied to {tempfile.gettempdir()}: {os.strerror(error.errno or 0)}"
        )
    return spool


@contextmanager
def open_trace(path: "str | Path | TraceFile") -> Iterator[TraceFile]:
    """Open a trace, from a file or a pipe; one that is open already is passed on.

    Raises:
        InputError: it cannot be read, or is a directory, a device or a socket.
    """
    if isinstance(path, TraceFile):
        yield path
        return
    name = str(path)
    refuse_empty_name(name)
    try:
        mode = os.stat(name).st_mode
        for is_kind, message in _SPECIAL:
            if is_kind(mode):
                refuse(name, message)
        file: IO[bytes] = open(name, "rb")  # noqa: SIM115 # closed below, by whatever name
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        _unreadable(name, error)
    again = name
    opened = None
    try:
        if not stat.S_ISREG(mode):
            file, again = _replaced(name, file, file)
        opened = TraceFile(name, file, again)
        if opened.is_zipped and (opened.is_arrow or opened.is_parquet):
            with opened.open() as content:
                file, again = _replaced(name, file, content, opened.guarded)
            opened.close()
            opened = TraceFile(name, file, again)
        yield opened
    finally:
        if opened is not None:
            opened.close()
        file.close()


def _plainly(read: Any, count: int) -> Any:
    return read(count)


def _replaced(
    name: str, file: IO[bytes], content: IO[bytes], guarded: Any = _plainly
) -> tuple[IO[bytes], str]:
    """Put a spooled copy of the content in a file's place, and say where it can be opened."""
    spool = _spooled(name, content, guarded)
    file.close()
    return spool, f"/dev/fd/{spool.fileno()}"
