"""What all tests of the hardware backend share: no GPU, and a host whose speed does not matter."""

import pytest


@pytest.fixture(autouse=True)
def samples_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is none needs no host at full speed: how often a sample is taken again would
    depend on what else the host does."""
    monkeypatch.setattr("vsim.hwbackend.cases.mapping._AGAIN_S", 0.0)
    monkeypatch.setattr("vsim.hwbackend.cases.mapping.REPEATS", 3)
    monkeypatch.setattr("vsim.hwbackend.calibration.driver_calls._AGAIN_S", 0.0)
    monkeypatch.setattr("vsim.hwbackend.calibration.clearing._AGAIN_S", 0.0)
