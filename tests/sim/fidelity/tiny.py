"""Hand-made recordings: few requests on an H100 with Llama-3.1-8B, and files of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.sim.fidelity.measured import MeasuredRun, Repeat
from vsim.sim.fidelity.prediction import Prediction, predict
from vsim.sim.fidelity.settings import ServerSettings
from vsim.sim.scenario.workload import queued_requests
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.requests import Requests
from vsim.traces.schema import schema_of

MS = 1_000_000
SETTINGS: Mapping[str, Any] = {
    "scheduler": {"max_num_batched_tokens": 4096, "max_num_seqs": 64},
    "cache": {"block_size": 16, "num_gpu_blocks": 3000, "cache_dtype": "auto"},
    "parallel": {"tensor_parallel_size": 1},
    "model": {"dtype": "torch.bfloat16", "quantization": None},
}
METADATA: Mapping[str, Any] = {
    "run": "tiny",
    "model": "llama-3.1-8b",
    "workload": "three",
    "block_tokens": "16",
    "settings": SETTINGS,
    "hardware": {"gpu": "NVIDIA H100", "gpus": 1},
    "versions": {"vllm": "0.25.1"},
    "statistics": [{"steps": 12}, {"steps": 14}],
    "itl": [{"n": 4, "mean_us": 10_000.0, "quantiles_us": {"50": 9_000.0, "90": 12_000.0}}],
}


def row(**values: Any) -> dict[str, Any]:
    """A row of `server_runs`; what is not given is null."""
    return {**dict.fromkeys(schema_of("server_runs").names), "prefix_blocks": [], **values}


ROWS: Sequence[dict[str, Any]] = [
    row(repeat=0, id=i, arrival_ns=50 * i * MS, queued_ns=50 * i * MS + 1, scheduled_ns=60 * i * MS,
        first_token_ns=(60 * i + 40) * MS, last_token_ns=(60 * i + 140) * MS, prompt_tokens=64,
        output_tokens=11, gpu_hit_tokens=16 * i, host_hit_tokens=0, preemptions=0,
        prefix_blocks=[10 * i + b for b in range(4)])
    for i in range(3)
]  # fmt: skip


def write_recording(path: Path, rows: Sequence[Mapping[str, Any]] = ROWS, **metadata: Any) -> Path:
    """Write a recording; None as a value leaves a key of the metadata out."""
    values = {k: v for k, v in {**METADATA, **metadata}.items() if v is not None}
    extra = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    table = pa.Table.from_pylist(list(rows), schema=schema_of("server_runs"))
    source = "vLLM 0.25.1 played by a test"
    write_table(table, path, "server_runs", Provenance(source, "CC0-1.0", extra=extra))
    return path


def requests(count: int = 3, *, gap_ns: int = 50 * MS, output: int = 11) -> Requests:
    """Requests of 64 tokens that share nothing."""
    lengths = np.full(count, 64, np.int64), np.full(count, output, np.int64)
    return replace(queued_requests(*lengths, "a test"), arrival_ns=gap_ns * np.arange(count))


def repeat_of(asked: Requests, scheduled: Any, first: Any, last: Any, **more: Any) -> Repeat:
    """A repeat with times in ns; nothing else was measured."""
    unknown = np.full(len(asked), -1, np.int64)
    columns = {"gpu_hit_tokens": unknown, "host_hit_tokens": unknown, "preemptions": unknown}
    return Repeat(
        asked,
        scheduled_ns=np.asarray(scheduled, np.int64),
        first_token_ns=np.asarray(first, np.int64),
        last_token_ns=np.asarray(last, np.int64),
        **(columns | more),
    )


def run_of(*repeats: Repeat, **more: Any) -> MeasuredRun:
    """A run of repeats, on one H100."""
    values: dict[str, Any] = {
        "name": "tiny", "file": "tiny.arrow", "origin": "recorded", "engine": "vLLM",
        "version": "0.25.1", "gpu": "NVIDIA H100", "gpus": 1, "model": "llama-3.1-8b",
        "model_shape": None, "workload": "three", "settings": ServerSettings(),
    }  # fmt: skip
    return MeasuredRun(**(values | {"repeats": repeats} | more))


def prediction(asked: Requests, scheduled: Any, first: Any, last: Any, **more: Any) -> Prediction:
    """A prediction with times in ns, nothing found and nobody preempted."""
    zeros = np.zeros(len(asked), np.int64)
    values: dict[str, Any] = {
        "hbm_hit_tokens": zeros, "lower_hit_tokens": zeros, "preemptions": zeros,
        "served": np.ones(len(asked), np.bool_), "gaps_ms": {}, "steps": None, "step_parts_ms": {},
    }  # fmt: skip
    return Prediction(
        arrival_ns=asked.arrival_ns,
        scheduled_ns=np.asarray(scheduled, np.int64),
        first_token_ns=np.asarray(first, np.int64),
        last_token_ns=np.asarray(last, np.int64),
        **(values | more),
    )


def simulated(count: int = 3, times: int = 1, **more: Any) -> MeasuredRun:
    """A run that took exactly so many times as long as the simulator says that it does."""
    asked = requests(count, gap_ns=10_000 * MS)  # one after the other: nobody waits for another
    template = run_of(repeat_of(asked, asked.arrival_ns, asked.arrival_ns, asked.arrival_ns))
    (found,) = predict(template)
    later = [
        asked.arrival_ns + times * (each - asked.arrival_ns)
        for each in (found.scheduled_ns, found.first_token_ns, found.last_token_ns)
    ]
    repeat = replace(
        repeat_of(asked, *later),
        gpu_hit_tokens=found.hbm_hit_tokens,
        host_hit_tokens=found.lower_hit_tokens,
        preemptions=found.preemptions,
    )
    return replace(template, repeats=(repeat,), **more)
