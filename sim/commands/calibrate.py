"""What `vsim calibrate` does: read measurements, score them, write a machine and its tables.

Measurements are those of a package, or a GPU's: of the one that is here, or samples taken before.
What measures GPUs is not the simulator's: whoever assembles the commands hands it in.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, cast

from vsim.sim.calibration.aiconfigurator import Package, System, find_package
from vsim.sim.calibration.compact import compact
from vsim.sim.calibration.held_out import Score, scored
from vsim.sim.calibration.machine_file import machine_text
from vsim.sim.calibration.measured_files import STACKS, Measured
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.kernel_tables import KIND, arrow_table, kernel_tables
from vsim.sim.machine.machine import Machine
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.faults import refuse, suggestion
from vsim.traces.writing import check_apart, file_target, fresh_file, yaml_text

_SOURCE = "aiconfigurator"
_SAMPLES = "samples"
_STACKS = ("vllm",)
_MACHINE = "machine"
_ZSTD_LEVEL = 19
TARGETS = {
    "products": (0.06, 0.20),
    "decode_attention": (0.08, 0.50),
    "prefill_attention": (0.13, 0.45),
    "decode_latents": (0.08, 0.50),
    "prefill_latents": (0.13, 0.45),
}
"""Median and 95 % quantile of the error on shapes left out that a machine's tables are to meet."""


class GpuCalibration(Protocol):
    """Machine files from measurements on a GPU."""

    def measured(self, out: str, *, quick: bool, disk: str | None) -> None:
        """Measure the GPU that is here, and write a machine file, its tables and the samples."""

    def of_samples(self, file: str, out: str) -> None:
        """Write a machine file and its tables from samples that were taken before."""


def calibrate_from(
    source: str | None,
    out: str,
    stacks: Sequence[str] | None,
    *,
    on_gpu: bool,
    quick: bool,
    disk: str | None,
    gpu: GpuCalibration | None,
) -> None:
    """Write a machine file from whatever was asked for.

    Args:
        source: `aiconfigurator:<gpu>` or `samples:<file>`; None where the GPU is measured.
        out: the machine file to write.
        stacks: serving stacks of a package's measurements.
        on_gpu: whether to measure the GPU that is here.
        quick: whether to measure a few points only.
        disk: a folder on a disk to measure beside the GPU.
        gpu: what measures GPUs.

    Raises:
        InputError: with what is wrong.
    """
    kind, _, rest = (source or "").partition(":")
    if on_gpu == (source is not None):
        both = "both were given" if on_gpu else "none was given"
        refuse("--from", f"{both}; write --gpu, or --from {_SOURCE}:<gpu> or {_SAMPLES}:<file>")
    if stacks is not None and (on_gpu or kind == _SAMPLES):
        refuse("--stack", f"is about --from {_SOURCE}:<gpu>; leave it out: a GPU is measured with"
               " this project's own kernels")  # fmt: skip
    if quick and not on_gpu:
        refuse("--quick", "is about --gpu; leave it out")
    if disk is not None and not on_gpu:
        refuse("--disk", "is about --gpu; leave it out")
    if not on_gpu and kind != _SAMPLES:
        calibrate(source or "", out, stacks or _STACKS)
        return
    if gpu is None:
        refuse("--gpu" if on_gpu else "--from", "is not part of this program; run vsim")
    if on_gpu:
        gpu.measured(out, quick=quick, disk=disk)
        return
    if not rest:
        refuse("--from", f"'{source}' names no file; write {_SAMPLES}:<file>, as samples:s.arrow")
    gpu.of_samples(rest, out)


def calibrate(source: str, out: str, stacks: Sequence[str]) -> None:
    """Write a machine file and one file of tables a stack beside it, and print how good they are.

    Args:
        source: `aiconfigurator:<gpu>`.
        out: the machine file to write.
        stacks: serving stacks.

    Raises:
        InputError: with what is wrong.
    """
    package, system, wanted = _asked(source, out, stacks)
    path = Path(out)
    names = [f"{path.stem}.{stack}.kernels.arrow" for stack in wanted]
    places = [str(path.with_name(name)) for name in names]
    check_apart(
        [file_target(out, _MACHINE, "--out"), *(file_target(p, KIND, "--out") for p in places)]
    )
    with ExitStack() as held:  # begun before the work, so that none is for nothing
        machine = held.enter_context(fresh_file(out, _MACHINE, option="--out"))
        files = [held.enter_context(fresh_file(p, KIND, option="--out")) for p in places]
        found = [package.read(system.name, stack) for stack in wanted]
        release = f"aiconfigurator-core {package.version}"
        described = [
            (each.stack, name, f"{_note(each)}; {release}")
            for each, name in zip(found, names, strict=True)
        ]
        text = yaml_text(
            _MACHINE,
            "# by `vsim calibrate`, which replaces it; without the line above, it is left alone.\n"
            + machine_text(system, path.stem, release, described),
        )
        parse_yaml(text, out, Machine)  # what is written can be read
        for each, file in zip(found, files, strict=True):
            tables = kernel_tables(file.target.name, {}, [compact(c) for c in each.curves])
            put_table(
                arrow_table(tables), file.path, KIND, _provenance(each, release),
                zstd_level=_ZSTD_LEVEL,
            )  # fmt: skip
            _show(each, _scores(system, each), file.path.stat().st_size)
        machine.write(text)
        for file in files:
            file.publish()
        machine.publish()
    print(f"Wrote {out} and {', '.join(names)}")


def _asked(source: str, out: str, stacks: Sequence[str]) -> tuple[Package, System, list[Stack]]:
    kind, _, gpu = source.partition(":")
    if kind != _SOURCE or not gpu:
        refuse("--from", f"'{source}' is no source; write {_SOURCE}:<gpu>, as {_SOURCE}:h100_sxm,"
               f" or {_SAMPLES}:<file>")  # fmt: skip
    if not out.endswith((".yaml", ".yml")):
        refuse("--out", f"'{out}' is no machine file's name; write one that ends in .yaml")
    for stack in stacks:
        if stack not in STACKS:
            refuse("--stack", f"there is no '{stack}'{suggestion(stack, STACKS)}")
    package = find_package()
    wanted = cast(list[Stack], list(dict.fromkeys(stacks)))
    return package, package.system(gpu), wanted


def _note(each: Measured) -> str:
    when = f", up to {each.collected}" if each.collected else ""
    return f"{each.device}, {each.stack}: {each.versions}{when}"


def _provenance(each: Measured, release: str) -> Provenance:
    return Provenance(
        f"{release} (PyPI), {len(each.files)} files of systems/data",
        "Apache-2.0",
        each.device,
        extra={
            "stack": each.stack,
            "device": each.device,
            "versions": f"{each.stack}: {each.versions}",
            "collected": each.collected or "not stated",
            "left_out": "; ".join(each.left_out) or "nothing but what is thinned",
        },
    )


def _scores(system: System, each: Measured) -> Iterator[Score]:
    tell = _progress()
    yield from scored(system.peaks, each.curves, tell)
    if tell is not None:
        tell("")


def _show(each: Measured, scores: Iterator[Score], size: int) -> None:
    """Print a table of errors, a kernel a line."""
    lines = [
        f"{each.device} under {each.stack}, {size / 1e3:.0f} kB",
        f"{'kernel':<18}{'precision':<11}{'variant':<15}{'rows':>7}{'shapes':>8}"
        f"{'left out':>17}{'target':>12}{'as written':>17}",
        f"{'':<59}{'median':>9}{'p95':>8}{'':>12}{'median':>9}{'p95':>8}",
    ]
    for score in scores:
        target = TARGETS.get(score.kernel)
        shown = f"{target[0]:.0%} {target[1]:.0%}" if target else "–"
        median, high = score.held_out
        own, worst = score.as_shipped
        lines.append(
            f"{score.kernel:<18}{score.precision:<11}{score.variant or '–':<15}{score.rows:>7}"
            f"{score.shapes:>8}{median:>9.1%}{high:>8.1%}{shown:>12}{own:>9.1%}{worst:>8.1%}"
        )
    lines += [f"left out: {why}" for why in each.left_out]
    print("\n".join(lines), end="\n\n", flush=True)


def _progress() -> Callable[[str], None] | None:
    """Show on a terminal what is scored now; an empty name clears the line."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None

    def tell(name: str) -> None:
        print(f"\r\x1b[K{name} …" if name else "\r\x1b[K", end="", file=sys.stderr, flush=True)

    return tell
