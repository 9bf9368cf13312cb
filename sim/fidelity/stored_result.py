"""A result folder of `vsim run` as a prediction of a measured run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.sim.fidelity.measured import Int64s, MeasuredRun, Repeat
from vsim.sim.fidelity.prediction import HITS, Prediction, prediction_of
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.results.output import REQUESTS, SUMMARY
from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import refuse
from vsim.traces.id_rows import IdRows

_BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, KeyError)
_COLUMNS = ("id", "prompt_tokens", "output_tokens", "arrival_ns", "admitted_ns", "first_token_ns",
            "last_token_ns", "preemptions", "status")  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a result folder holds.

    Args:
        folder: its name.
        summary: its summary.
        table: a row a request.
    """

    folder: str
    summary: Mapping[str, Any]
    table: pa.Table


def read_result(folder: str) -> StoredResult:
    """Read a result folder.

    Raises:
        InputError: it is none, or damaged.
    """
    path = Path(folder)
    if not (path / SUMMARY).is_file():
        refuse(folder, f"has no {SUMMARY}; name a folder that `vsim run --out` wrote")
    try:
        summary = json.loads(read_text(path / SUMMARY))
    except (ValueError, RecursionError):
        summary = None
    mark = summary.get("vsim") if isinstance(summary, dict) else None
    if not isinstance(mark, dict) or mark.get("kind") != "run":
        refuse(str(path / SUMMARY), "is not of `vsim run`; name a folder that --out wrote")
    file = str(path / REQUESTS)
    try:
        with pa.OSFile(file, "rb") as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
    except _BROKEN as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        refuse(file, f"is cut off or damaged ({cause}); run the scenario again")
    names = table.column_names
    missing = [name for name in _COLUMNS if name not in names]
    if not any(name.startswith(HITS) for name in names):
        missing.append(HITS + "hbm")
    if missing:
        refuse(file, f"has no column {', '.join(missing)}; run the scenario again")
    return StoredResult(folder, summary, table)


def predictions_of(result: StoredResult, run: MeasuredRun) -> tuple[Prediction, ...]:
    """Align a result with every repeat of a run, by the requests' ids.

    Raises:
        InputError: they are not the same requests.
    """
    return tuple(_aligned(result, repeat, run.file) for repeat in run.repeats)


def _aligned(result: StoredResult, repeat: Repeat, file: str) -> Prediction:
    ids = integers(result.table.column("id"))
    rows = IdRows(ids).of(repeat.requests.id)
    unknown = rows < 0
    if unknown.any():
        first = int(repeat.requests.id[np.argmax(unknown)])
        more = f" and {int(unknown.sum()) - 1} more" if unknown.sum() > 1 else ""
        message = f"has no request {first}{more} of {file}; run the requests of {file}"
        refuse(result.folder, message)
    table = result.table.take(rows)
    for name in ("prompt_tokens", "output_tokens"):
        ours = integers(table.column(name))
        theirs: Int64s = getattr(repeat.requests, name)
        bad = ours != theirs
        if bad.any():
            row = int(np.argmax(bad))
            message = (
                f"has {ours[row]} {name} in request {repeat.requests.id[row]}, and {file} "
                f"{theirs[row]}; run the requests of {file}"
            )
            refuse(result.folder, message)
    return prediction_of(table, result.summary)
