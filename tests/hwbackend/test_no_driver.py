"""Where there is no driver, one line says so, whichever release of the bindings finds out."""

import sys
from types import ModuleType

import pytest

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import devices
from vsim.hwbackend.cuda.errors import NoDriver
from vsim.hwbackend.memory import trial


@pytest.mark.parametrize(
    "message",
    [
        '"cuda" is an NVIDIA driver library and can only be found via system search.',  # 13.4
        "Failed to dlopen libcuda.so.1",  # 12.8
    ],
)
def test_a_missing_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    def fail(_: int) -> None:
        raise RuntimeError(message)

    bindings = ModuleType("cuda.bindings")
    bindings.driver = ModuleType("cuda.bindings.driver")  # type: ignore[attr-defined]
    bindings.driver.cuInit = fail
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", bindings.driver)
    line = "GPU: there is no NVIDIA driver here; run it where there is one, or without --gpu"
    with pytest.raises(NoDriver) as caught:
        devices()
    assert str(caught.value) == line
    assert trial.main([]) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_another_error_of_the_bindings_is_not_taken_for_a_missing_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise RuntimeError('Function "cuNew" not found')

    bindings = ModuleType("cuda.bindings")
    bindings.driver = ModuleType("cuda.bindings.driver")  # type: ignore[attr-defined]
    bindings.driver.cuNew = fail
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", bindings.driver)
    with pytest.raises(RuntimeError, match="cuNew"):
        call("cuNew")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(NoDriver, match=r"^GPU: cuda-python is not installed here; run it where"):
        devices()
