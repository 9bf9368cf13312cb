"""Results: what a run gives, and the folder it is written to."""

from collections.abc import Mapping
from contextlib import nullcontext
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
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.requests import Requests
from vsim.traces.writing import FolderKind, FreshFolder, folder_target, fresh_folder, sink

SUMMARY = "summary.json"
REQUESTS, STEPS, OPERATIONS = "requests.arrow", "steps.arrow", "operations.arrow"
FILES = frozenset({SUMMARY, REQUESTS, STEPS, OPERATIONS})
RESULT = FolderKind("run", SUMMARY)
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

    def write(self, folder: Path | str | FreshFolder) -> Mapping[str, Any]:
        """Write summary.json and the tables into `folder`, replacing a former result.

        Args:
            folder: new, empty, or a former result; or one that was begun before the run.

        Returns:
            The summary as written, with `write_wall_s` and the mark of a result.

        Raises:
            InputError: if `folder` may not be written, see `vsim.traces.writing`.
        """
        started = perf_counter()
        begun = (
            nullcontext(folder) if isinstance(folder, FreshFolder) else fresh_folder(folder, RESULT)
        )
        with begun as fresh:
            source = f"vsim run of {self.summary['scenario']}"
            _write_ipc(self.requests, fresh.path / REQUESTS, "request_results", source)
            _write_ipc(self.steps, fresh.path / STEPS, "step_results", source)
            if self.operations is not None:
                provenance = Provenance(source=source)
                put_table(self.operations, fresh.path / OPERATIONS, "operations", provenance)
            wall_s = {"write_wall_s": perf_counter() - started}
            written = fresh.write_summary({**self.summary, **wall_s})
            fresh.publish()
        return written


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
        sink(path) as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def check_target(folder: Path | str) -> Path:
    """Return the folder to write to, or refuse one that may not be written.

    Raises:
        InputError: if `folder` is a file, can't be made, or holds what no run wrote.
    """
    target = folder_target(folder, RESULT)
    target.check(())
    return target.path
