"""Tests that run on the fake driver, in a process of their own (tests/hwbackend/fake/README.md)."""

import os
from collections.abc import Iterator

import pytest
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.calibration import bench as calibration_bench
from vsim.hwbackend.calibration import clearing, driver_calls
from vsim.hwbackend.cases import bench as case_bench
from vsim.hwbackend.cases import mapping
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring import warm_calls

LIBRARY = os.environ.get("VSIM_FAKE_DRIVER")
# Everywhere else there is no driver, or a real one; tests/hwbackend/test_on_fake.py runs them.
collect_ignore_glob = [] if LIBRARY else ["test_*.py"]


@pytest.fixture
def fake() -> Iterator[Fake]:
    """The driver, as new. After the test nothing may be left of what the test took."""
    assert LIBRARY is not None
    control = Fake(LIBRARY)
    control.reset()
    yield control
    left = control.live()
    hazards = control.hazards()
    control.reset()
    assert left == {}, "not given back"
    assert hazards == 0, "memory was taken away from work that still wanted it"


@pytest.fixture(autouse=True)
def _no_core_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake driver is as slow as it is; how fast cores are found is seen in `measuring/`.

    And its times need no means over many calls, nor as many numbers as a cache holds.
    """
    for module in (calibration_bench, case_bench):
        monkeypatch.setattr(module, "DRAWN_BYTES", 1 << 16)
    for module in (clearing, driver_calls, mapping):
        monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    for module in (driver_calls, mapping):
        monkeypatch.setattr(module, "CHUNKS_A_TIME", 3)
    monkeypatch.setattr(warm_calls, "CALM", 2)


@pytest.fixture
def context(fake: Fake) -> Iterator[Context]:
    with Context(0) as made:
        yield made


@pytest.fixture
def stream(context: Context) -> Iterator[Stream]:
    with Stream() as made:
        yield made
