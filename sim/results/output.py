"""Result folders: complete or absent, also when a run is killed.

Everything is written into a hidden folder beside the target, which is then renamed. A killed run
leaves at most that hidden folder, and the next run to the same target removes it.
"""

import fcntl
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from vsim.sim.engine.result import EngineResult
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.results.metrics import RunFacts, summarise
from vsim.sim.results.result_tables import requests_table, steps_table
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.results.verdict import verdict
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import refuse
from vsim.traces.requests import Requests

SUMMARY = "summary.json"
REQUESTS, STEPS, OPERATIONS = "requests.arrow", "steps.arrow", "operations.arrow"
FILES = frozenset({SUMMARY, REQUESTS, STEPS, OPERATIONS})
WALL_CLOCK_KEYS = ("engine_wall_s", "bound_wall_s", "write_wall_s")
"""Keys of summary.json that differ from run to run; all other bytes of a result are the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives.

    Args:
        summary: the figures of summary.json, see `vsim.sim.results.metrics.summarise`.
        requests: one row a request.
        steps: one row a step.
        operations: one row an operation, or None if the scenario records none.
    """

    summary: Mapping[str, Any]
    requests: pa.Table
    steps: pa.Table
    operations: pa.Table | None

    def write(self, folder: Path | str) -> Mapping[str, Any]:
        """Write summary.json and the tables into `folder`, replacing a former result.

        Returns:
            The summary as written, with `write_wall_s`.

        Raises:
            InputError: if `folder` exists and is anything but a former result.
        """
        started = perf_counter()
        target = check_target(folder)
        with _fresh_folder(target) as fresh:
            source = f"vsim run of {self.summary['scenario']}"
            _write_ipc(self.requests, fresh / REQUESTS, "request_results", source)
            _write_ipc(self.steps, fresh / STEPS, "step_results", source)
            if self.operations is not None:
                write_table(
                    self.operations, fresh / OPERATIONS, "operations", Provenance(source=source)
                )
            summary = {**self.summary, "write_wall_s": perf_counter() - started}
            (fresh / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
            _replace(fresh, target)
        return summary


def make_result(
    scenario: Scenario,
    cost: StepCost,
    requests: Requests,
    engine: EngineResult,
    *,
    engine_wall_s: float,
    machine: Machine,
    model: Model,
) -> Result:
    """Take the metrics of a run and give its verdict.

    Args:
        scenario: what was run.
        cost: what a step cost.
        requests: the requests that arrived, in the engine's order.
        engine: what happened.
        engine_wall_s: from the parsed trace in memory to complete results in memory.
        machine: what it ran on.
        model: what was served.
    """
    summary = summarise(
        run_facts(scenario, machine, cost, requests), requests, engine, engine_wall_s
    )
    settings = RunSettings(scenario, machine, model, cost, requests)
    return result_of({**summary, "verdict": verdict(summary, settings)}, requests, engine)


def result_of(summary: Mapping[str, Any], requests: Requests, engine: EngineResult) -> Result:
    """Put a summary and the tables of what happened together."""
    tables = requests_table(requests, engine), steps_table(engine)
    return Result(summary, *tables, engine.operations)


def run_facts(scenario: Scenario, machine: Machine, cost: StepCost, requests: Requests) -> RunFacts:
    """What a summary says about a run besides what happened in it."""
    return RunFacts(
        scenario=scenario.name,
        description=scenario.description,
        seed=scenario.seed,
        source=requests.source,
        machine=scenario.machine,
        gpus=cost.gpus,
        model=scenario.model,
        weight_precision=scenario.precision.weights,
        kv_precision=scenario.precision.kv,
        kv_bytes_per_token=cost.kv_bytes_per_token,
        weight_bytes=cost.weight_bytes,
        block_tokens=scenario.engine.block_tokens,
        page_tokens=scenario.engine.page_or_block_tokens,
        batching=scenario.engine.batching,
        placement=scenario.engine.placement,
        max_running_requests=scenario.engine.max_running_requests,
        prefix_caching=(
            scenario.engine.prefix_caching
            and scenario.engine.batching != "static"
            and requests.prefix_ids.size > 0
        ),
        tier_bytes_per_s=_tier_bandwidths(scenario, machine, cost),
    )


def _tier_bandwidths(
    scenario: Scenario, machine: Machine, cost: StepCost
) -> tuple[tuple[float, float], ...]:
    """Each tier's read and write bandwidth; HBM's is what the server's GPUs reach together."""
    lower = (machine.tier(tier.tier) for tier in scenario.tiers[1:])
    return (
        (cost.hbm_read_bytes_per_s, cost.hbm_write_bytes_per_s),
        *((tier.read.value, tier.write.value) for tier in lower),
    )


def _write_ipc(table: pa.Table, path: Path, kind: str, source: str) -> None:
    """Write a table as an Arrow IPC file with zstd; the same table gives the same bytes."""
    metadata = {"vsim.kind": kind, "vsim.schema_version": "1", "vsim.source": source}
    table = table.replace_schema_metadata(metadata).combine_chunks()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def check_target(folder: Path | str) -> Path:
    """Return the folder to write to, or refuse one that holds anything but a former result.

    Raises:
        InputError: if `folder` is a file, can't be made, or holds what no run wrote.
    """
    target = Path(folder).resolve()
    if not target.exists():
        parent = target.parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            refuse("--out", f"{parent} is no folder that can be written to; name another")
        return target
    if not target.is_dir():
        refuse("--out", f"{folder} is a file; name a new folder, or a former result")
    names = {path.name for path in target.iterdir()}
    strange = sorted(names - FILES)
    if strange or (names and SUMMARY not in names):
        found = strange[0] if strange else f"no {SUMMARY}"
        refuse(
            "--out",
            f"{folder} is not a former result (it holds {found}), so it is left alone; "
            "name a new folder",
        )
    return target


def _hidden_prefix(target: Path) -> str:
    return f".{target.name}.vsim-"


def _hidden_folder(target: Path) -> Path:
    """Make a hidden folder beside `target`."""
    path = target.with_name(_hidden_prefix(target) + secrets.token_hex(8))
    path.mkdir()
    return path


@contextmanager
def _fresh_folder(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside `target`; remove it, and those of killed runs, at the end.

    A lock on the folder itself tells a running writer from a killed one: the system drops it with
    the process.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    fresh, lock = _locked_folder(target)
    try:
        yield fresh
    finally:
        os.close(lock)
        shutil.rmtree(fresh, ignore_errors=True)


def _locked_folder(target: Path) -> tuple[Path, int]:
    """Make a hidden folder and lock it; again if another run removed it before it was locked."""
    while True:
        fresh = _hidden_folder(target)
        try:
            lock = os.open(fresh, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fresh.exists():
            return fresh, lock
        os.close(lock)


def _remove_leftovers(target: Path) -> None:
    """Remove the hidden folders that killed runs to the same target left."""
    for path in target.parent.glob(glob.escape(_hidden_prefix(target)) + "*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # not a folder that a run made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue  # its run is still writing
        finally:
            os.close(lock)


def _replace(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`. Killed in between, `target` is absent, never mixed."""
    if not target.exists():
        os.rename(fresh, target)
        return
    former = _hidden_folder(target)
    os.rename(target, former / "former")
    os.rename(fresh, target)
    shutil.rmtree(former, ignore_errors=True)
