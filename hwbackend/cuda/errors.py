"""What a call of the driver can end with."""

from typing import Final

from vsim.traces.faults import Fault, InputError


class CudaError(RuntimeError):
    """A call of the driver that failed.

    Args:
        call: the driver's function.
        code: what it returned.
        name: the code's name.
        detail: sizes and places concerned, if there are any.
    """

    def __init__(self, call: str, code: int, name: str, detail: str = "") -> None:
        self.call, self.code, self.name, self.detail = call, code, name, detail
        about = f" of {detail}" if detail else ""
        super().__init__(f"{call}{about} failed: {name} ({code})")


class OutOfMemory(CudaError):  # noqa: N818  # the driver's own word for it
    """There is not as much memory; everything that was there before is still there."""


class DeviceLost(CudaError):  # noqa: N818  # as above
    """The context is broken: every later call fails too, and only a new process can go on."""


class NoDriver(InputError):  # noqa: N818  # an InputError, so that it ends as one line
    """There is no driver, or no GPU that it knows."""

    def __init__(self, found: str) -> None:
        message = f"{found}; run it where there is one, or without --gpu"
        super().__init__([Fault("GPU", message)])


OUT_OF_MEMORY: Final = "CUDA_ERROR_OUT_OF_MEMORY"
LOST: Final = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ILLEGAL_ADDRESS",
        "LAUNCH_TIMEOUT",
        "LAUNCH_FAILED",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_INSTRUCTION",
        "MISALIGNED_ADDRESS",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "ASSERT",
        "ECC_UNCORRECTABLE",
        "NVLINK_UNCORRECTABLE",
        "CONTAINED",
        "CONTEXT_IS_DESTROYED",
        "DEVICE_UNAVAILABLE",
        "DEINITIALIZED",
        "EXTERNAL_DEVICE",
        "TENSOR_MEMORY_LEAK",
        "UNKNOWN",
    )
)


def error_of(call: str, code: int, name: str, detail: str) -> CudaError:
    """Make the error of the right kind."""
    kind = OutOfMemory if name == OUT_OF_MEMORY else DeviceLost if name in LOST else CudaError
    return kind(call, code, name, detail)
