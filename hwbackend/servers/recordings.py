"""Turn what `play` kept into Arrow files, one a run, its repeats in one file.

    python -m vsim.hwbackend.servers.recordings OUT RESULTS.jsonl.gz...

Each RESULTS.jsonl.gz has vLLM's log beside it (RESULTS.log). The table that warmed the engine is
left out, and so is a repeat during which a kernel was compiled. `NAME.arrow` has a row a request
and repeat, `NAME.steps.arrow` a row a step of the first repeat kept, of all runs or of those named.
"""

import argparse
import gzip
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from vsim.hwbackend.servers.cases import CASES, MODELS
from vsim.hwbackend.servers.measures import (
    expert_balance,
    gap_summary,
    gaps_us,
    gpu_summary,
    statistics_summary,
)
from vsim.hwbackend.servers.tables import BLOCK_TOKENS, Row, needs_blocks, prefix_blocks, tables
from vsim.traces.schema import SERVER_RUNS, SERVER_STEPS, Column

SCHEMA_VERSION: Final = 1
LOG_LINES: Final[Mapping[str, str]] = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "kv_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "kv_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "graphs_gib": r"Graph capturing finished in \d+ secs, took ([\d.]+) GiB",
}


@dataclass(frozen=True, slots=True)
class Played:
    """One repeat and the engine that played it, as `play` wrote them."""

    engine: Mapping[str, Any]
    play: Mapping[str, Any]
    memory: Mapping[str, float]

    def run(self) -> str:
        """Name the run: the card if not an H200, the case, the table, unusual weights."""
        card = "h100_" if "H100" in self.engine["machine"]["gpu"] else ""
        end = "" if self.play["drawn"] == "normal" else f"_{self.play['drawn']}_weights"
        return f"{card}{self.play['case']}_{self.play['table']}{end}"


def memory_in_log(log: str) -> dict[str, float]:
    """Return what vLLM's log says of memory; of several ranks, of the first."""
    found = {name: re.search(pattern, log) for name, pattern in LOG_LINES.items()}
    return {name: float(m[1].replace(",", "")) for name, m in found.items() if m}


def read(paths: Iterable[Path]) -> tuple[list[Played], list[dict[str, Any]]]:
    """Read results: the plays and the counts of chosen experts."""
    plays, experts = [], []
    for path in paths:
        log = path.with_name(path.name.removesuffix(".jsonl.gz") + ".log").read_text()
        memory = memory_in_log(log)
        engine: dict[str, Any] = {}
        with gzip.open(path, "rt") as file:
            for line in map(json.loads, file):
                if line["kind"] == "engine":
                    engine = line
                elif line["kind"] == "play":
                    plays.append(Played(engine, line, memory))
                elif line["kind"] == "experts":
                    experts.append(line)
    return plays, experts


def _times(steps: Sequence[int]) -> list[int]:
    return list(accumulate(steps))


def _request_columns(repeat: int, plays: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = defaultdict(list)
    blocks = prefix_blocks(rows) if needs_blocks(plays["table"], rows) else [[]] * len(rows)
    roots: list[int] = []
    for row, request in zip(rows, plays["requests"], strict=True):
        roots.append(row.id if row.parent is None else roots[row.parent])
        engine, client = _times(request["engine_ns"]), _times(request["times_ns"])
        values = {
            "repeat": repeat,
            "id": row.id,
            "arrival_ns": request["due_ns"],
            "sent_ns": request["sent_ns"],
            "queued_ns": request["queued_ns"][0],
            "scheduled_ns": request["scheduled_ns"][0],
            "engine_first_ns": engine[0],
            "first_token_ns": client[0],
            "engine_last_ns": engine[-1],
            "last_token_ns": client[-1],
            "prompt_tokens": request["prompt"],
            "output_tokens": request["output"],
            "gpu_hit_tokens": request["prefill"][1],
            "host_hit_tokens": request["prefill"][2],
            "preemptions": len(request["preempted_ns"]),
            "session": roots[-1] if row.system is not None or row.parent is not None else None,
            "parent": row.parent,
            "think_ns": row.think_ns,
            "prefix_blocks": blocks[row.id],
        }
        for name, value in values.items():
            columns[name].append(value)
    return columns


def _cleaned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing of speed: addresses, ports, random names."""
    transfer = settings["kv_transfer"]
    if transfer is not None:
        names = ("kv_connector", "kv_role", "kv_connector_extra_config")
        transfer = {name: transfer[name] for name in names}
    return {**settings, "kv_transfer": transfer}


def metadata_of_run(
    kind: str, kept: Sequence[Played], experts: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Make the schema metadata of a run's file."""
    first, case = kept[0], CASES[kept[0].play["case"]]
    machine = first.engine["machine"]
    plays = [played.play for played in kept]
    values: dict[str, Any] = {
        "kind": kind,
        "schema_version": str(SCHEMA_VERSION),
        "producer": "vsim",
        "source": f"vLLM {first.engine['versions']['vllm']} played by vsim.hwbackend.servers",
        "licence": "Apache-2.0",
        "machine": f"{machine['gpus']} x {machine['gpu']}",
        "date": plays[0]["date"],
        "run": first.run(),
        "model": case.model,
        "workload": plays[0]["table"],
        "weights": plays[0]["drawn"],
        "block_tokens": str(BLOCK_TOKENS),
    }
    if kind == "server_runs":
        values |= {
            "model_shape": dict(MODELS[case.model]),
            "settings": _cleaned(first.engine["settings"]),
            "hardware": machine,
            "versions": {k: v for k, v in first.engine["versions"].items() if k != "kernel"},
            "memory": first.memory,
            "engine_start_s": round(first.engine["up_s"], 1),
            "dates": [play["date"] for play in plays],
            "statistics": [statistics_summary(play) for play in plays],
            "itl": [gap_summary(gaps_us(play)) for play in plays],
            "gpu": [gpu_summary(play) for play in plays],
        }
        if case.routing and plays[0]["table"] == "burst":
            values["experts"] = expert_balance(experts, plays[0]["case"])
    return {
        f"vsim.{name}": value
        if isinstance(value, str)
        else json.dumps(value, separators=(",", ":"))
        for name, value in values.items()
    }


def write_columns(
    path: Path, columns: Sequence[Column], data: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write a compressed Arrow file, whole or not at all."""
    keys: dict[bytes | str, bytes | str] = dict(metadata.items())
    fields = [c.field().with_metadata({"unit": c.unit}) for c in columns]  # their docs are above
    schema = pa.schema(fields, keys)
    table = pa.Table.from_pydict(dict(data), schema=schema)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 19))
    try:
        with pa.ipc.new_file(str(temporary), schema, options=options) as writer:
            writer.write_table(table)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _step_columns(play: Mapping[str, Any]) -> dict[str, list[Any]]:
    start = play["start_ns"]
    names = [column.name for column in SERVER_STEPS]
    rows = [
        (engine or seen, engine > 0, *rest) for engine, seen, *rest in play["statistics"]["steps"]
    ]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    columns["end_ns"] = [t - start for t in columns["end_ns"]]
    return columns


def write_runs(
    out: Path, results: Iterable[Path], stepped: Collection[str] | None = None
) -> list[str]:
    """Write all runs into a folder that exists.

    Args:
        out: the folder.
        results: what `play` wrote.
        stepped: the runs whose steps are written, too; None for all.

    Returns:
        A line for each repeat left out.
    """
    plays, experts = read(results)
    drawn = tables()
    runs: dict[str, list[Played]] = defaultdict(list)
    dropped = []
    for played in plays:
        if played.play["table"] == "warm":
            continue
        if played.play["compiled_files"]:
            dropped.append(f"{played.run()}, repeat {played.play['repeat']}: compiled kernels")
            continue
        runs[played.run()].append(played)
    for name, kept in runs.items():
        columns: dict[str, list[Any]] = defaultdict(list)
        for repeat, played in enumerate(kept):
            rows = drawn[played.play["table"]]
            for key, values in _request_columns(repeat, played.play, rows).items():
                columns[key].extend(values)
        metadata = metadata_of_run("server_runs", kept, experts)
        write_columns(out / f"{name}.arrow", SERVER_RUNS, columns, metadata)
        if stepped is not None and name not in stepped:
            continue
        metadata = metadata_of_run("server_steps", kept[:1], experts)
        write_columns(
            out / f"{name}.steps.arrow", SERVER_STEPS, _step_columns(kept[0].play), metadata
        )
    return dropped


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Turn played tables into Arrow files.")
    parser.add_argument("out", type=Path, help="a folder that exists")
    parser.add_argument("results", type=Path, nargs="+", help="what play wrote, its log beside it")
    parser.add_argument("--steps", help="write steps of these runs only, comma-separated")
    options = parser.parse_args()
    stepped = None if options.steps is None else options.steps.split(",")
    for line in write_runs(options.out, options.results, stepped):
        print(f"left out: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
