"""measure: a plan's points on this machine; what could not be measured is named, not dropped."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from vsim.hwbackend.calibration.attending import measure_decodes, measure_mixes
from vsim.hwbackend.calibration.bench import MOST_BYTES, Bench
from vsim.hwbackend.calibration.beside import measure_besides
from vsim.hwbackend.calibration.clearing import measure_clearing
from vsim.hwbackend.calibration.driver_calls import measure_calls
from vsim.hwbackend.calibration.launches import measure_latencies, measure_launches
from vsim.hwbackend.calibration.loads import measure_board
from vsim.hwbackend.calibration.multiplying import measure_experts, measure_products
from vsim.hwbackend.calibration.paging import measure_paging
from vsim.hwbackend.calibration.plan import Plan
from vsim.hwbackend.calibration.prefilling import measure_prefills
from vsim.hwbackend.calibration.ragged import measure_ragged
from vsim.hwbackend.calibration.reads import measure_reads, measure_writes
from vsim.hwbackend.calibration.summing import measure_sums
from vsim.hwbackend.calibration.transfers import measure_copies
from vsim.hwbackend.cuda.errors import CudaError, DeviceLost
from vsim.hwbackend.measuring.facts import read_facts
from vsim.hwbackend.measuring.gpus import AbsentError
from vsim.traces.faults import InputError
from vsim.traces.gpu_samples import GpuSamples, Point, Sampled

MOST_S: Final = 210.0
"""A calibration takes four minutes at most: what is begun last takes some seconds."""

Runner = Callable[[Bench, Sequence[Point], Plan], Iterator[Sampled]]
Tell = Callable[[str], None]

RUNNERS: Final[dict[str, Runner]] = {
    "power": measure_board,
    "clock": measure_board,
    "launch": measure_launches,
    "vmm": measure_calls,
    "clearing": measure_clearing,
    "latency": measure_latencies,
    "read": measure_reads,
    "write": measure_writes,
    "copy": measure_copies,
    "beside": measure_besides,
    "paging": measure_paging,
    "decode_attention": measure_decodes,
    "ragged_attention": measure_ragged,
    "mixed_attention": measure_mixes,
    "prefill_attention": measure_prefills,
    "products": measure_products,
    "experts": measure_experts,
    "all_reduce": measure_sums,
}
"""Who measures each probe's points."""


def measure(
    plan: Plan,
    tell: Tell | None = None,
    most_bytes: Mapping[str, int] = MOST_BYTES,
    most_s: float = MOST_S,
    disk: Path | None = None,
) -> GpuSamples:
    """Measure a plan. A probe that fails leaves its points out, and the others go on.

    Args:
        plan: what to measure.
        tell: is told what was measured.
        most_bytes: memory that is taken of each place.
        most_s: after so long nothing more is begun, and what was not is left out by name.
        disk: a folder on the disk that the plan measures; None where it measures none.

    Raises:
        NoDriver: there is no GPU.
    """
    facts = read_facts()
    rows: list[Sampled] = []
    left_out: list[str] = []
    bench = Bench(most_bytes, disk)
    until = time.monotonic() + most_s
    try:
        for points in _groups(plan):
            about = f"{points[0].probe} {points[0].variant.split()[0]}"
            began, count = time.monotonic(), len(rows)
            if began > until:
                if points[0] not in {row.point for row in rows}:
                    left_out.append(f"{about}: not begun, {most_s:.0f} s were over")
                continue
            why = _measured(bench, points, plan, rows)
            if why is not None:
                left_out.append(f"{about}: {why}")
            if tell is not None:
                took = time.monotonic() - began
                tell(f"{about}: {len(rows) - count} of {len(points)} points in {took:.1f} s")
            if why is not None and why.startswith(_LOST):
                left_out.append("all after it: the GPU is lost to this process")
                break
    finally:
        _close(bench)
    return GpuSamples(facts.as_json(), _merged(rows), tuple(dict.fromkeys(left_out)))


def _close(bench: Bench) -> None:
    """Give everything back; of a lost GPU nothing can be, and what was measured is worth more."""
    with suppress(DeviceLost):
        bench.close()


FAILED: Final = "failed: "
"""How the reason of what is left out begins that should have been measured."""
_LOST: Final = f"{FAILED}the GPU is lost: "
_FAILURES: Final = (
    CudaError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError,
    OSError,
)  # fmt: skip
"""A fault of one probe, whatever it is, does not cost what the others measure."""


def _groups(plan: Plan) -> Iterator[Sequence[Point]]:
    """Points that are measured, and fail, together: a runner's, of one place or route.

    Driver calls come at the plan's place for them, in its middle and at its end: the host's speed
    drifts by half of itself within a minute.
    """
    groups: dict[tuple[Runner, str], list[Point]] = {}
    for point in plan.points:
        runner = RUNNERS[point.probe]
        part = "" if runner is measure_board else f"{point.variant.split()[0]} {point.get('share')}"
        if runner in (measure_mixes, measure_ragged):
            part = point.variant
        groups.setdefault((runner, part), []).append(point)
    calls = (measure_calls, measure_clearing)
    again = [points for (runner, _), points in groups.items() if runner in calls]
    others = [points for (runner, _), points in groups.items() if runner not in calls]
    for points in groups.values():
        yield points
        if others and points is others[len(others) // 2]:
            yield from again
    yield from again


def _merged(rows: Sequence[Sampled]) -> tuple[Sampled, ...]:
    """One row a point, with the samples of all passes."""
    found: dict[Point, Sampled] = {}
    for row in rows:
        before = found.get(row.point)
        samples = row.samples if before is None else before.samples + row.samples
        found[row.point] = replace(row, samples=samples)
    return tuple(found.values())


def _measured(bench: Bench, points: Sequence[Point], plan: Plan, rows: list[Sampled]) -> str | None:
    """Append what is measured; and say why it ended early, if it did: what came before stays."""
    try:
        rows.extend(RUNNERS[points[0].probe](bench, points, plan))
    except AbsentError as absent:
        return str(absent)
    except InputError as error:  # a library that a probe needs is not installed
        return "; ".join(map(str, error.faults))
    except DeviceLost as lost:
        return f"{_LOST}{lost}"
    except _FAILURES as error:
        traceback.print_exc()
        return f"{FAILED}{type(error).__name__}: {error}"
    return None


def tell_on_stderr(line: str) -> None:
    """Print what was measured as it goes."""
    print(line, file=sys.stderr, flush=True)
