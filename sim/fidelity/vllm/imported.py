"""Put what several of vLLM's files say together, as a run of kind `server_runs`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vsim.sim.fidelity.settings import settings_of_recording
from vsim.sim.fidelity.vllm.benchmark_file import read_benchmark
from vsim.sim.fidelity.vllm.facts import Benchmark, Facts
from vsim.sim.fidelity.vllm.prometheus_dump import between, is_metrics, read_metrics
from vsim.sim.fidelity.vllm.server_log import read_log, settings_groups
from vsim.traces.arrow_io import Provenance
from vsim.traces.faults import Fault, InputError, one_line, refuse
from vsim.traces.schema import schema_of
from vsim.traces.trace_file import open_trace

_PERCENTS: Final = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """A run as it is written.

    Args:
        table: of the schema `server_runs`; without rows where no file holds single requests.
        provenance: where it is from, and what else is known of it.
        notes: what was left out, or is not known, a sentence each.
    """

    table: pa.Table
    provenance: Provenance
    notes: tuple[str, ...]


def import_vllm(
    paths: Sequence[str],
    *,
    name: str,
    gpu: str | None = None,
    gpus: int | None = None,
    model: str | None = None,
    model_shape: Mapping[str, Any] | None = None,
) -> ImportedRun:
    """Read logs, metrics and benchmarks of one server.

    Args:
        paths: files of any of the three kinds. Of two dumps of metrics the first was taken before
            the run; each benchmark is a repeat.
        name: what the run is called.
        gpu: which GPU, as `vsim check` is to know it; vLLM's files do not say.
        gpus: how many; left out: as many as the server's parallelism takes.
        model: the model's name, in place of the one that the files say.
        model_shape: its Hugging Face config.

    Raises:
        InputError: with what is wrong in any of them, or contradicts.
    """
    found: list[Facts] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            found.extend(_read(path))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(faults)
    dumps = [each for each in found if each.kind == "metrics"]
    if len(dumps) > 2:
        refuse(dumps[2].file, "is the third dump of metrics; name the one before and one after")
    if len(dumps) == 2:
        found = [each for each in found if each.kind != "metrics"] + [between(*dumps)]
    _check_settings(found)
    settings = _merged(found)
    counters: dict[str, float] = {}
    for each in sorted(found, key=lambda each: each.kind == "metrics"):
        counters |= each.counters  # a log's sums are coarser than those of metrics, which come last
    benchmarks = [each.benchmark for each in found if each.benchmark is not None]
    if not benchmarks and not counters:
        refuse(
            ", ".join(paths),
            "says how the server was started, and nothing of what it did; name its metrics or a "
            "benchmark's result, too",
        )
    version = next((each.version for each in found if each.version), "")
    notes = [f"{each.file}: {note}" for each in found for note in each.notes]
    notes += _unsaid(settings, gpu, benchmarks)
    count = gpus or int(settings.get("tensor_parallel_size", 1)) * int(
        settings.get("pipeline_parallel_size", 1)
    )
    extra: dict[str, Any] = {
        "run": name,
        "model": one_line(model or str(settings.get("model", "unknown"))),
        "block_tokens": str(settings.get("block_size", 16)),
        "settings": settings_groups(settings),
        "hardware": {"gpu": gpu or "", "gpus": count},
        "versions": {"vllm": version},
        "itl": [_gaps(each) for each in benchmarks],
        "counters": counters,
    }
    if model_shape is not None:
        extra["model_shape"] = dict(model_shape)
    provenance = Provenance(
        source=f"vLLM {version}".rstrip(),
        machine=f"{count} x {gpu or 'unknown GPU'}",
        extra={k: v if isinstance(v, str) else json.dumps(v) for k, v in extra.items() if v},
    )
    return ImportedRun(_table(benchmarks), provenance, tuple(notes))


def _read(path: str) -> list[Facts]:
    """Read a file by what it holds."""
    with open_trace(path) as file:
        head = file.head.decode("utf-8", "replace")
        if file.is_arrow or file.is_parquet:
            refuse(file.name, "is no log, metrics or benchmark of vLLM; name one of those")
        lines = map(_readable, file.text_lines())
        if head.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
            return read_benchmark(file.text(), file.name)
        if is_metrics(head):
            return [read_metrics(lines, file.name)]
        return [read_log(lines, file.name)]


def _readable(text: str) -> str:
    """Replace what is no UTF-8, as it can't be written."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check_settings(found: Sequence[Facts]) -> None:
    """Refuse numbers that are none, by the file that says them."""
    faults: list[Fault] = []
    for each in found:
        try:
            settings_of_recording(settings_groups(each.settings), each.file)
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(faults)


def _merged(found: Sequence[Facts]) -> dict[str, Any]:
    """Put settings together. Raises InputError where two files contradict each other."""
    merged: dict[str, tuple[Any, str]] = {}
    faults = []
    for each in found:
        for name, value in each.settings.items():
            known = merged.setdefault(name, (value, each.file))
            if name not in ("model", "dtype") and not _agree(known[0], value):
                message = f"says {name} {value}, and {known[1]} {known[0]}; name files of one run"
                faults.append(Fault(each.file, message))
    if faults:
        raise InputError(faults)
    return {name: value for name, (value, _) in merged.items()}


def _agree(a: Any, b: Any) -> bool:
    return bool(a == b) or "auto" in (a, b)


def _unsaid(
    settings: Mapping[str, Any], gpu: str | None, benchmarks: Sequence[Benchmark]
) -> list[str]:
    """What a prediction needs and the files do not say."""
    notes = []
    if gpu is None:
        notes.append("no file says which GPU it was; write --gpu, or `vsim check` can't predict it")
    if not benchmarks:
        notes.append("no file holds single requests, only sums over all of them")
    if "max_num_seqs" not in settings:
        notes.append("no file says max_num_seqs; a prediction takes the simulator's default")
    if "num_gpu_blocks" not in settings:
        notes.append("no file says how many blocks the KV cache has; a prediction works it out")
    return notes


def _gaps(benchmark: Benchmark) -> dict[str, Any]:
    if not benchmark.gaps_s:
        return {"n": 0}
    gaps_us = np.array(benchmark.gaps_s) * 1e6
    ranks = np.percentile(gaps_us, _PERCENTS, method="inverted_cdf")
    return {
        "n": len(gaps_us),
        "mean_us": round(float(gaps_us.mean()), 1),
        "quantiles_us": {
            str(percent): round(float(us), 1) for percent, us in zip(_PERCENTS, ranks, strict=True)
        },
    }


def _table(benchmarks: Sequence[Benchmark]) -> pa.Table:
    """Rows of all benchmarks, a repeat each, times from the first request that was sent."""
    schema = schema_of("server_runs")
    rows = []
    for repeat, benchmark in enumerate(benchmarks):
        zero = min(request.start_s for request in benchmark.requests)
        for number, request in enumerate(benchmark.requests):
            start, first, last = (
                round((time - zero) * 1e9)
                for time in (request.start_s, request.first_s, request.last_s)
            )
            rows.append(
                dict.fromkeys(schema.names)
                | {
                    "repeat": repeat,
                    "id": number,
                    "arrival_ns": start,
                    "sent_ns": start,
                    "first_token_ns": first,
                    "last_token_ns": last,
                    "prompt_tokens": request.prompt_tokens,
                    "output_tokens": request.output_tokens,
                    "prefix_blocks": [],
                }
            )
    return pa.Table.from_pylist(rows, schema=schema)
