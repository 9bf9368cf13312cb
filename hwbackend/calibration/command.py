"""What `vsim calibrate --gpu` and `--from samples:FILE` do: samples to a machine and its tables."""

import os
from contextlib import ExitStack
from pathlib import Path

import yaml

import vsim.sim.machine
from vsim.hwbackend.calibration.comparison import comparison
from vsim.hwbackend.calibration.fit import fit
from vsim.hwbackend.calibration.machine_file import base_of, machine_text
from vsim.hwbackend.calibration.ragged_fit import fit_shares
from vsim.hwbackend.calibration.tables import curves_of
from vsim.hwbackend.memory.files import ALIGNMENT, PageFile
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.fingerprint import machine_fingerprint
from vsim.sim.machine.kernel_tables import KIND, Curves, arrow_table, kernel_tables
from vsim.sim.machine.machine import Machine
from vsim.sim.timing.constant_kernels import constant_kernels
from vsim.sim.timing.decode_shares import KEY as SHARES
from vsim.sim.timing.decode_shares import DecodeShares, shares_text
from vsim.sim.timing.table_kernels import TableKernels
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.faults import refuse
from vsim.traces.gpu_samples import KIND as SAMPLES
from vsim.traces.gpu_samples import GpuSamples
from vsim.traces.writing import (
    FreshFile,
    check_apart,
    file_target,
    fresh_file,
    sink,
    yaml_text,
)

_MACHINE = "machine"
_SOURCE = "vsim calibrate --gpu"
_ZSTD_LEVEL = 19


def calibrate_gpu(out: str, *, quick: bool = False, disk: str | None = None) -> None:
    """Measure this machine; write its samples, machine file and kernel tables, and compare them.

    Args:
        out: the machine file to write, ending in .yaml; samples and tables go beside it.
        quick: a few points of each kind only.
        disk: a folder on a local disk that is measured too, as the machine's NVMe tier.

    Raises:
        InputError: there is no GPU, a file can't be written there, or the disk takes no direct
            reads and writes.
    """
    from vsim.hwbackend.calibration.measure import measure, tell_on_stderr
    from vsim.hwbackend.calibration.plan import full_plan, quick_plan, with_disk
    from vsim.hwbackend.calibration.shown import shown

    folder = _disk_folder(disk)
    plan = quick_plan() if quick else full_plan()
    place = str(_yaml_path(out).with_suffix(".samples.arrow"))
    with ExitStack() as held:  # begun before the minutes of work, so that none are for nothing
        machine, tables = _begun(held, out, ())
        kept = held.enter_context(fresh_file(place, SAMPLES, option="--out"))
        samples = measure(plan if folder is None else with_disk(plan), tell_on_stderr, disk=folder)
        samples.write(kept, _SOURCE)
        print("\n".join(shown(samples)))
        _write(samples, machine, tables, ())
    print(f"Samples are in {place}")


def calibrate_from(samples_file: str, out: str) -> None:
    """Make a machine file and its kernel tables of samples, and compare them.

    Args:
        samples_file: of kind `gpu_samples`.
        out: the machine file to write, ending in .yaml; tables go beside it, those of the
            catalogue's machine of the same GPU as well.

    Raises:
        InputError: the samples are damaged, of a GPU that the catalogue does not have, or a file
            can't be written there.
    """
    reads = (samples_file,)
    with ExitStack() as held:
        machine, tables = _begun(held, out, reads)
        _write(GpuSamples.read(samples_file), machine, tables, reads)


def _disk_folder(disk: str | None) -> Path | None:
    """A folder whose disk is seen to take direct reads and writes, before anything is measured."""
    if disk is None:
        return None
    folder = Path(disk)
    if not folder.is_dir():
        refuse("--disk", f"{disk!r} is no folder; name one on a local disk")
    PageFile(folder / f".vsim-calibration-{os.getpid()}", ALIGNMENT).close()
    return folder


def _begun(held: ExitStack, out: str, reads: tuple[str, ...]) -> tuple[FreshFile, FreshFile]:
    """Begin the machine's file and that of its own tables."""
    own = str(_yaml_path(out).with_suffix(".vsim.kernels.arrow"))
    check_apart([file_target(out, _MACHINE, "--out"), file_target(own, KIND, "--out")])
    machine = held.enter_context(fresh_file(out, _MACHINE, inputs=reads, option="--out"))
    return machine, held.enter_context(fresh_file(own, KIND, inputs=reads, option="--out"))


def _write(
    samples: GpuSamples, machine: FreshFile, tables: FreshFile, reads: tuple[str, ...]
) -> None:
    """Fit, write everything, and print how it compares."""
    out, path = machine.target.name, Path(machine.target.name)
    fitted = fit(samples)
    found = curves_of(samples)
    name = Path(tables.target.name).name if found else None
    note = f"{fitted.facts.note}; this project's kernels, one layer's launch of a graph's"
    text = yaml_text(
        _MACHINE,
        "# by `vsim calibrate`, which replaces it; without the line above, it is left alone.\n"
        + machine_text(fitted, path.stem, name, note),
    )
    made = parse_yaml(text, out, Machine)  # what is written can be read
    shares = _shares(samples, found, made)
    published = _published(base_of(fitted), path.parent)
    with ExitStack() as held:
        copied = [
            held.enter_context(fresh_file(str(place), KIND, inputs=reads, option="--out"))
            for place in published
        ]
        for file, source in zip(copied, published.values(), strict=True):
            with sink(file.path) as written:
                written.write(source.read_bytes())
        if found:
            put_table(
                arrow_table(kernel_tables(str(name), {}, found)), tables.path, KIND,
                _provenance(samples, shares), zstd_level=_ZSTD_LEVEL,
            )  # fmt: skip
            tables.publish()
        machine.write(text)
        for file in copied:
            file.publish()
        machine.publish()
    print("\n".join(comparison(fitted, text, found, samples)))
    places = [tables.target.name] * bool(found) + [str(place) for place in published]
    print(f"\nWrote {', '.join([out, *places])}; calibration {machine_fingerprint(out)}")


def _yaml_path(out: str) -> Path:
    if not out.endswith((".yaml", ".yml")):
        refuse("--out", f"'{out}' is no machine file's name; write one that ends in .yaml")
    return Path(out)


def _published(base: str, folder: Path) -> dict[Path, Path]:
    """Where the catalogue's tables for the GPU have to go, and where they are."""
    catalogue = Path(vsim.sim.machine.__file__).parent / "catalogue"
    described = yaml.safe_load((catalogue / f"{base}.yaml").read_text(encoding="utf-8"))
    files = [catalogue / each["file"] for each in described.get("kernels", [])]
    if folder.resolve() == catalogue.resolve():
        return {}
    return {folder / file.name: file for file in files}


def _shares(samples: GpuSamples, found: list[Curves], machine: Machine) -> list[DecodeShares]:
    """What ragged batches say, against the tables of the same samples."""
    own = kernel_tables("samples", {"device": "this GPU", "versions": "vsim"}, found)
    return fit_shares(samples, TableKernels(own, constant_kernels(machine)))


def _provenance(samples: GpuSamples, shares: list[DecodeShares]) -> Provenance:
    gpus = sorted({gpu["name"] for gpu in samples.facts["gpus"]})
    device = ", ".join(gpus)
    return Provenance(
        _SOURCE,
        "Apache-2.0",
        device,
        extra={
            "stack": "vsim",
            "device": device,
            "versions": f"vsim, driver {samples.facts['driver']}, CUDA {samples.facts['cuda']}",
            "collected": samples.facts["date"],
            "left_out": "; ".join(samples.left_out) or "nothing",
            SHARES: shares_text(shares),
        },
    )
