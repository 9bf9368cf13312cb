"""Results: what a run gives, and the folder it is written to."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run_log import RunLog
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.results.metrics import RunFacts, summarise
from vsim.sim.results.prefix_bound import prefix_bound
from vsim.sim.results.result_tables import request_parts, steps_table
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.results.stored import NumberedOperations, StoredSteps, StoredTable
from vsim.sim.results.verdict import verdict
from vsim.sim.scenario.precision import (
    kv_of,
    taken_from_checkpoint,
    weight_words,
    weights_of,
)
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.arrow_io import Provenance, file_metadata, put_table
from vsim.traces.requests import Requests
from vsim.traces.schema import BATCH_COLUMNS, schema_of
from vsim.traces.writing import FolderKind, FreshFolder, fresh_folder, sink

SUMMARY = "summary.json"
REQUESTS, STEPS, OPERATIONS = "requests.arrow", "steps.arrow", "operations.arrow"
FILES = frozenset({SUMMARY, REQUESTS, STEPS, OPERATIONS})
RESULT = FolderKind("run", SUMMARY)
WALL_CLOCK_KEYS = ("engine_wall_s", "bound_wall_s", "write_wall_s")
"""Keys of summary.json that differ from run to run; all other bytes of a result are the same."""


@dataclass(frozen=True, slots=True)
class RunTables:
    """Where the tables of a run go that are written while it goes on.

    Args:
        steps: one row a step.
        operations: one row an operation, or None if the scenario records none.
    """

    steps: StoredSteps
    operations: StoredTable | None

    @classmethod
    def of(cls, scenario: Scenario, folder: Path | None) -> "RunTables":
        """Begin them in a folder, or in temporary files."""
        source = f"vsim run of {scenario.name}"
        steps = StoredSteps(
            file_metadata("step_results", Provenance(source=source)),
            None if folder is None else folder / STEPS,
            replicated=scenario.parallel.data > 1,
        )
        if scenario.output.operations == "none":
            return cls(steps, None)
        return cls(
            steps,
            StoredTable(
                schema_of(
                    "operations", BATCH_COLUMNS if scenario.output.operations == "all" else ()
                ),
                file_metadata(
                    "operations",
                    Provenance(source=source, extra={"movement": scenario.engine.movement}),
                ),
                None if folder is None else folder / OPERATIONS,
            ),
        )

    def log(self, replica: int = 0) -> RunLog:
        """Return a log that hands everything of a replica on to the tables."""
        operations = None
        if self.operations is not None:
            operations = NumberedOperations(self.operations).add
        return RunLog(partial(self.steps.add, replica=replica), operations, keep=False)

    def close(self) -> None:
        """Write what is left."""
        self.steps.stored.close()
        if self.operations is not None:
            self.operations.close()

    @property
    def seconds(self) -> float:
        """How long writing took so far."""
        others = 0.0 if self.operations is None else self.operations.seconds
        return self.steps.stored.seconds + others


@dataclass(frozen=True, slots=True)
class KeptRequests:
    """What the table of requests is made of, when it is asked for.

    Args:
        trace: the requests.
        engine: what happened to them.
    """

    trace: Requests
    engine: EngineResult

    def parts(self) -> Iterator[pa.Table]:
        """Make the table in parts."""
        return request_parts(self.trace, self.engine)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives.

    Args:
        summary: the figures of summary.json, see `vsim.sim.results.metrics.summarise`.
        kept_requests: a table, or what makes one.
        kept_steps: a table, or the file that it is in; None if no steps were kept.
        kept_operations: the same of operations; None if the scenario records none.
    """

    summary: Mapping[str, Any]
    kept_requests: pa.Table | KeptRequests
    kept_steps: pa.Table | StoredTable | None
    kept_operations: pa.Table | StoredTable | None

    @property
    def requests(self) -> pa.Table:
        """One row a request. The table is made anew each time that it is asked for."""
        kept = self.kept_requests
        return pa.concat_tables(kept.parts()) if isinstance(kept, KeptRequests) else kept

    @property
    def steps(self) -> pa.Table:
        """One row a step. Raises ValueError if the run kept none."""
        if self.kept_steps is None:
            raise ValueError(_NOT_KEPT)
        return _read(self.kept_steps)

    @property
    def operations(self) -> pa.Table | None:
        """One row an operation, or None if the scenario records none."""
        return None if self.kept_operations is None else _read(self.kept_operations)

    def write(self, folder: Path | str | FreshFolder) -> Mapping[str, Any]:
        """Write summary.json and the tables into `folder`, replacing a former result.

        Args:
            folder: new, empty, or a former result; or one that was begun before the run.

        Returns:
            The summary as written, with `write_wall_s` and the mark of a result.

        Raises:
            InputError: if `folder` may not be written, see `vsim.traces.writing`.
            ValueError: if the run kept no steps.
        """
        with begun_folder(folder) as fresh:
            written = self.write_into(fresh)
            fresh.publish()
        return written

    def write_into(self, fresh: FreshFolder) -> Mapping[str, Any]:
        """Write all files into a folder that was begun, but those that lie in it already."""
        started = perf_counter()
        path, source = fresh.path, f"vsim run of {self.summary['scenario']}"
        kept = self.kept_requests
        parts = kept.parts() if isinstance(kept, KeptRequests) else iter((kept,))
        _write_ipc(parts, path / REQUESTS, "request_results", source)
        if isinstance(self.kept_steps, StoredTable):
            self.kept_steps.copy_to(path / STEPS)
        else:
            _write_ipc(iter((self.steps,)), path / STEPS, "step_results", source)
        if isinstance(self.kept_operations, StoredTable):
            self.kept_operations.copy_to(path / OPERATIONS)
        elif (operations := self.operations) is not None:
            put_table(operations, path / OPERATIONS, "operations", Provenance(source=source))
        before = sum(kept.seconds for kept in self._stored())
        wall_s = {"write_wall_s": before + perf_counter() - started}
        return fresh.write_summary({**self.summary, **wall_s})

    def moved(self, folder: Path) -> None:
        """Learn that the folder with the stored tables was moved."""
        for kept in self._stored():
            if kept.path is not None:
                kept.path = folder / kept.path.name

    def _stored(self) -> Iterator[StoredTable]:
        kept = (self.kept_steps, self.kept_operations)
        return (table for table in kept if isinstance(table, StoredTable))


_NOT_KEPT = "the run kept no steps; call simulate with steps=True, or with out=FOLDER"


def _read(kept: pa.Table | StoredTable) -> pa.Table:
    return kept.table() if isinstance(kept, StoredTable) else kept


def begun_folder(folder: Path | str | FreshFolder) -> AbstractContextManager[FreshFolder]:
    """Begin a result folder, or go on with one that was begun. Raises InputError as that does."""
    return nullcontext(folder) if isinstance(folder, FreshFolder) else fresh_folder(folder, RESULT)


def make_result(
    scenario: Scenario,
    cost: StepCost,
    requests: Requests,
    engine: EngineResult,
    *,
    engine_wall_s: float,
    machine: Machine,
    model: Model,
    judged: tuple[Requests, EngineResult] | None = None,
    tight_bound: bool = False,
    figures_alone: bool = False,
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
        judged: of several replicas, what one served and recorded, which the verdict is about.
        tight_bound: take the time that the best bound on prefix hits needs.
        figures_alone: leave out the verdict and the bound, which take longer than a short run.
    """
    replicas = scenario.parallel.data
    facts = run_facts(scenario, machine, model, cost, requests, replicas)
    summary = summarise(facts, requests, engine, engine_wall_s)
    if figures_alone:
        return result_of(summary, requests, engine)
    if replicas == 1:  # the bound is on what one cache can find
        summary |= prefix_bound(
            scenario, machine, cost, facts, requests, engine, summary, tight=tight_bound
        )
    about = summary
    if judged is not None:
        requests_of_one, one = judged
        facts = run_facts(scenario, machine, model, cost, requests_of_one)
        about = summarise(facts, requests_of_one, one, engine_wall_s)
    settings = RunSettings(scenario, machine, model, cost, judged[0] if judged else requests)
    return result_of({**summary, "verdict": verdict(about, settings)}, requests, engine)


def result_of(summary: Mapping[str, Any], requests: Requests, engine: EngineResult) -> Result:
    """Put a summary and the tables of what happened together, as far as the engine kept them."""
    steps = None if engine.step_log is None else steps_table(engine.step_log)
    return Result(
        summary,
        KeptRequests(requests, replace(engine, step_log=None, operations=None, keys=None)),
        steps,
        engine.operations,
    )


def run_facts(
    scenario: Scenario,
    machine: Machine,
    model: Model,
    cost: StepCost,
    requests: Requests,
    replicas: int = 1,
) -> RunFacts:
    """What a summary says about a run besides what happened in it."""
    return RunFacts(
        scenario=scenario.name,
        description=scenario.description,
        seed=scenario.seed,
        source=requests.source,
        machine=scenario.machine,
        gpus=replicas * cost.gpus,
        replicas=replicas,
        model=scenario.model,
        weight_precision=weight_words(weights_of(scenario.precision, model)),
        kv_precision=kv_of(scenario.precision, model),
        declared=taken_from_checkpoint(scenario.precision, model),
        kv_bytes_per_token=cost.kv_bytes_per_token,
        weight_bytes=replicas * cost.weight_bytes,
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
        tier_bytes_per_s=tuple(
            (replicas * read, replicas * write)
            for read, write in _tier_bandwidths(scenario, machine, cost)
        ),
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


def _write_ipc(parts: Iterator[pa.Table], path: Path, kind: str, source: str) -> None:
    """Write a table as an Arrow IPC file with zstd; the same parts give the same bytes."""
    first = next(parts)
    schema = first.schema.with_metadata(file_metadata(kind, Provenance(source=source)))
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        sink(path) as file,
        pa.ipc.new_file(file, schema, options=options) as writer,
    ):
        for part in chain((first,), parts):
            writer.write_table(part.replace_schema_metadata(schema.metadata).combine_chunks())
