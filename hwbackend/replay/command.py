"""What `vsim replay` does: read, say what it takes, replay, print and write."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from vsim.hwbackend.replay.carry_out import Progress
from vsim.hwbackend.replay.contents import WrongPageError
from vsim.hwbackend.replay.options import ReplayOptions, shown_tiers
from vsim.hwbackend.replay.outcome import Outcome
from vsim.hwbackend.replay.output_check import WrongOutputError
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import Carriers, replay, simulated_carriers, slots_needed
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.view import show, show_needs
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.writing import FolderKind, FreshFolder, fresh_folder

WRONG = (WrongPageError, WrongOutputError)
"""What a look at pages or outputs can find."""
SUMMARY, OPERATIONS = "summary.json", "operations.arrow"
REPLAY = FolderKind("replay", SUMMARY)


def run_replay(
    path: str,
    options: ReplayOptions,
    *,
    overrides: Sequence[str],
    machine: str | None,
    hbm: str | None,
    out: str | None,
) -> None:
    """Replay, print the table of errors, and write it with the measured operations.

    Args:
        path: a scenario, a trace, or a log.
        options: how.
        overrides: `key=value`, on top of the scenario.
        machine: a machine instead of the scenario's, or None.
        hbm: bytes of KV in HBM instead of the scenario's, or None.
        out: a folder to write to, or None.

    Raises:
        InputError: with every fault found.
    """
    inputs = [path] if machine is None else [path, machine]
    folder = (
        nullcontext() if out is None else fresh_folder(out, REPLAY, inputs=inputs, option="--out")
    )
    with folder as fresh:  # begun before the work, so that no run is lost to a wrong name
        if options.gpu:  # what is not there is said before anything is simulated
            from vsim.hwbackend.replay.gpu import gpus_here

            gpus_here()
        source = read_source(path, options, overrides=overrides, machine=machine, hbm=hbm)
        tiers = shown_tiers(source.plan.tiers, options.stand_ins)
        work_bytes = 0
        if options.gpu:
            work_bytes = _work_bytes(source, options)
        show_needs(slots_needed(source, options, work_bytes), tiers, source.gpus)
        unit = "requests" if options.mode == "live" else "steps"
        with carriers_for(source, options) as carriers, _progress(unit) as progress:
            outcome = replay(source, options, carriers, progress)
        if fresh is not None:
            _write(outcome, fresh)
    show(outcome, out)


def carriers_for(source: Source, options: ReplayOptions) -> AbstractContextManager[Carriers]:
    """What carries a replay out. Raises InputError where there is no GPU for it."""
    if not options.gpu:
        return nullcontext(simulated_carriers())
    if source.gpus > 1:
        from vsim.hwbackend.replay.tensor_gpus import tensor_carriers

        return tensor_carriers(source, options)
    from vsim.hwbackend.replay.gpu import gpu_carriers

    return gpu_carriers(source, options)


def _work_bytes(source: Source, options: ReplayOptions) -> int:
    if source.gpus > 1:
        from vsim.hwbackend.replay.tensor_gpus import tensor_work_bytes

        return tensor_work_bytes(source, options)
    from vsim.hwbackend.replay.gpu import work_bytes_of

    return work_bytes_of(source, options)


def _write(outcome: Outcome, fresh: FreshFolder) -> None:
    source = outcome.source
    provenance = Provenance(
        source=f"vsim replay of {source.name} on {outcome.backend}",
        machine=str(outcome.facts.get("device", outcome.backend)),
        extra={
            "mode": outcome.options.mode,
            "movement": source.movement,
            "stand_ins": ",".join("=".join(pair) for pair in outcome.options.stand_ins) or "none",
        },
    )
    put_table(outcome.log, fresh.path / OPERATIONS, "operations", provenance)
    fresh.write_summary(outcome.as_json())
    fresh.publish()


@contextmanager
def _progress(unit: str) -> Iterator[Progress | None]:
    """Show a bar on standard error while the block runs, if a person is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
