"""build_library: libvsim_preload.so from its sources, by the machine's C compiler, without CUDA."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

NAME: Final = "libvsim_preload.so"
FOLDER: Final = Path(__file__).parent
SOURCES: Final = FOLDER / "library"
FLAGS: Final = (
    "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread",
    "-fvisibility=hidden",
    "-Wl,-z,defs", "-Wl,-z,now",  # no symbol is left open, nor is one looked up late
    "-Wl,-Bsymbolic",  # its own functions are its own, whatever is preloaded before it
)  # fmt: skip


class NotBuiltError(RuntimeError):
    """The library can't be built here; says why."""


def source_files() -> list[Path]:
    """Everything that a built library depends on."""
    return sorted([*SOURCES.glob("*.[ch]"), SOURCES / "versions.map", FOLDER / "vsim_preload.h"])


def source_hash() -> str:
    """A short name of the sources, the flags and the kind of machine."""
    found = sha256(" ".join((*FLAGS, platform.machine())).encode())
    for path in source_files():
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def build_library(target: Path, extra: Sequence[str] = ()) -> Path:
    """Compile the library into a file; a build that fails leaves what was there.

    Args:
        target: the file to make or replace.
        extra: further flags, such as a sanitizer's.

    Raises:
        NotBuiltError: not Linux on x86-64, no compiler, or one that fails.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotBuiltError(
            f"the library is written for Linux on x86-64; this is {sys.platform} on "
            f"{platform.machine()}"
        )
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NotBuiltError(
            f"there is no C compiler `{os.environ.get('CC', 'cc')}` on the PATH; install gcc or "
            "clang, or name one in CC"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        made = Path(folder) / NAME
        command = [
            compiler, *FLAGS, *extra, f"-Wl,--version-script={SOURCES / 'versions.map'}",
            f"-Wl,-soname,{NAME}", "-o", str(made), *map(str, sorted(SOURCES.glob("*.c"))),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotBuiltError(f"{compiler} could not build the library:\n{done.stderr}")
        made.replace(target)
    return target


def cached_library() -> Path:
    """Where `vsim preload build` puts it: a place of these sources, so that it is never stale."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vsim" / "preload" / source_hash() / NAME


def find_library() -> Path | None:
    """The built library: the one that came with the package, else the one built here."""
    for path in (FOLDER / NAME, cached_library()):
        if path.is_file():
            return path
    return None
