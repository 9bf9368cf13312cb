"""Programs of `programs/`, built on the fake driver, and how they are run under the library."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hwbackend.fake import building as fake

from vsim.hwbackend.preload.building import build_library
from vsim.hwbackend.preload.environment import Mode, Preload, preloaded

PROGRAMS = Path(__file__).parent / "programs"
NAME = "libvsim_preload.so"


@dataclass(frozen=True, slots=True)
class Bench:
    """A folder with the fake driver, the library, and the programs built so far.

    Args:
        folder: where everything is.
        flags: of the compiler, for all of it: a sanitizer's.
    """

    folder: Path
    flags: tuple[str, ...] = ()

    @property
    def library(self) -> Path:
        made = self.folder / NAME
        return made if made.exists() else build_library(made, self.flags)

    @property
    def driver(self) -> Path:
        """The folder that LD_LIBRARY_PATH has to name."""
        made = self.folder / "driver"
        if not made.exists():
            made.mkdir()
            fake.build(made, self.flags)
            (made / "libcuda.so").symlink_to(fake.LIBRARY)
        return made

    def program(self, name: str, *flags: str, linked: bool = True) -> Path:
        """Compile programs/NAME.c; linked against the driver, or else on its own."""
        return self._compile(name, name, *flags, *self._driver(linked))

    def shared(self, name: str, made: str, *flags: str) -> Path:
        """Compile programs/NAME.c as a library by another name."""
        return self._compile(name, f"{made}.so", "-shared", "-fPIC", *flags)

    def _driver(self, linked: bool) -> tuple[str, ...]:
        return (f"-L{self.driver}", "-lcuda", "-pthread") if linked else ("-ldl",)

    def _compile(self, name: str, made: str, *flags: str) -> Path:
        target = self.folder / made
        if not target.exists():
            command = ["cc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", *self.flags, "-o",
                       str(target), str(PROGRAMS / f"{name}.c"), *flags]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return target

    def environment(self, **variables: str) -> dict[str, str]:
        """The fake driver's, without the library."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.driver), **variables}

    def run(
        self, command: Sequence[Path | str], mode: Mode | None = "manage", *,
        spill: tuple[str, ...] = (), pool_bytes: int | None = None, log: Path | None = None,
        before: Sequence[Path] = (), after: Sequence[Path] = (),
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command, under the library where a mode is named, among other preloaded ones."""
        environment = self.environment(**(variables or {}))
        others = [str(path) for path in (*before, *after)]
        if mode is not None:
            environment = preloaded(
                Preload(self.library, mode, spill, pool_bytes, log), environment
            )
            others = [*map(str, before), str(self.library), *map(str, after)]
        if others:
            environment["LD_PRELOAD"] = ":".join(others)
        return subprocess.run(
            [str(word) for word in command], env=environment, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
