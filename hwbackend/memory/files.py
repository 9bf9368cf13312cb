"""PageFile: pages on a disk, read and written without the system's page cache."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from vsim.traces.faults import refuse

ALIGNMENT: Final = 4096
"""Of offsets, sizes and addresses: what O_DIRECT wants at most of a disk (open(2), NOTES)."""


class DiskError(RuntimeError):
    """A read or write that failed.

    Args:
        call: the system's function.
        path: of which file.
        at: first byte.
        size_bytes: how many.
        found: what is wrong.
    """

    def __init__(self, call: str, path: Path, at: int, size_bytes: int, found: str) -> None:
        self.call, self.path = call, path
        super().__init__(f"{call} of {size_bytes:,} bytes at byte {at:,} of {path} failed: {found}")


class PageFile:
    """A file of pages without a name: however the process ends, its disk space is free again.

    Without O_DIRECT a read that follows a write comes from the host's memory, and its time says
    nothing of the disk. So where the file system does not take it, that is an error, and only
    whoever passes `direct=False` gets the page cache.

    Args:
        path: on which disk; nothing may be there, and nothing is seen there later.
        size_bytes: of all pages, a multiple of ALIGNMENT.
        direct: past the page cache.
    """

    def __init__(self, path: Path, size_bytes: int, *, direct: bool = True) -> None:
        if size_bytes <= 0 or size_bytes % ALIGNMENT:
            raise ValueError(f"{size_bytes:,} bytes are no multiple of {ALIGNMENT:,}")
        self.path, self.bytes, self.direct = path, size_bytes, direct
        self._file = _open_new(path, direct)
        try:
            os.posix_fallocate(self._file, 0, size_bytes)
        except OSError as error:
            self.close()
            refuse(str(path), f"has no room for {size_bytes:,} bytes: {error.strerror}")

    @property
    def about(self) -> str:
        """Which disk, and how it is read: its folder, its file system."""
        how = "past the page cache" if self.direct else "through the page cache"
        return f"{self.path.parent} ({file_system(self.path.parent)}), {how}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, at: int, into: memoryview) -> None:
        """Read bytes, all that were asked for.

        Args:
            at: the first, a multiple of ALIGNMENT.
            into: writable, its address and size multiples of it too.

        Raises:
            DiskError: it failed, or the file ends before.
        """
        self._move("preadv", os.preadv, at, into)

    def write(self, at: int, source: memoryview) -> None:
        """Write bytes, all of them; arguments and errors as of `read`."""
        self._move("pwritev", os.pwritev, at, source)

    def close(self) -> None:
        """Give the space back. A second time does nothing."""
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)

    def _move(
        self,
        name: str,
        once: Callable[[int, list[memoryview], int], int],
        at: int,
        view: memoryview,
    ) -> None:
        """Read or write until all is done: one call may do less than it was asked for."""
        size = view.nbytes
        if at < 0 or at + size > self.bytes:
            asked = f"{size:,} bytes at byte {at:,}"
            raise ValueError(f"{asked} are not in a file of {self.bytes:,}")
        if self.direct and (at % ALIGNMENT or size % ALIGNMENT):
            raise ValueError(f"byte {at:,} or {size:,} bytes are no multiple of {ALIGNMENT:,}")
        view = view.cast("B")
        done = 0
        while done < size:
            try:
                moved = once(self._file, [view[done:]], at + done)
            except OSError as error:
                found = f"{error.strerror} ({error.errno})"
                if error.errno == errno.EINVAL and self.direct:
                    found += f"; is the buffer's address a multiple of {ALIGNMENT:,}?"
                raise DiskError(name, self.path, at + done, size - done, found) from None
            # O_DIRECT goes on at a border only, so what lies behind the last one is done again.
            whole = done + moved == size or not self.direct
            step = moved if whole else moved - moved % ALIGNMENT
            if step == 0:
                there = f"the file has {os.fstat(self._file).st_size:,}"
                found = f"it moved {moved:,} bytes, and {there}"
                raise DiskError(name, self.path, at + done, size - done, found)
            done += step


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, as the system names it; `?` where it does not.

    Source: proc(5), /proc/self/mounts: device, mount point, type; the longest mount point counts.
    """
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "?"
    where, found = folder.resolve(), ("", "?")
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        if where.is_relative_to(point) and len(point) >= len(found[0]):
            found = point, kind
    return found[1]


def _open_new(path: Path, direct: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        file = os.open(path, flags | (os.O_DIRECT if direct else 0), 0o600)
    except FileExistsError:
        refuse(str(path), "is there already; name a file that is not")
    except OSError as error:
        if direct and error.errno == errno.EINVAL:
            path.unlink(missing_ok=True)  # Linux makes the file before the file system refuses
            refuse(
                str(path),
                "is on a file system that takes no direct reads and writes (O_DIRECT); name a file "
                "on a local disk, such as ext4 or XFS, or ask for the page cache",
            )
        refuse(str(path), f"can't be made: {error.strerror}")
    path.unlink()
    return file
