"""scenario_for: the scenario that predicts a measured server. The one place where a server's own
settings become the simulator's.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from vsim.sim.fidelity.measured import MeasuredRun, MeasuredThroughput
from vsim.sim.fidelity.settings import ServerSettings
from vsim.sim.inputs.yaml_input import read_text
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.model.huggingface import parse_config
from vsim.sim.model.loading import catalogue_names as model_names
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.server_cost import reserve_of
from vsim.sim.scenario.scenario import (
    AlikeExperts,
    EngineSettings,
    Parallel,
    Precisions,
    Scenario,
    TierSettings,
    Workload,
)
from vsim.sim.timing.step_cost import step_cost
from vsim.traces.faults import InputError
from vsim.traces.writing import sink

Measured = MeasuredRun | MeasuredThroughput
Pacing = Literal["arrivals", "think_times"]

_CATALOGUE_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        r"GH200": "gh200",
        r"H200": "h200",
        r"H100": "h100",
        r"B200": "b200",
        r"A100.*80\s*G": "a10080g",
        r"RTX\s*PRO\s*6000": "rtxpro6000",
        r"RTX\s*4090": "rtx4090",
        r"L40S": "l40s",
        r"A10\b": "a10",
    }
)
"""What a driver calls a GPU, as a pattern, and the catalogue's name for one: letters and digits."""
_NOT_IN_NAMES: Final = re.compile(r"^meta-(?=llama)|-(instruct|chat|hf|it|base)(?=-|$)")
_LONGEST_NAME: Final = 200  # characters of a model's name that may be a file's, too


class NotScoredError(Exception):
    """A measured run can't be predicted; says why."""


def scenario_for(run: Measured, folder: Path, pacing: Pacing = "arrivals") -> Scenario:
    """Say in the simulator's words what server was measured.

    Args:
        run: what was measured.
        folder: where the model's configuration is written; the scenario's paths start there.
        pacing: whether a turn arrives when it did, or its pause after the predicted last token of
            the turn before; without such turns it is the same.

    Raises:
        NotScoredError: what was served can't be said yet, and why.
        InputError: the model's configuration is wrong.
    """
    settings = run.settings
    _refuse_what_cannot_be_said(run)
    machine_name = machine_for(run.gpu, run.gpus)
    model_name = _model_for(run, folder)
    model = load_model(folder / model_name if model_name.endswith(".json") else model_name)
    machine = load_machine(machine_name)
    caches = settings.prefix_caching and _has_prefixes(run)
    engine = _engine(settings, caches, profile_for(run), _slowdown(run))
    try:
        step_cost(
            machine, model, tensor=settings.tensor, pipeline=settings.pipeline,
            weights=settings.weights, kv=settings.kv,
            reserve=reserve_of(
                engine, machine, model,
                Parallel(tensor=settings.tensor, pipeline=settings.pipeline),
            ),
        )  # fmt: skip
    except InputError as error:
        raise NotScoredError("; ".join(fault.message for fault in error.faults)) from None
    tiers = [TierSettings(tier="hbm")]
    if settings.host_bytes is not None and caches:
        tiers.append(TierSettings(tier="host", capacity=settings.host_bytes, write="through"))
    return Scenario(
        name=_name(run.name),
        workload=_workload(run, pacing, model.routed is not None),
        machine=machine_name,
        model=model_name,
        parallel=Parallel(tensor=settings.tensor, pipeline=settings.pipeline),
        precision=Precisions(weights=settings.weights, kv=settings.kv),
        engine=engine,
        tiers=tuple(tiers),
    )


def _workload(run: Measured, pacing: Pacing, has_experts: bool) -> Workload:
    follows = isinstance(run, MeasuredRun) and all(
        bool(((r.requests.parent >= 0) & (r.requests.think_ns >= 0)).any()) for r in run.repeats
    )
    fields: dict[str, Any] = {"trace": run.file}
    if follows and pacing != "arrivals":
        fields["pacing"] = pacing
    if has_experts and isinstance(run, MeasuredRun) and run.drawn_weights:
        openings = _openings(run)
        if openings:
            fields["alike_experts"] = AlikeExperts(share=ALIKE_OF_DRAWN_WEIGHTS, openings=openings)
    return Workload(**fields)


ALIKE_OF_DRAWN_WEIGHTS: Final = 0.87
"""Share of its experts that a token chooses as others whose prompts begin alike, where weights are
drawn: what such a network computes of a long text hardly depends on its last token. Counted in one
of Qwen3-30B-A3B's form at a quarter of its width: `python -m vsim.sim.fidelity.drawn_network`."""


def _openings(run: MeasuredRun) -> int:
    """In how many ways the prompts of a repeat begin, by their first blocks; 0 where none is
    shared."""
    requests = run.repeats[0].requests
    begins, ends = requests.prefix_offsets[:-1], requests.prefix_offsets[1:]
    first = requests.prefix_ids[begins[begins < ends]]
    found = np.unique(first)
    return int(found.size) if found.size < first.size else 0


RECORDED_HOSTS: Final[Mapping[str, float]] = MappingProxyType({"H100": 1.22})
"""How many times as long prompts alone take on the host of a recorded machine as on the H200's,
whose times the profile has; by a part of its GPU's name. It is printed by `python -m
vsim.hwbackend.servers.host_times traces/recorded/servers`."""


def _slowdown(run: Measured) -> float:
    """How slow the host of a recorded run is; nothing is known of others."""
    if not isinstance(run, MeasuredRun) or run.origin != "recorded":
        return 1.0
    return next((times for name, times in RECORDED_HOSTS.items() if name in run.gpu), 1.0)


def _engine(
    settings: ServerSettings, caches: bool, profile: str, slowdown: float
) -> EngineSettings:
    """The engine's settings; knobs of a profile are taken here, from `settings.resolved`."""
    fields: dict[str, Any] = {
        "profile": profile,
        "max_running_requests": settings.max_requests,
        "token_budget": settings.token_budget,
        "block_tokens": settings.block_tokens,
        "chunked_prefill": settings.chunked_prefill,
        "num_gpu_blocks": settings.num_gpu_blocks,
    }
    if caches and settings.host_bytes is not None:
        fields["offloading"] = "engine"
    given = {name: value for name, value in fields.items() if value is not None}
    if not settings.prefix_caching:
        given["prefix_caching"] = False
    if caches:
        given["reclaim_low"] = 0.0  # blocks are taken when they are needed, not before
    if slowdown != 1.0:
        given["host_slowdown"] = slowdown
    return EngineSettings(**given)


def profile_for(run: Measured) -> str:
    """Name the profile of the engine that was measured, by its name and version.

    An engine that is not named is taken for the latest vLLM.

    Raises:
        NotScoredError: there is no profile of it.
    """
    engine = run.engine.lower()
    if engine.startswith("tensorrt"):
        return "tensorrt-llm"
    if engine == "sglang":
        return "sglang"
    if engine not in ("vllm", "unknown", ""):
        raise NotScoredError(f"there is no profile of {run.engine[:_LONGEST_NAME]} yet")
    version = run.version if isinstance(run, MeasuredRun) else ""
    found = re.match(r"0\.(\d+)", version)
    return "vllm-0.19" if found is not None and int(found[1]) < 22 else "vllm"


def machine_for(gpu: str, gpus: int) -> str:
    """Name the machine of the catalogue with so many of a GPU: the smallest with enough.

    Raises:
        NotScoredError: there is none.
    """
    if not gpu:
        raise NotScoredError("its file does not say which GPU")
    kind = next(
        (name for like, name in _CATALOGUE_OF.items() if re.search(like, gpu, re.IGNORECASE)), None
    )
    fitting = []
    for name in catalogue_names() if kind is not None else ():
        found = re.fullmatch(r"(?:(\d+)x)?(.+?)(?:-nvlink|-pcie)?", name)
        if found is not None and _letters(found[2]) == kind:
            fitting.append((int(found[1] or 1), name))
    enough = sorted(each for each in fitting if each[0] >= gpus)
    if not enough:
        raise NotScoredError(f"the catalogue has no machine with {gpus} of {gpu}")
    return enough[0][1]


def _without_owner(model: str) -> str:
    """A model's name without its owner: `org/Model-8B` is `Model-8B`."""
    return model.rpartition("/")[2]


def _letters(name: str) -> str:
    return "".join(c for c in name if c.isalnum())


def _model_for(run: Measured, folder: Path) -> str:
    """Name the model: its configuration, written to the folder, or one of the catalogue."""
    shape = run.model_shape if isinstance(run, MeasuredRun) else None
    beside = Path(run.file).parent / f"{_without_owner(run.model)}.json"
    is_beside = 0 < len(run.model) <= _LONGEST_NAME and beside.is_file()
    if shape is not None or is_beside:
        source = run.file if shape is not None else str(beside)
        text = json.dumps(shape) if shape is not None else read_text(beside)
        parse_config(text, source, "model")  # so that faults name the file that was read
        with sink(folder / "config.json") as file:
            file.write(text.encode())
        return "config.json"
    name = _NOT_IN_NAMES.sub("", _without_owner(run.model).lower())
    if not name:
        raise NotScoredError("no model is named")
    if name not in model_names():
        raise NotScoredError(f"the catalogue has no model {run.model[:_LONGEST_NAME]}")
    return name


def _refuse_what_cannot_be_said(run: Measured) -> None:
    settings = run.settings
    if settings.unclear:
        raise NotScoredError("; ".join(settings.unclear))
    if settings.data > 1:
        raise NotScoredError(f"data parallelism of {settings.data} can't be said yet")
    if isinstance(run, MeasuredRun):
        if not run.repeats:
            raise NotScoredError("it holds no request by itself, only counters")
        if any((repeat.requests.arrival_ns < 0).any() for repeat in run.repeats):
            raise NotScoredError("its arrivals are not known")


def _has_prefixes(run: Measured) -> bool:
    return isinstance(run, MeasuredRun) and any(r.requests.prefix_ids.size for r in run.repeats)


def _name(name: str) -> str:
    """A run's name as a scenario's."""
    kept = "".join(c if c.isprintable() else " " for c in name).strip()
    return kept[:100] or "run"
