"""Matrix products and experts by shape."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vsim.hwbackend.calibration.bench import AbsentError, Bench
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.measuring.samples import Work
from vsim.traces.gpu_samples import Point, Sampled


def measure_products(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time products, microseconds."""
    raise AbsentError("there are no products yet")
    yield


def measure_experts(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time a layer's experts, microseconds."""
    raise AbsentError("there are no products yet")
    yield


@contextmanager
def product_load(bench: Bench, tokens: int) -> Iterator[Work]:
    """Make work of one product."""
    raise AbsentError("there are no products yet")
    yield
