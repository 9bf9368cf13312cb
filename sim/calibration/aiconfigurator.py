"""The PyPI package `aiconfigurator-core`: GPUs' peaks, and kernel times as `measured_files` reads.

The package (NVIDIA, Apache-2.0) holds `systems/<gpu>.yaml`, a GPU's peaks, and
`systems/data/<gpu>/<family>/<stack>/<version>/<kernel>_perf.parquet`. It is read as files, and
never imported: what it needs besides is not needed here.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import yaml

from vsim.sim.calibration.measured_files import STACKS, Measured, MeasuredFiles
from vsim.sim.calibration.measured_latents import latents
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.timing.roofline import Peaks
from vsim.traces.faults import refuse, suggestion

PACKAGE = "aiconfigurator_core"


@dataclass(frozen=True, slots=True)
class System:
    """A GPU as the package describes it.

    Args:
        name: the package's name: `h100_sxm`.
        peaks: bytes and FLOPs per second.
        memory_bytes: of one GPU.
        link_bytes_per_s: to another GPU of the node, in one direction.
        host_bytes_per_s: PCIe, in one direction.
        watts: board power.
        gpus_per_node: GPUs of one node.
        sm_version: the architecture: 90 for Hopper.
        has_fp8: whether it has fp8 arithmetic.
    """

    name: str
    peaks: Peaks
    memory_bytes: int
    link_bytes_per_s: float
    host_bytes_per_s: float
    watts: float
    gpus_per_node: int
    sm_version: int
    has_fp8: bool


@dataclass(frozen=True, slots=True)
class Package:
    """The installed package.

    Args:
        systems: its folder of systems.
        version: its version.
    """

    systems: Path
    version: str

    def names(self) -> list[str]:
        """GPUs that it has measurements of."""
        return sorted(
            path.stem
            for path in self.systems.glob("*.yaml")
            if any((self.systems / "data" / path.stem).glob("gemm/*/*/gemm_perf.parquet"))
        )

    def system(self, name: str) -> System:
        """Read a GPU's description. Raises InputError for an unknown one, naming those it has."""
        if name not in self.names():
            refuse("--from", f"there is no GPU '{name}'{suggestion(name, self.names())}")
        described = yaml.safe_load((self.systems / f"{name}.yaml").read_text(encoding="utf-8"))
        gpu, node = described["gpu"], described["node"]
        bf16 = float(gpu["bfloat16_tc_flops"])
        fp8 = gpu.get("fp8_tc_flops")
        peaks = Peaks(
            float(gpu["mem_bw"]),
            bf16,
            float(fp8 or bf16),
            float(gpu.get("int8_tc_flops") or bf16),
            float(gpu.get("fp4_tc_flops") or 0.0),
        )
        return System(
            name,
            peaks,
            int(gpu["mem_capacity"]),
            float(node["intra_node_bw"]),
            float(node["pcie_bw"]),
            float(gpu["power"]),
            int(node["num_gpus_per_node"]),
            int(gpu["sm_version"]),
            fp8 is not None,
        )

    def read(self, system: str, stack: Stack) -> Measured:
        """Read all that was measured of a GPU under a stack.

        Raises:
            InputError: there is nothing of this stack, or a file is damaged.
        """
        reader = MeasuredFiles(self.systems / "data" / system, stack)
        found = [*reader.products(), *reader.attention(), *reader.experts()]
        found += [*reader.collectives(), *reader.exchanges(), *latents(reader)]
        if not any(each.kernel == "products" for each in found):
            has = [s for s in STACKS if (self.systems / "data" / system / "gemm" / s).is_dir()]
            refuse("--stack", f"{system} was not measured with {stack}; write {' or '.join(has)}")
        peaks = self.system(system).peaks
        return reader.measured([reader.from_memory(each, peaks) for each in found])


def find_package() -> Package:
    """Find the installed package. Raises InputError where there is none."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        refuse(
            "--from", "aiconfigurator-core is not installed; run `pip install 'vsim[calibrate]'`"
        )
    systems = Path(next(iter(found.submodule_search_locations))) / "systems"
    if not systems.is_dir():
        refuse("--from", f"{systems} is not there; install aiconfigurator-core anew")
    try:
        version = importlib.metadata.version("aiconfigurator-core")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Package(systems, version)
