"""measure: one case after another, and what became of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsim.hwbackend.cases.attending import measure_attention, measure_mixed
from vsim.hwbackend.cases.bench import AbsentError, CaseBench
from vsim.hwbackend.cases.copying import measure_copy
from vsim.hwbackend.cases.looping import measure_loop
from vsim.hwbackend.cases.mapping import measure_mapping
from vsim.hwbackend.cases.sparse import measure_sparse
from vsim.hwbackend.cuda.errors import CudaError, DeviceLost
from vsim.hwbackend.measuring.samples import Samples
from vsim.sim.fidelity.gpu.cases import (
    AttentionCase,
    CopyCase,
    GpuCase,
    LoopCase,
    MappingCase,
    MixedCase,
    SparseCase,
)
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
    measured: list[Measured] = []
    skipped: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    with CaseBench() as bench:
        for number, case in enumerate(cases):
            begin = f"{number + 1}/{len(cases)} {case.of_class}: {case.name}"
            try:
                if case.gpus > 1:
                    bench.place("peer")
                taken = _taken(bench, case, plans)
            except AbsentError as error:
                skipped.append((case.name, str(error)))
                tell(f"{begin}: skipped: {error}")
                continue
            except DeviceLost as error:
                failed += [(each.name, str(error)) for each in cases[number:]]
                tell(f"{begin}: FAILED, and what follows with it: {error}")
                break
            except (CudaError, InputError, ValueError) as error:
                failed.append((case.name, str(error)))
                tell(f"{begin}: FAILED: {error}")
                continue
            measured.append(Measured(case, tuple(max(1, round(1e3 * us)) for us in taken.all_us)))
            told = f"{taken.median_us:,.1f} us, {taken.least_us:,.1f} to {taken.most_us:,.1f}"
            tell(f"{begin}: {told}")
    return Outcome(tuple(measured), tuple(skipped), tuple(failed))


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
