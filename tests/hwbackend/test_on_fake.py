"""Runs the tests in `on_fake/`, whose driver is the fake one, in processes of their own.

A process that has loaded a libcuda keeps it, and other tests claim what happens where there is
none; so the fake must never get into the suite's own processes, which live long and take any test.
Three processes, not one for all, so that two workers share them, and not one a file: each imports
the simulator anew. What failed is named in their output.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.hwbackend.fake.building import build, environment

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin", reason="there is no CUDA for macOS, nor its Python bindings"
)
FOLDER = Path(__file__).parent / "on_fake"
REPOSITORY = FOLDER.parents[2]
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("test_*.py"))
SHARES = [FILES[first::3] for first in range(3)]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fake_driver"))


def run(driver: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=environment(driver),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("files", SHARES, ids=" ".join)
def test_on_the_fake_driver(driver: Path, files: list[str]) -> None:
    plain = ("-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:benchmark")
    done = run(driver, "-m", "pytest", *plain, *(str(FOLDER / file) for file in files))
    print(done.stdout + done.stderr)
    assert done.returncode == 0, "see the output of the inner run"  # 5: it collected nothing
