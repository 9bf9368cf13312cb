"""`read_source`: a scenario, a trace or a log, by its path, as a source."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.run_log import log_source
from vsim.hwbackend.replay.simulated_source import simulated_source
from vsim.hwbackend.replay.source import Source
from vsim.sim.inputs.yaml_input import YamlDocument, read_text
from vsim.traces.arrow_io import kind_of
from vsim.traces.faults import refuse, refuse_empty_name

DEFAULTS: Mapping[str, str] = {
    "requests": """
name: replay
workload: {trace: .}
machine: h200
model: llama-3.1-8b
tiers:
  - tier: hbm
""",
    "attention": """
name: replay
workload: {attention: .}
machine: h200
model: smollm2-135m
tiers:
  - tier: hbm
  - {tier: host, access: in_place, write: through}
""",
}
"""The scenario of a trace that is named alone; `--set` overrides it."""


def read_source(
    path: str,
    options: ReplayOptions,
    *,
    overrides: Sequence[str] = (),
    machine: str | None = None,
    hbm: str | None = None,
) -> Source:
    """Read what is to be replayed and simulate it, where it is no log already.

    Args:
        path: a scenario, a trace of requests or of attention, or a log of operations: a result
            folder of `vsim run --out`, or the operations.arrow in it.
        options: the window, the stand-ins and the mode.
        overrides: `key=value`, on top of the scenario.
        machine: a machine's name or file instead of the scenario's.
        hbm: bytes of KV that HBM holds, as `8GiB`, instead of the scenario's.

    Raises:
        InputError: with every fault found.
    """
    given = list(overrides)
    if machine is not None:
        if any(each.partition("=")[0] == "machine" for each in given):
            refuse("--machine", "stands beside --set machine; keep one")
        is_path = "/" in machine or machine.endswith((".yaml", ".yml"))
        given.append(f"machine={Path(machine).absolute() if is_path else machine}")
    if hbm is not None:
        given.append(f"tiers.0.capacity={hbm}")
    refuse_empty_name(path)
    if Path(path).is_dir():
        return log_source(path, Path(path), options, given)
    if path.endswith((".yaml", ".yml")):
        document = YamlDocument(read_text(path), path, given)
        return simulated_source(document, path, Path(path).parent, options, None, given)
    kind = kind_of(path) or "requests"
    if kind == "operations":
        return log_source(path, Path(path).parent, options, given)
    if kind not in DEFAULTS:
        refuse(path, f"is a trace of {kind}; replay requests, attention or operations")
    text = DEFAULTS[kind].strip() + "\n"
    document = YamlDocument(text, "the scenario of a trace alone", given)
    return simulated_source(document, path, Path(), options, kind, given)
