"""`log_source`: a log of operations that a run wrote, with its summary, as a source."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.plan import plan_of
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.window import note_window
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.results.output import OPERATIONS, SUMMARY
from vsim.traces.arrow_io import metadata_of, read_table
from vsim.traces.faults import refuse


def log_source(path: str, folder: Path, options: ReplayOptions, overrides: Sequence[str]) -> Source:
    """Read a log with the summary of its run."""
    if options.mode == "live":
        refuse("--mode", "live needs the scenario: a log holds what was decided; name the scenario")
    if overrides:
        message = f"{overrides[0]} does nothing: {path} was decided already; name its scenario"
        refuse("--set", message)
    summary = _summary(folder)
    file = folder / OPERATIONS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        refuse(path, f"has no {OPERATIONS}; run the scenario with --set output.operations=all")
    table = read_table(str(file), "operations")
    names = [tier["name"] for tier in summary["tiers"]]
    for tier, other in options.stand_ins:
        if tier not in names[1:] or other in names:
            refuse("--stand-in", f"{tier}={other}: the log's tiers are {', '.join(names)}")
        names[names.index(tier)] = other
        table = _renamed(table, tier, other)
    notes: list[str] = []
    plan = plan_of(
        table,
        names,
        page_tokens=summary["engine"]["page_tokens"],
        page_bytes=summary["tiers"][0]["page_bytes"],
        file=str(file),
        until_ns=options.window_ns,
    )
    note_window(plan, table, options, notes)
    return Source(
        name=summary["scenario"],
        file=path,
        kind="operations",
        machine=summary["machine"]["name"],
        model=summary["model"]["name"],
        weight_bytes=summary["model"]["weight_bytes"],
        precision=(summary["model"]["weight_precision"], summary["model"]["kv_precision"]),
        gpus=summary["machine"]["gpus"],
        movement=metadata_of(table).get("movement", "paged"),
        plan=plan,
        live=None,
        server=None,
        notes=tuple(notes),
    )


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        refuse(str(folder), f"has no {SUMMARY}; name a folder that `vsim run --out` wrote")
    try:
        summary = json.loads(read_text(path))
        model, machine = summary["model"], summary["machine"]
        _ = summary["scenario"], machine["name"], machine["gpus"], model["weight_bytes"]
        _ = model["name"], model["weight_precision"], model["kv_precision"]
        _ = summary["engine"]["page_tokens"], summary["tiers"][0]["page_bytes"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        refuse(str(path), "is not of `vsim run`; name a folder that --out wrote")
    found: Mapping[str, Any] = summary
    return found


def _renamed(table: pa.Table, tier: str, other: str) -> pa.Table:
    """Give a tier of a log another name."""
    for name in ("source_tier", "target_tier"):
        words = [other if word == tier else word for word in table.column(name).to_pylist()]
        at = table.schema.get_field_index(name)
        column = pa.array(words, pa.string()).dictionary_encode()
        table = table.set_column(
            at, table.schema.field(at), column.cast(table.schema.field(at).type)
        )
    return table
