"""build: the fake driver as a library, made by the machine's C compiler in about a second."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
LIBRARY = "libcuda.so.1"
FLAGS = (
    "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
    "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--default-symver", f"-Wl,-soname,{LIBRARY}",
)  # fmt: skip


def build(folder: Path, extra: Sequence[str] = ()) -> Path:
    """Compile it into a folder, which is what LD_LIBRARY_PATH has to name."""
    made = folder / LIBRARY
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    done = subprocess.run(
        ["cc", *FLAGS, *extra, "-o", str(made), *sources, "-lpthread", "-ldl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"cc could not build the fake driver:\n{done.stderr}")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """What a process needs so that the fake is its driver."""
    before = os.environ.get("LD_LIBRARY_PATH")
    search = f"{folder}:{before}" if before else str(folder)
    return {**os.environ, "LD_LIBRARY_PATH": search, "VSIM_FAKE_DRIVER": str(folder / LIBRARY)}


def main() -> int:
    """Run a command with the fake as its driver: building.py FOLDER COMMAND ..."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(sys.argv[2:], env=environment(build(folder)), check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
