"""measure: one case after another, and what became of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from vsim.hwbackend.cases.attending import measure_attention, measure_mixed
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.cases.copying import measure_copy
from vsim.hwbackend.cases.looping import measure_loop
from vsim.hwbackend.cases.mapping import measure_mapping
from vsim.hwbackend.cases.sparse import measure_sparse
from vsim.hwbackend.cuda.errors import CudaError, DeviceLost
from vsim.hwbackend.measuring.gpus import AbsentError
from vsim.hwbackend.measuring.samples import Samples
from vsim.sim.fidelity.gpu.cases import (
    AttentionCase,
    CopyCase,
    GpuCase,
    MappingCase,
    MixedCase,
    SparseCase,
)
from vsim.sim.fidelity.gpu.loop_cases import LoopCase
from vsim.sim.fidelity.gpu.recording import Measured
from vsim.traces.faults import InputError

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Args:
        measured: the cases that were.
        skipped: cases that need what this machine lacks, each with what.
        failed: cases that failed, each with the error.
    """

    measured: tuple[Measured, ...]
    skipped: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]


def measure(cases: Sequence[GpuCase], plans: Path, tell: Tell) -> Outcome:
    """Measure cases on this machine's GPUs.

    Raises:
        NoDriver: there is no GPU.
    """
    taken: dict[str, Samples] = {}
    skipped: list[tuple[str, str]] = []
    failed: dict[str, str] = {}
    # Calls of the driver are timed again at the end: a host's speed drifts within minutes.
    again = [case for case in cases if isinstance(case, MappingCase)]
    work = [*cases, *again]
    with CaseBench() as bench:
        for number, case in enumerate(work):
            begin = f"{number + 1}/{len(work)} {case.of_class}: {case.name}"
            if number >= len(cases) and case.name not in taken:
                continue
            try:
                if case.gpus > 1:
                    bench.place("peer")
                found = _taken(bench, case, plans)
            except AbsentError as error:
                skipped.append((case.name, str(error)))
                tell(f"{begin}: skipped: {error}")
                continue
            except DeviceLost as error:
                left = [each.name for each in work[number + 1 :] if each.name not in taken]
                failed |= dict.fromkeys([case.name, *left], str(error))
                tell(f"{begin}: FAILED, and what follows with it: {error}")
                break
            except (CudaError, InputError, ValueError) as error:
                failed[case.name] = str(error)
                tell(f"{begin}: FAILED: {error}")
                continue
            taken[case.name] = _both(taken.get(case.name), found)
            told = f"{found.median_us:,.1f} us, {found.least_us:,.1f} to {found.most_us:,.1f}"
            tell(f"{begin}: {told}")
    measured = tuple(
        Measured(
            _on_host(case, taken[case.name]),
            tuple(max(1, round(1e3 * us)) for us in taken[case.name].all_us),
        )
        for case in cases
        if case.name in taken and case.name not in failed
    )
    return Outcome(measured, tuple(skipped), tuple(failed.items()))


def _both(first: Samples | None, second: Samples) -> Samples:
    """Samples of both passes over a case; of driver calls, those on the faster host."""
    if first is None:
        return second
    if first.round_us and second.round_us:
        return min(first, second, key=lambda each: median(each.round_us))
    return Samples(first.all_us + second.all_us)


def _on_host(case: GpuCase, taken: Samples) -> GpuCase:
    """The case with the speed of the host that it was measured on."""
    if isinstance(case, MappingCase) and taken.round_us:
        return replace(case, round_ns=round(1e3 * median(taken.round_us)))
    return case


def _taken(bench: CaseBench, case: GpuCase, plans: Path) -> Samples:
    if isinstance(case, AttentionCase):
        return measure_attention(bench, case)
    if isinstance(case, MixedCase):
        return measure_mixed(bench, case)
    if isinstance(case, CopyCase):
        return measure_copy(bench, case)
    if isinstance(case, MappingCase):
        return measure_mapping(bench, case)
    if isinstance(case, LoopCase):
        return measure_loop(bench, case)
    assert isinstance(case, SparseCase)
    return measure_sparse(bench, case, plans)
