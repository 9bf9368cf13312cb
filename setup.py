"""Builds the preload library into wheels; everything else stands in pyproject.toml.

Where it can't be built (no compiler, another system) the wheel is made without it and says so.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_FOLDER = Path(__file__).parent / "hwbackend" / "preload"
_PACKAGE = "vsim/hwbackend/preload"


def _building() -> ModuleType:
    """The module that builds the library, by its file: the package is not installed yet."""
    spec = importlib.util.spec_from_file_location("building", _FOLDER / "building.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithLibrary(build_py):
    """Copies modules and data, and builds the library beside them."""

    def run(self) -> None:
        """Do both; a package that is installed in place gets no library: `vsim preload build`."""
        super().run()
        building = _building()
        if not self.editable_mode:
            target = Path(self.build_lib) / _PACKAGE / building.NAME
            try:
                building.build_library(target)
            except building.NotBuiltError as error:
                self.announce(f"without the preload library: {error}", level=3)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name the library, too, where it was built."""
        made = Path(self.build_lib) / _PACKAGE / _building().NAME
        found: list[str] = super().get_outputs(include_bytecode)
        return [*found, str(made)] if made.is_file() else found


class PlatformWheel(bdist_wheel):
    """Any Python, but the one system that the library was built for, where it was built."""

    def get_tag(self) -> tuple[str, str, str]:
        """Name the system in the wheel's tag."""
        if not (Path(self.bdist_dir) / _PACKAGE / _building().NAME).is_file():
            tag: tuple[str, str, str] = super().get_tag()
            return tag
        self.root_is_pure = False
        _, _, system = super().get_tag()
        return "py3", "none", system


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
