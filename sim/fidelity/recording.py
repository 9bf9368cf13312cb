"""Recordings of kind `server_runs` as measured runs."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vsim.sim.fidelity.measured import MeasuredRun, Origin, Repeat
from vsim.sim.fidelity.settings import settings_of_recording
from vsim.sim.scenario.limits import MOST_GPUS
from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.limits import MOST_BLOCK_TOKENS
from vsim.traces.requests import requests_from_table
from vsim.traces.server_runs import Run, read_run, requests_of
from vsim.traces.trace_file import TraceFile

_US_PER_MS: Final = 1e3
_DRAWN: Final = ("normal", "dummy")  # how a recording says that weights were drawn
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
    _block_tokens(run)
    hardware, versions = _group(run, "hardware"), _group(run, "versions")
    engine, _, version = run.metadata.get("source", "").partition(" played by")[0].partition(" ")
    return MeasuredRun(
        name=run.metadata["run"],
        file=run.file,
        origin=origin,
        engine=engine or "unknown",
        version=str(versions.get(engine.lower(), version)),
        gpu=str(hardware.get("gpu", "")),
        gpus=_gpus(hardware.get("gpus", 1), run.file),
        model=run.metadata["model"],
        model_shape=_group(run, "model_shape") or None,
        workload=run.metadata.get("workload", ""),
        settings=settings_of_recording(_group(run, "settings"), run.file),
        repeats=tuple(_repeat(run, repeat) for repeat in range(len(run.repeats))),
        counters=_counters(run),
        drawn_weights=run.metadata.get("weights") in _DRAWN,
    )


def _block_tokens(run: Run) -> None:
    text = run.metadata["block_tokens"]
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MOST_BLOCK_TOKENS):
        message = f"is {text[:40]!r}; write 1 to {MOST_BLOCK_TOKENS:,} tokens"
        refuse(run.file, message, place="vsim.block_tokens")


def _gpus(value: object, file: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST_GPUS:
        message = f"gpus is {str(value)[:40]!r}; write a whole number from 1"
        refuse(file, message, place="vsim.hardware")
    return value


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]  # a number by now


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
    found = {name: _number(value) for name, value in _group(run, "counters").items()}
    return MappingProxyType({k: v for k, v in found.items() if v is not None})


def _repeat(run: Run, repeat: int) -> Repeat:
    trace = requests_of(run, repeat)
    source = run.metadata.get("source", run.file)
    metadata = {"vsim.block_tokens": run.metadata["block_tokens"], "vsim.source": source}
    requests = requests_from_table(trace.replace_schema_metadata(metadata), run.file)
    table = run.repeats[repeat]
    ids = integers(table.column("id"))
    places = np.argsort(ids, kind="stable")
    rows = places[np.searchsorted(ids[places], requests.id)]
    steps = _number(_of_repeat(run, "statistics", repeat).get("steps"))
    return Repeat(
        requests,
        **{name: integers(table.column(name))[rows] for name in _MEASURED},
        gaps_ms=_gaps_ms(run, repeat),
        steps=None if steps is None else int(steps),
    )


def _gaps_ms(run: Run, repeat: int) -> Mapping[str, float]:
    """Mean and quantiles of the gaps between tokens, those that were recorded."""
    gaps = _of_repeat(run, "itl", repeat)
    quantiles = gaps.get("quantiles_us")
    found = {"mean": _number(gaps.get("mean_us"))}
    if isinstance(quantiles, dict):
        found |= {f"p{p}": _number(quantiles.get(str(p))) for p in (50, 90, 99)}
    return MappingProxyType({k: us / _US_PER_MS for k, us in found.items() if us is not None})
