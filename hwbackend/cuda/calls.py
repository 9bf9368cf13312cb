"""call: one function of the driver, its error as an exception and its values as values."""

import sys
from importlib import import_module
from typing import Any, Final

from vsim.hwbackend.cuda.errors import NoDriver, error_of

_DRIVER: Final = "cuda.bindings.driver"
_NOT_READY: Final = "CUDA_ERROR_NOT_READY"


def call(name: str, *arguments: Any, detail: object = "") -> Any:
    """Call a function of the driver.

    Args:
        name: its name: cuMemCreate.
        arguments: as `cuda.bindings.driver` takes them.
        detail: sizes and places concerned, for the message; made a text only if there is one.

    Returns:
        None, its value, or a tuple of its values.

    Raises:
        CudaError: with the call, the code and the detail; OutOfMemory and DeviceLost are kinds.
        NoDriver: there is no libcuda, or no cuda-python.
    """
    code, *values = _outcome(name, arguments)
    if int(code) != 0:
        raise error_of(name, int(code), _name_of(code), str(detail))
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def is_ready(name: str, *arguments: Any) -> bool:
    """Call a query, which says that something is not done yet by an error code of its own."""
    code, *_ = _outcome(name, arguments)
    if int(code) == 0:
        return True
    if _name_of(code) == _NOT_READY:
        return False
    raise error_of(name, int(code), _name_of(code), "")


def _outcome(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    driver = sys.modules.get(_DRIVER) or _imported()
    try:
        outcome: tuple[Any, ...] = getattr(driver, name)(*arguments)
    except RuntimeError as error:
        if "libcuda" in str(error) or "NVIDIA driver" in str(error):
            raise NoDriver("there is no NVIDIA driver here") from None
        raise
    return outcome


def _imported() -> Any:
    """Import the bindings late: that takes a tenth of a second, and `vsim --help` needs none."""
    try:
        return import_module(_DRIVER)
    except ImportError:
        raise NoDriver("cuda-python is not installed here") from None


def _name_of(code: Any) -> str:
    return str(getattr(code, "name", code))
