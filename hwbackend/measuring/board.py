"""Board: one GPU's clock, power and energy, sampled by NVML in a thread while something runs."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

SAMPLE_S: Final = 0.01
_INSTANT_POWER: Final = 186  # NVML_FI_DEV_POWER_INSTANT: GetPowerUsage averages over a second


@dataclass(frozen=True, slots=True)
class BoardSample:
    """One look at the board.

    Args:
        at_ns: of the host's monotonic clock.
        sm_mhz: clock of the multiprocessors.
        watts: power at this moment.
    """

    at_ns: int
    sm_mhz: int
    watts: float


@dataclass(frozen=True, slots=True)
class BoardLoad:
    """What the board did while something ran.

    Args:
        seconds: how long it was watched.
        samples: how many looks.
        watts: mean power; 0.0 without a look.
        most_watts: highest of the looks.
        sm_mhz: median clock of the multiprocessors; 0 without a look.
        least_sm_mhz: lowest of the looks.
        joules: by the board's own counter; None where it has none.
    """

    seconds: float
    samples: int
    watts: float
    most_watts: float
    sm_mhz: int
    least_sm_mhz: int
    joules: float | None


class Board:
    """Watches one GPU from `with` until its end; its samples grow meanwhile.

    Without NVML, or where it knows no such GPU, it watches nothing and `available` is false: a
    measurement of times does not fail for lack of a wattmeter.

    Args:
        bus_id: the GPU's PCI bus id, as the driver says it.
        period_s: between two looks.
    """

    def __init__(self, bus_id: str, period_s: float = SAMPLE_S) -> None:
        self.samples: list[BoardSample] = []
        self._period_s = period_s
        self._nvml, self._handle = _found(bus_id)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._began: tuple[int, int | None] = (0, None)
        self._ended: tuple[int, int | None] | None = None

    @property
    def available(self) -> bool:
        """Whether there is something to watch."""
        return self._handle is not None

    def look(self) -> BoardSample:
        """Take one sample. Raises RuntimeError where nothing is available."""
        if self._nvml is None:
            raise RuntimeError("NVML is not available")
        value = self._nvml.nvmlDeviceGetFieldValues(self._handle, [_INSTANT_POWER])[0]
        clock = self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM)
        return BoardSample(time.monotonic_ns(), int(clock), value.value.uiVal / 1e3)

    def __enter__(self) -> Self:
        self._began, self._ended = self._reading(), None
        self._done.clear()
        if self.available:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._ended = self._reading()

    def load(self, since_ns: int = 0) -> BoardLoad:
        """Sum up the samples so far, or those since a moment of the monotonic clock."""
        end_ns, end_mj = self._ended or self._reading()
        begin_ns, begin_mj = self._began
        seen = [each for each in list(self.samples) if each.at_ns >= max(since_ns, begin_ns)]
        joules = None
        if since_ns <= begin_ns and begin_mj is not None and end_mj is not None:
            joules = (end_mj - begin_mj) / 1e3
        watts = [each.watts for each in seen]
        clocks = [each.sm_mhz for each in seen]
        return BoardLoad(
            (end_ns - max(since_ns, begin_ns)) / 1e9,
            len(seen),
            float(np.mean(watts)) if seen else 0.0,
            max(watts, default=0.0),
            int(np.median(clocks)) if seen else 0,
            min(clocks, default=0),
            joules,
        )

    def _reading(self) -> tuple[int, int | None]:
        """The monotonic clock, and the board's energy counter in millijoules."""
        counted = None
        if self._nvml is not None:
            try:
                counted = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
            except self._nvml.NVMLError:
                counted = None
        return time.monotonic_ns(), counted

    def _watch(self) -> None:
        assert self._nvml is not None
        while True:
            try:
                self.samples.append(self.look())
            except self._nvml.NVMLError:
                return  # the board stopped answering: what was seen stays
            if self._done.wait(self._period_s):
                return


def _found(bus_id: str) -> tuple[Any, Any]:
    """NVML and its handle of a GPU, or two Nones."""
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
    except pynvml.NVMLError:
        return None, None
