"""What the tests of the preload library share; they need a C compiler, and Linux on x86-64."""

import platform
import shutil
import sys

import pytest
from tests.hwbackend.preload.building import Bench

HERE = sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("cc")
# Elsewhere the library refuses to be built, by name: test_building.py claims that.
collect_ignore_glob = [] if HERE else ["test_[!b]*.py"]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("preload"))
