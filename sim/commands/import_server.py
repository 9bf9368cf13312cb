"""What `vsim import vllm` does: read vLLM's files, write a run of a real server."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vsim.sim.fidelity.vllm.imported import import_vllm
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.model.huggingface import parse_config
from vsim.traces.arrow_io import write_table
from vsim.traces.faults import Fault, InputError, one_line
from vsim.traces.writing import fresh_file


def run_import_vllm(
    paths: Sequence[str],
    *,
    out: str,
    name: str | None,
    gpu: str | None,
    gpus: int | None,
    model: str | None,
    config: str | None,
) -> None:
    """Import what vLLM said and saved, and say what of it is not known.

    Args:
        paths: logs, dumps of metrics and results of benchmarks of one server.
        out: the Arrow file to write.
        name: what the run is called; left out: as the file.
        gpu: which GPU; vLLM's files do not say.
        gpus: how many; left out: as many as the server's parallelism takes.
        model: the model's name, in place of the one that the files say.
        config: the model's Hugging Face config.json, or None: a model of the catalogue is meant.

    Raises:
        InputError: with everything that is wrong.
    """
    faults = [
        Fault(option, "holds what does not print; write plain text")
        for option, text in (("--name", name), ("--gpu", gpu), ("--model", model))
        if text is not None and not text.isprintable()
    ]
    if faults:
        raise InputError(faults)
    inputs = [*paths, *([config] if config is not None else [])]
    with fresh_file(out, "server_runs", inputs=inputs, option="--out") as fresh:
        imported = import_vllm(
            paths,
            name=name or Path(out).stem,
            gpu=gpu,
            gpus=gpus,
            model=model,
            model_shape=None if config is None else _shape(config),
        )
        write_table(imported.table, fresh, "server_runs", imported.provenance)
    repeats = len(set(imported.table.column("repeat").to_pylist()))
    held = f"{len(imported.table):,} requests in {repeats} repeats" if repeats else "counters"
    print(one_line(f"{out}: {held} from {imported.provenance.source}"))
    for note in imported.notes:
        print(one_line(f"{out}: note: {note}"), file=sys.stderr)


def _shape(path: str) -> Mapping[str, Any]:
    """Read a model's configuration, and check that a prediction can be made of it."""
    text = read_text(path)
    parse_config(text, path, "model")
    shape: Mapping[str, Any] = json.loads(text)
    return shape
