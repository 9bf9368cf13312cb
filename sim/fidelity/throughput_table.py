"""Tables of the most that servers gave, CSV: a row a model, GPU and length of requests."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from vsim.sim.fidelity.measured import MeasuredThroughput
from vsim.sim.fidelity.settings import ServerSettings
from vsim.traces.faults import refuse
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.values import parse_count, parse_name
from vsim.traces.trace_file import TraceFile


def _at_least_one(value: object) -> int:
    found = parse_count(value)
    if found < 1:
        raise ValueError(f"{found} is no count; write 1 or more")
    return found


def _rate(value: object) -> float:
    try:
        found = float(str(value))
    except ValueError:
        found = -1.0
    if not 0 < found < 1e12:
        raise ValueError(f"{value!r} is no rate; write tokens a second")
    return found


_COLUMNS: Final[dict[str, Callable[[object], Any]]] = {
    "model": parse_name,
    "gpu": parse_name,
    "gpus": _at_least_one,
    "prompt_tokens": _at_least_one,
    "output_tokens": _at_least_one,
    "output_tokens_per_s": _rate,
}


def is_throughput_table(header: Sequence[str]) -> bool:
    """Say whether a table's columns are those of a table of throughputs."""
    return set(_COLUMNS) <= set(header)


def read_throughput_table(file: TraceFile) -> list[MeasuredThroughput]:
    """Read a table of throughputs.

    Weights and KV are taken as fp8, as NVIDIA's tables of TensorRT-LLM have them, and the server's
    limits as those tables' benchmark sets them.

    Raises:
        InputError: naming each wrong line.
    """
    if file.is_parquet:
        refuse(file.name, "is Parquet; write a table of throughputs as CSV")
    faults = Faults(file.name)
    rows = CsvRows(file, faults)
    found = []
    for line, cells in rows:
        values: dict[str, Any] = {
            name: rows.parsed(line, cells, rows.header.index(name), parse)
            for name, parse in _COLUMNS.items()
        }
        if None in values.values():
            continue
        shape = f"{values['prompt_tokens']}+{values['output_tokens']}"
        found.append(
            MeasuredThroughput(
                name=f"{values['model']} {values['gpus']}x{values['gpu']} {shape}",
                file=file.name,
                engine="TensorRT-LLM",
                settings=ServerSettings(
                    tensor=values["gpus"],
                    token_budget=8192,
                    max_requests=2048,
                    block_tokens=32,
                    weights="fp8",
                    kv="fp8",
                ),
                **values,
            )
        )
    faults.settle()
    return found
