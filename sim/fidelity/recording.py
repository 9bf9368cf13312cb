"""Recordings of kind `server_runs` as measured runs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vsim.sim.fidelity.measured import MeasuredRun, Origin, Repeat
from vsim.sim.fidelity.settings import settings_of_recording
from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import Fault, InputError
from vsim.traces.requests import requests_from_table
from vsim.traces.server_runs import Run, read_run, requests_of
from vsim.traces.trace_file import TraceFile

_US_PER_MS: Final = 1e3
_MEASURED: Final = ("scheduled_ns", "first_token_ns", "last_token_ns", "gpu_hit_tokens",
                    "host_hit_tokens", "preemptions")  # fmt: skip


def read_recording(path: str | Path | TraceFile, origin: Origin) -> MeasuredRun:
    """Read a recording.

    Raises:
        InputError: with everything that is wrong.
    """
    run = read_run(path)
    faults = [
        Fault(run.file, "is missing; record the run again", place=f"vsim.{name}")
        for name in ("run", "model", "block_tokens")
        if name not in run.metadata
    ]
    if faults:
        raise InputError(faults)
    hardware, versions = _group(run, "hardware"), _group(run, "versions")
    engine, _, version = run.metadata.get("source", "").partition(" played by")[0].partition(" ")
    return MeasuredRun(
        name=run.metadata["run"],
        file=run.file,
        origin=origin,
        engine=engine or "unknown",
        version=str(versions.get(engine.lower(), version)),
        gpu=str(hardware.get("gpu", "")),
        gpus=int(hardware.get("gpus", 1)),
        model=run.metadata["model"],
        model_shape=_group(run, "model_shape") or None,
        workload=run.metadata.get("workload", ""),
        settings=settings_of_recording(_group(run, "settings"), run.file),
        repeats=tuple(_repeat(run, repeat) for repeat in range(len(run.repeats))),
        counters=_counters(run),
    )


def _group(run: Run, name: str) -> Mapping[str, Any]:
    found = run.json(name)
    return found if isinstance(found, dict) else {}


def _of_repeat(run: Run, name: str, repeat: int) -> Mapping[str, Any]:
    """What the metadata lists for one repeat; empty where it lists none."""
    found = run.json(name)
    if isinstance(found, list) and repeat < len(found) and isinstance(found[repeat], dict):
        return dict(found[repeat])
    return {}


def _counters(run: Run) -> Mapping[str, float]:
    found = {k: v for k, v in _group(run, "counters").items() if isinstance(v, int | float)}
    return MappingProxyType({name: float(value) for name, value in found.items()})


def _repeat(run: Run, repeat: int) -> Repeat:
    trace = requests_of(run, repeat)
    metadata = {f"vsim.{k}": run.metadata[k] for k in ("block_tokens", "source")}
    requests = requests_from_table(trace.replace_schema_metadata(metadata), run.file)
    table = run.repeats[repeat]
    places = np.argsort(integers(table.column("id")), kind="stable")
    rows = places[np.searchsorted(integers(table.column("id"))[places], requests.id)]
    gaps = _of_repeat(run, "itl", repeat)
    quantiles = gaps.get("quantiles_us", {})
    known = {"mean": gaps.get("mean_us"), **{f"p{p}": quantiles.get(str(p)) for p in (50, 90, 99)}}
    steps = _of_repeat(run, "statistics", repeat).get("steps")
    columns = {name: integers(table.column(name))[rows] for name in _MEASURED}
    return Repeat(
        requests,
        scheduled_ns=columns["scheduled_ns"],
        first_token_ns=columns["first_token_ns"],
        last_token_ns=columns["last_token_ns"],
        gpu_hit_tokens=columns["gpu_hit_tokens"],
        host_hit_tokens=columns["host_hit_tokens"],
        preemptions=columns["preemptions"],
        gaps_ms=MappingProxyType({k: v / _US_PER_MS for k, v in known.items() if v is not None}),
        steps=None if steps is None else int(steps),
    )
