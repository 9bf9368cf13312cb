"""A machine file of a GPU that was measured: its peaks from the package, the rest as a catalogue's.

The hbm tier's size and bandwidth and the arithmetic's rates are the package's. Every other tier,
links, VMM costs and idle power are those of the catalogue's machine of the same GPU, and of `h100`
where the catalogue has none, with notes that say so.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

import vsim.sim.machine
from vsim.sim.calibration.aiconfigurator import System
from vsim.sim.machine.kernel_file import Stack

CATALOGUE = {
    "a100_sxm": "a100-80g",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100_sxm": "h100",
    "h200_sxm": "h200",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000",
}
"""The catalogue's machine of each GPU of the package."""
_LIKE = "h100"


def machine_text(
    system: System, name: str, source: str, files: list[tuple[Stack, str, str]]
) -> str:
    """Write a machine file.

    Args:
        system: the GPU as the package describes it.
        name: the machine's name.
        source: the package and its version.
        files: stack, file name and note of each table file.
    """
    entry = CATALOGUE.get(system.name)
    base = _catalogue(entry or _LIKE)
    machine = copy.deepcopy(base)
    machine["name"] = name
    machine["description"] = (
        f"One {system.name} with measured kernels ({source}). Peaks are the package's; other tiers"
        f" and links are those of the catalogue's {entry or _LIKE}."
    )
    note = f"{source}, systems/{system.name}.yaml"
    peaks = system.peaks
    flops = {"bf16": peaks.bf16_flops_per_s, "int8": peaks.int8_flops_per_s}
    if system.has_fp8:
        flops["fp8"] = peaks.fp8_flops_per_s
    if peaks.fp4_flops_per_s:
        flops["fp4"] = peaks.fp4_flops_per_s
    gpu = machine["gpu"]
    gpu["count"] = 1
    gpu["flops"] = {
        each: _quantity(f"{rate / 1e12:g}TFLOP/s", "datasheet", note)
        for each, rate in sorted(flops.items())
    }
    (hbm,) = (tier for tier in machine["tiers"] if tier["kind"] == "hbm")
    hbm["capacity"] = _quantity(_size(system.memory_bytes), "datasheet", note)
    bandwidth = f"{peaks.bytes_per_s / 1e9:g}GB/s"
    hbm["read"] = _quantity(bandwidth, "datasheet", note)
    hbm["write"] = _quantity(bandwidth, "datasheet", f"{note}; shared with reads")
    machine["tiers"] = [tier for tier in machine["tiers"] if tier["kind"] != "peer"]
    kept = {tier["name"] for tier in machine["tiers"]}
    machine["links"] = [
        link for link in machine["links"] if {link["source"], link["target"]} <= kept
    ]
    machine.pop("gpu_link", None)
    if entry is None:
        gpu["name"] = system.name
        machine["power"]["max_w"] = _quantity(system.watts, "datasheet", note)
        machine["power"]["idle_w"] = _quantity(
            min(75, system.watts), "assumption", f"as the catalogue's {_LIKE}"
        )
        for link in machine["links"]:
            if link["target"] == hbm["name"]:
                for each in ("bandwidth", "reverse_bandwidth"):
                    rate = f"{system.host_bytes_per_s * 0.85 / 1e9:g}GB/s"
                    link[each] = _quantity(rate, "assumption", f"0.85 of pcie_bw of {note}")
    machine["kernels"] = [
        {"stack": stack, "file": file, "source": "measurement", "note": about}
        for stack, file, about in files
    ]
    text: str = yaml.safe_dump(
        machine, sort_keys=False, default_flow_style=None, width=10_000, allow_unicode=True
    )
    return text


def _catalogue(name: str) -> dict[str, Any]:
    path = Path(vsim.sim.machine.__file__).parent / "catalogue" / f"{name}.yaml"
    if not path.is_file():
        path = path.with_name(f"{_LIKE}.yaml")
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def _quantity(value: object, source: str, note: str) -> dict[str, object]:
    return {"value": value, "source": source, "note": note}


def _size(count: int) -> str:
    """A size in the largest unit that it is a whole number of."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B"
