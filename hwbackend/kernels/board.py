"""The board's clock and power, read while something runs."""

import threading
import time
from typing import Any, Final

import pynvml

INSTANT_POWER: Final = 186  # NVML_FI_DEV_POWER_INSTANT: GetPowerUsage averages over a second
SAMPLE_S: Final = 0.004


class Board(threading.Thread):
    """Samples of (monotonic ns, SM MHz, W), taken until it is stopped; it changes as it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        pynvml.nvmlInit()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.samples: list[tuple[int, int, float]] = []
        self._done = threading.Event()

    def read(self) -> tuple[int, int, float]:
        """Take one sample."""
        value = pynvml.nvmlDeviceGetFieldValues(self.handle, [INSTANT_POWER])[0]
        watts = value.value.uiVal / 1e3
        clock = pynvml.nvmlDeviceGetClockInfo(self.handle, pynvml.NVML_CLOCK_SM)
        return time.monotonic_ns(), clock, watts

    def run(self) -> None:
        """Sample until stopped."""
        while not self._done.wait(SAMPLE_S):
            self.samples.append(self.read())

    def stop(self) -> None:
        """End the samples."""
        self._done.set()
        self.join()

    def machine(self) -> dict[str, Any]:
        """Return the board's name, memory and limits, and its driver."""
        handle = self.handle
        return {
            "gpu": pynvml.nvmlDeviceGetName(handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda_driver": pynvml.nvmlSystemGetCudaDriverVersion(),
            "memory_total_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            "power_limit_mw": pynvml.nvmlDeviceGetPowerManagementLimit(handle),
            "sm_max_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_max_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        }
