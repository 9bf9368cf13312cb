"""A point of a search: one run, completely described, and the key that its figures have."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import vsim.sim
import vsim.traces
from vsim.sim.goodput.measured import Measured
from vsim.sim.machine.fingerprint import machine_fingerprint
from vsim.sim.scenario.scenario import OutputSettings, Scenario
from vsim.sim.simulation import simulate
from vsim.traces.requests import Requests

_LIBRARIES: Final = ("numpy", "numba", "scipy", "simpy")
_SOURCES: Final = frozenset({".py", ".json", ".yaml"})
_UNSEEN: Final[dict[str, Any]] = {
    "name": True,
    "description": True,
    "output": True,
    "workload": {"trace": True},
}
"""What of a scenario changes no figure; a trace is told by its requests, wherever it lies."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run.

    Args:
        scenario: with its load.
        trace: which of a search's traces it runs over.
        base: the folder at which its relative paths start.
        limits_ns: by metric, what a request may take to be good, in the metrics' order.
        first: the row of the first request that counts.
        follows_stores: whether every page written below HBM is followed to its end.
    """

    scenario: Scenario
    trace: int
    base: str
    limits_ns: tuple[tuple[str, int], ...] = ()
    first: int = 0
    follows_stores: bool = False

    def measure(self, traces: Sequence[Requests]) -> Measured:
        """Run it over its trace. Raises InputError as `simulate` does."""
        requests = traces[self.trace]
        output = OutputSettings(operations="transfers") if self.follows_stores else OutputSettings()
        scenario = self.scenario.model_copy(update={"output": output})
        result = simulate(scenario, requests=requests, base=self.base, steps=self.follows_stores)
        return Measured.of(result, dict(self.limits_ns), self.first)


@dataclass(frozen=True, slots=True)
class Origin:
    """What every point of a search stands on, as hashes.

    Args:
        program: this vsim: its sources, catalogues and the libraries that it computes with.
        traces: the requests of each trace.
    """

    program: str
    traces: tuple[str, ...]

    @classmethod
    def of(cls, traces: Sequence[Requests]) -> "Origin":
        """Take the hashes."""
        return cls(program_hash(), tuple(trace_hash(each) for each in traces))

    def key(self, point: Point) -> str:
        """Name a point by all that its figures follow from."""
        scenario = point.scenario
        content = {
            "program": self.program,
            "trace": self.traces[point.trace],
            "scenario": scenario.model_dump(mode="json", exclude=_UNSEEN),
            "files": _named_files(scenario, Path(point.base)),
            "limits_ns": dict(point.limits_ns),
            "first": point.first,
            "follows_stores": point.follows_stores,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def program_hash() -> str:
    """Hash the sources of the simulator and the traces, with the libraries' versions."""
    digest = hashlib.sha256()
    for name in ("vsim", *_LIBRARIES):
        try:
            digest.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:  # run from a source tree that is not installed
            digest.update(f"{name}\n".encode())
    for package in (vsim.sim, vsim.traces):
        root = Path(str(files(package)))
        for path in sorted(each for each in root.rglob("*") if each.suffix in _SOURCES):
            if path.relative_to(root).parts[0] != "recorded":
                _add_file(digest, path, path.relative_to(root).as_posix())
    return digest.hexdigest()


def trace_hash(requests: Requests) -> str:
    """Hash all that a run reads of a trace."""
    digest = hashlib.sha256()
    for name in (
        "arrival_ns", "prompt_tokens", "output_tokens", "session", "parent", "think_ns", "tenant",
        "priority", "prefix_offsets",
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(getattr(requests, name)).data)
    digest.update(np.ascontiguousarray(requests.prefix_ids, np.int64).data)
    digest.update(json.dumps([requests.tenant_names, requests.block_tokens]).encode())
    return digest.hexdigest()


def _named_files(scenario: Scenario, base: Path) -> dict[str, str]:
    """Hashes of what lies outside of the program: a machine, a model, eviction classes.

    A machine's covers its tables, of the catalogue as well.
    """
    machine = base / scenario.machine if _is_path(scenario.machine) else scenario.machine
    found = {"machine": machine_fingerprint(machine)}
    for path in _model_files(base, scenario.model):
        found[f"model {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    for tier in scenario.tiers:
        module, colon, _ = tier.eviction.partition(":")
        spec = find_spec(module) if colon else None
        if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            found[module] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return found


def _is_path(name: str) -> bool:
    """Whether a machine or a model is named by a path, and not out of a catalogue."""
    return "/" in name or name.endswith((".yaml", ".yml", ".json"))


def _model_files(base: Path, name: str) -> list[Path]:
    """What a user's model is read from: of a Hugging Face config, all JSON files beside it."""
    if not _is_path(name):
        return []
    path = base / name
    folder = path if path.is_dir() else path.parent
    return sorted(folder.glob("*.json")) if path.suffix not in (".yaml", ".yml") else [path]


def _add_file(digest: "hashlib._Hash", path: Path, name: str) -> None:
    content = path.read_bytes()
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)
