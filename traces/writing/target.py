"""`Target`: a place that a user named to write to, and whether vsim may."""

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vsim.traces.faults import refuse
from vsim.traces.writing.marks import FolderKind, kind_written, not_written_here

Name = str | os.PathLike[str]

_SPECIAL = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_WRITE_BITS = 0o222
_ATTEMPTS = 50  # to see a place that others replace meanwhile as it is before or after


@dataclass(frozen=True, slots=True)
class Target:
    """A file or folder to write.

    Args:
        name: as the user wrote it.
        option: the option it was written as, such as `--out`; None from Python.
        path: the real path of its folder, and its own name, which may be a link's.
        kind: what will be written: of a file its kind, of a folder what its summary is.
    """

    name: str
    option: str | None
    path: Path
    kind: str | FolderKind

    def refuse(self, message: str) -> NoReturn:
        """Raise an InputError about this place."""
        if self.option is None:
            refuse(self.name, message)
        refuse(self.option, f"{self.name}: {message}")

    def refuse_error(self, error: OSError) -> NoReturn:
        """Raise an InputError with what the system said."""
        reason = os.strerror(error.errno) if error.errno else str(error)
        self.refuse(f"cannot be written: {reason}; name another place")

    def check(self, inputs: Iterable[Name]) -> None:
        """Refuse this place unless it is new, empty, or holds what vsim wrote of the same kind.

        Args:
            inputs: files and folders that the command reads. Those that are not there are left to
                whoever reads them.

        Raises:
            InputError: it may not be written, or could not be.
        """
        known = tuple(inputs)
        for attempt in range(_ATTEMPTS):
            try:
                self._check_once(known)
                return
            except FileNotFoundError as error:  # another writer is just replacing it
                if attempt == _ATTEMPTS - 1:
                    self.refuse_error(error)
            except OSError as error:
                self.refuse_error(error)

    def _check_once(self, inputs: Sequence[Name]) -> None:
        self._refuse_inputs(inputs)
        mode = self._mode()
        if mode is None:
            self._check_parent()
        elif isinstance(self.kind, FolderKind):
            self._check_folder(mode, self.kind)
        else:
            self._check_file(mode, self.kind)

    def _mode(self) -> int | None:
        """The mode of what is there now, links not followed; None where nothing is."""
        try:
            return os.lstat(self.path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _refuse_inputs(self, inputs: Iterable[Name]) -> None:
        try:
            here = os.stat(self.path)
        except OSError:
            return  # nothing is there that could be an input
        for name in inputs:
            given = os.fspath(name)
            if not isinstance(self.kind, FolderKind):
                if _is_same(given, here):
                    self.refuse(f"is {given}, which this command reads; name another file")
                continue
            # Under both names: where the file really lies, and where the user found it.
            real, found = Path(os.path.realpath(given)), Path(os.path.abspath(given))
            if any(_is_same(p, here) for p in (real, *real.parents, found, *found.parents)):
                self.refuse(f"holds {given}, which this command reads; name another folder")

    def _check_parent(self) -> None:
        """Refuse a new place in a folder that is not there or can't be written to.

        The folders above a new folder are made, so the lowest that is there counts.
        """
        parent = self.path.parent
        if isinstance(self.kind, FolderKind):
            while not os.path.lexists(parent):
                parent = parent.parent
            if not parent.is_dir():
                self.refuse(f"{parent} is no folder that can be written to; name another")
        elif not parent.is_dir():
            missing = errno.ENOTDIR if _below_a_file(parent) else errno.ENOENT
            reason = os.strerror(missing)
            self.refuse(f"cannot be written: {reason}; make its folder first, or name another")
        self._check_writable(parent)

    def _check_writable(self, parent: Path) -> None:
        if os.access(parent, os.W_OK | os.X_OK):
            return
        read_only = os.statvfs(parent).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "", str(parent))

    def _check_file(self, mode: int, kind: str) -> None:
        self._check_type(mode)
        if stat.S_ISDIR(mode):
            self.refuse("is a folder; name a file in it")
        self._check_writable(self.path.parent)
        if os.path.getsize(self.path) == 0:
            return
        found = kind_written(self.path)
        if found != kind:
            what = "what vsim did not write" if found is None else f"{found}, not {kind}"
            self.refuse(f"holds {what}, and is left alone; name another file, or remove it first")

    def _check_folder(self, mode: int, kind: FolderKind) -> None:
        self._check_type(mode)
        if not stat.S_ISDIR(mode):
            self.refuse("is a file; name a new folder, or a former result")
        if os.path.ismount(self.path):
            self.refuse("is where a file system is mounted; name a folder in it")
        here = Path.cwd()
        if self.path == here or self.path in here.parents:
            self.refuse("is the folder you are in, or above it; name a folder in it")
        self._check_writable(self.path.parent)
        self.check_former(self.path)

    def check_former(self, folder: Path) -> None:
        """Refuse a folder that is neither empty nor a result of the kind to be written."""
        assert isinstance(self.kind, FolderKind)
        seen = os.stat(folder).st_ino
        strange = not_written_here(folder, self.kind)
        if strange is not None:
            if os.stat(folder).st_ino != seen:  # another writer replaced it while it was read
                raise FileNotFoundError(errno.ENOENT, "", str(folder))
            self.refuse(
                f"holds what this command did not write (it holds {strange}), and is left alone; "
                "name a new folder"
            )

    def _check_type(self, mode: int) -> None:
        """Refuse what is neither a file nor a folder, and what somebody protected."""
        if stat.S_ISLNK(mode):
            self._refuse_link()
        special = _SPECIAL.get(stat.S_IFMT(mode))
        if special is not None:
            self.refuse(f"is {special}; vsim writes whole files: name a regular one")
        if not mode & _WRITE_BITS:
            self.refuse("is write-protected; name another place, or lift the protection")

    def _refuse_link(self) -> NoReturn:
        try:
            special = _SPECIAL.get(stat.S_IFMT(os.stat(self.path).st_mode))
        except OSError:  # it leads nowhere, or round in a circle
            special = None
        if special is not None:
            self.refuse(f"leads to {special}; vsim writes whole files: name a regular one")
        leads_to = os.path.realpath(self.path)
        self.refuse(
            f"is a symbolic link to {leads_to}, and links are not written through; "
            "name the place itself, or another"
        )


def file_target(name: Name, kind: str, option: str | None = None) -> Target:
    """Locate a file to write. Raises InputError where the name is no file's."""
    target = Target(os.fspath(name), option, _located(name, option), kind)
    if os.fspath(name).endswith("/"):
        target.refuse("is the name of a folder; name a file in it")
    return target


def folder_target(name: Name, kind: FolderKind, option: str | None = None) -> Target:
    """Locate a folder to write. Raises InputError where the name is none."""
    return Target(os.fspath(name), option, _located(name, option), kind)


def check_apart(targets: Sequence[Target]) -> None:
    """Refuse places of one command that are the same, or lie in each other.

    Raises:
        InputError: for the first pair.
    """
    for at, one in enumerate(targets):
        for other in targets[:at]:
            same = one.path == other.path or _is_same_file(one.path, other.path)
            if not same and other.path not in one.path.parents and (
                one.path not in other.path.parents
            ):  # fmt: skip
                continue
            where = "is" if same else "lies in" if other.path in one.path.parents else "holds"
            one.refuse(f"{where} {other.name} of {other.option}; name two places apart")


def _located(name: Name, option: str | None) -> Path:
    """Resolve all of a name but its last part, which may be a link that must be seen."""
    text = os.fspath(name)
    where = option or "path"
    if not text:
        refuse(where, "is an empty name; write one")
    if "\0" in text:
        refuse(where, f"{text!r} holds a NUL character; name another place")
    folder, last = os.path.split(text.rstrip("/") or "/")
    try:
        if last in ("", ".", ".."):
            return Path(os.path.realpath(text))
        return Path(os.path.realpath(folder or "."), last)
    except OSError as error:  # the folder one is in was removed
        reason = os.strerror(error.errno or 0)
        refuse(where, f"{text}: cannot be written: {reason}; name another place")


def _below_a_file(path: Path) -> bool:
    while not os.path.lexists(path):
        path = path.parent
    return not path.is_dir()


def _is_same(path: Path | str, here: os.stat_result) -> bool:
    """Whether a path leads to this very file or folder; by device and inode, so under any name."""
    try:
        return os.path.samestat(os.stat(path), here)
    except (OSError, ValueError):
        return False


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
