"""Attention of prompts and of chunks behind prefixes."""

from collections.abc import Iterator, Sequence

from vsim.hwbackend.calibration.bench import AbsentError, Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.traces.gpu_samples import Point, Sampled


def measure_prefills(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time one layer's launch in a graph of several, microseconds."""
    raise AbsentError("there is no kernel yet")
    yield
