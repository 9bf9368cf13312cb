"""Workspaces: the hidden folders beside a target in which it is written.

A workspace of `out` is called `.out.vsim-` and sixteen hex digits. It holds a file that says whose
it is, what is being written, and at the end what was in the target's place before. A lock on it
tells a writer at work from a killed one: the system drops it with the process. A lock on the folder
around it, held for moments only, keeps writers from seeing each other's half-made ones.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vsim.traces.faults import InputError
from vsim.traces.writing.interrupts import uninterrupted
from vsim.traces.writing.target import Target

_SIGN = "written-by-vsim"
FRESH, _FORMER = "fresh", "former"
_LONGEST_NAME = 100  # bytes; longer ones are hashed, since file systems take 255 at most or fewer
_PATIENCE_S = 10.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


@dataclass(frozen=True, slots=True)
class _Made:
    """A workspace, the lock on it, and the folders that were made above it, the lowest first."""

    folder: Path
    lock: int
    parents: tuple[Path, ...]


@contextmanager
def workspace(target: Target) -> Iterator[Path]:
    """Make a workspace for a target; remove it when the block ends, however that is.

    Folders above the target that are not there are made as well, and go again if nothing came to
    lie in them. What killed writers to the same target left is cleared first.

    Raises:
        InputError: another writer is at work on the target.
        OSError: it can't be made.
    """
    made: _Made | None = None
    try:
        with uninterrupted():
            made = _make(target)
        yield made.folder
    finally:
        with uninterrupted():
            if made is not None:
                _remove(made)


def move_into_place(folder: Path, target: Target) -> None:
    """Put a workspace's content in the place of its target, which was checked just before.

    A file takes a former one's place at once. A folder can't: the former one is moved aside first,
    so a process that is killed in between leaves none there, and the next writer puts it back.

    Raises:
        InputError: somebody has just put something else there.
        OSError: it can't be moved. In both cases the place is as it was before.
    """
    fresh, former = folder / FRESH, folder / _FORMER
    if not fresh.is_dir():
        os.replace(fresh, target.path)
        return
    with uninterrupted():
        if os.path.lexists(target.path):
            os.rename(target.path, former)
        try:
            if former.exists():
                target.check_former(former)  # nobody can put anything else into it any more
            os.rename(fresh, target.path)
        except (OSError, InputError):
            if former.exists():
                os.rename(former, target.path)
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder while a block runs; without it where the file system has none.

    Raises:
        OSError: another program keeps it locked, or it can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        give_up = time.monotonic() + _PATIENCE_S
        while not _lock(descriptor):
            if time.monotonic() > give_up:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file or folder, or say that somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _make(target: Target) -> _Made:
    parents = _make_parents(target.path.parent)
    try:
        with locked(target.path.parent):
            _clear_leftovers(target)
            folder = target.path.with_name(_prefix(target) + secrets.token_hex(8))
            folder.mkdir(mode=0o700)
            lock = -1
            try:
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _lock(lock)
                (folder / _SIGN).write_text(f"{os.getpid()}\n", encoding="utf-8")
            except BaseException:
                _remove(_Made(folder, lock, ()))
                raise
    except BaseException:
        _remove_empty(parents)
        raise
    return _Made(folder, lock, parents)


def _make_parents(folder: Path) -> tuple[Path, ...]:
    """Make the folders that are not there; return them, the lowest first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with suppress(FileExistsError):  # another writer made it meanwhile
            each.mkdir()
    return tuple(missing)


def _remove(made: _Made) -> None:
    shutil.rmtree(made.folder, ignore_errors=True)
    with suppress(OSError):
        made.folder.rmdir()  # where the process may open no more files, which rmtree needs
    if made.lock >= 0:
        os.close(made.lock)
    _remove_empty(made.parents)


def _remove_empty(folders: tuple[Path, ...]) -> None:
    with suppress(OSError):
        for each in folders:
            each.rmdir()


def _prefix(target: Target) -> str:
    name = target.path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}.vsim-"


def _clear_leftovers(target: Target) -> None:
    """Remove what killed writers to the target left; refuse where one is at work.

    Only what is surely a workspace: by its name, unlocked, with the sign in it. One that was killed
    before it wrote the sign is empty.
    """
    pattern = re.compile(re.escape(_prefix(target)) + "[0-9a-f]+")
    with os.scandir(target.path.parent) as entries:
        found = [Path(e.path) for e in entries if pattern.fullmatch(e.name)]
    for path in found:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # no folder, or not ours to open
        try:
            is_ours = (path / _SIGN).is_file() and not (path / _SIGN).is_symlink()
            if not _is_left(descriptor):
                if is_ours:
                    _refuse_second(target, path / _SIGN)
            elif is_ours:
                _put_back(path / _FORMER, target.path)
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.rmdir()
        finally:
            os.close(descriptor)


def _is_left(descriptor: int) -> bool:
    """Whether no process writes in a workspace any more; where nothing can be locked, who knows."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refuse_second(target: Target, sign: Path) -> None:
    try:
        process = sign.read_text(encoding="utf-8").strip()
    except OSError:
        return  # it has just finished
    target.refuse(
        f"another vsim is writing to it (process {process}); wait for it, or name another place"
    )


def _put_back(former: Path, place: Path) -> None:
    """Undo the first half of a killed replacement."""
    if os.path.lexists(former) and not os.path.lexists(place):
        with suppress(OSError):
            os.rename(former, place)
