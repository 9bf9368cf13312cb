"""Turn what `probe` measured, and traces of servers, into an Arrow file a machine.

    python -m vsim.hwbackend.kernels.recordings OUT.arrow PROBE.jsonl... [--traces RUN.jsonl.gz...]

Of a part that two files hold, the later file's rows are kept.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from vsim.hwbackend.kernels.rows import Measured
from vsim.hwbackend.kernels.traced_steps import traced_rows
from vsim.hwbackend.servers.recordings import write_columns
from vsim.traces.schema import Column

SCHEMA_VERSION: Final = 1
_WORD: Final = pa.dictionary(pa.int16(), pa.string())
_COUNT: Final = pa.int32()
_US: Final = pa.float32()

COLUMNS: Final = (
    Column("probe", _WORD, "name",
           "attention, small, product, sampling, clock, graph, pool, or trace (of a server)"),
    Column("kernel", _WORD, "name", "what ran"),
    Column("variant", _WORD, "name", "how it ran; of a trace, which server"),
    Column("us", _US, "us", "time of one call, median; of a traced kernel, mean"),
    Column("us_least", _US, "us", "the least"),
    Column("us_most", _US, "us", "the most"),
    Column("n", _COUNT, "1", "samples"),
    Column("tokens", _COUNT, "tokens", "rows of the activations", True),
    Column("decodes", _COUNT, "1", "sequences that add one token", True),
    Column("context", _COUNT, "tokens", "what each of those attends to, itself included", True),
    Column("prefill", _COUNT, "tokens", "new tokens of each chunk", True),
    Column("chunks", _COUNT, "1", "chunks", True),
    Column("prefix", _COUNT, "tokens", "what a chunk finds in the cache", True),
    Column("heads", _COUNT, "1", "query heads", True),
    Column("kv_heads", _COUNT, "1", "key and value heads", True),
    Column("outputs", _COUNT, "1", "features that a product makes", True),
    Column("inputs", _COUNT, "1", "features that it takes", True),
    Column("std", _US, "1", "standard deviation of the activations", True),
    Column("at_s", _US, "s", "since the load began", True),
    Column("duty", _US, "1", "share of the time under load", True),
    Column("sm_mhz", _US, "MHz", "the multiprocessors' clock, as NVML said about then", True),
    Column("watts", _US, "W", "the board's power, likewise", True),
    Column("bytes_moved", pa.int64(), "bytes", "what must be read and written at least", True),
    Column("calls", _COUNT, "1", "calls in the step or graph", True),
)  # fmt: skip


def read(paths: Iterable[Path]) -> tuple[dict[str, Any], list[Measured]]:
    """Read what `probe` wrote: the first machine line, and the rows of each part's last file."""
    machines: list[dict[str, Any]] = []
    parts: dict[str, list[Measured]] = {}
    known = {field.name for field in fields(Measured)}
    for path in paths:
        found: dict[str, list[Measured]] = {}
        for line in map(json.loads, path.read_text().splitlines()):
            if line["kind"] == "machine":
                machines.append(line)
                continue
            values = {key: value for key, value in line.items() if key in known}
            row = Measured(**{**values, "us": tuple(values["us"])})
            found.setdefault(row.probe, []).append(row)
        parts |= found
    if len({machine["hardware"]["gpu"] for machine in machines}) != 1:
        raise ValueError("the files are not of one kind of GPU")
    return machines[0], [row for rows in parts.values() for row in rows]


def columns_of(rows: Iterable[Measured]) -> dict[str, list[Any]]:
    """Return the rows as columns."""
    columns: dict[str, list[Any]] = {column.name: [] for column in COLUMNS}
    for row in rows:
        values = asdict(row)
        middle, least, most = values.pop("us")
        values |= {"us": middle, "us_least": least, "us_most": most}
        for name, column in columns.items():
            column.append(values[name])
    return columns


def _whose(versions: Mapping[str, str]) -> str:
    vllm = versions.get("vllm")
    return f"PyTorch {versions['torch']}" if vllm is None else f"kernels of vLLM {vllm}"


def metadata_of(machine: Mapping[str, Any]) -> dict[str, str]:
    """Make the schema metadata."""
    hardware = machine["hardware"]
    values = {
        "kind": "kernel_probes",
        "schema_version": str(SCHEMA_VERSION),
        "producer": "vsim",
        "source": f"{_whose(machine['versions'])}, vsim.hwbackend.kernels",
        "licence": "Apache-2.0",
        "machine": f"1 x {hardware['gpu']}",
        "driver": hardware["driver"],
        "date": machine["date"],
        "hardware": json.dumps(hardware, separators=(",", ":")),
        "versions": json.dumps(machine["versions"], separators=(",", ":")),
    }
    return {f"vsim.{name}": value for name, value in values.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Turn measured kernels into an Arrow file.")
    parser.add_argument("out", type=Path)
    parser.add_argument("probes", type=Path, nargs="+", help="what probe wrote")
    parser.add_argument("--traces", type=Path, nargs="*", default=[], help="what play wrote")
    options = parser.parse_args()
    machine, rows = read(options.probes)
    for path in options.traces:
        rows.extend(traced_rows(path))
    write_columns(options.out, COLUMNS, columns_of(rows), metadata_of(machine))


if __name__ == "__main__":
    main()
