"""What `vsim model show` does: a model's arithmetic by group, and where it fits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision, WeightPrecision
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.sim.profiles.loading import load_profile, profile_names
from vsim.sim.profiles.rules import with_profile
from vsim.sim.profiles.server_cost import reserve_of
from vsim.sim.scenario.precision import kv_of, taken_from_checkpoint, weights_of
from vsim.sim.scenario.scenario import (
    EngineSettings,
    Parallel,
    Precisions,
    Scenario,
    TierSettings,
    Workload,
)
from vsim.sim.sizing.machine_room import Engine, MachineRoom, machine_room
from vsim.sim.sizing.shown_model import ShownModel
from vsim.sim.sizing.sizes import ModelSizes
from vsim.sim.sizing.transformers_count import Counted, available, count
from vsim.sim.sizing.view import show_model
from vsim.traces.faults import Fault, InputError, first_line, refuse, suggestion

MOST_TOKENS: Final = 1 << 30
MOST_TENSOR: Final = 1024


def run_show_model(
    config: str,
    *,
    tokens: int,
    tensor: int | None,
    kv: str | None,
    weights: str | None,
    profile: str,
    as_json: bool,
    ask_transformers: bool = False,
) -> None:
    """Work out a model's sizes and print them.

    Args:
        config: a model of the catalogue, or a file or folder as a scenario names it.
        tokens: length of a sequence.
        tensor: GPUs that share each layer; None: as many as each machine has, or can.
        kv: precision of the KV cache; None: as the checkpoint declares.
        weights: precision of the weights; None: the same.
        profile: whose blocks and memory.
        as_json: print JSON.
        ask_transformers: count the weights with transformers, too.

    Raises:
        InputError: with every fault found.
    """
    faults = list(_faults(tokens, tensor, kv, weights, profile))
    if faults:
        raise InputError(faults)
    shown = shown_model(
        load_model(config), tokens=tokens, tensor=tensor, kv=kv, weights=weights, profile=profile
    )
    if ask_transformers:
        shown = replace(shown, counted=_counted(config))
    if as_json:
        print(json.dumps(shown.as_json(), indent=1))
    else:
        show_model(shown)


def _filled(engine: EngineSettings, degrees: Parallel, machine: Machine) -> EngineSettings:
    """An engine's settings with its defaults on a machine."""
    scenario = Scenario(
        name="shown",
        workload=Workload(trace="none"),
        machine=machine.name,
        model="shown",
        parallel=degrees,
        engine=engine,
        tiers=(TierSettings(tier=machine.hbm.name),),
    )
    return with_profile(scenario, machine).engine


def shown_model(
    model: Model,
    *,
    tokens: int,
    tensor: int | None = None,
    kv: Any = None,  # a Precision, which was checked
    weights: Any = None,
    profile: str = "vllm",
) -> ShownModel:
    """Work out all that is shown of a model; arguments as in `run_show_model`, and checked."""
    engine = EngineSettings(profile=profile)
    rules = load_profile(profile)
    equal = rules.equal_groups is not None and rules.equal_groups.value
    steps = rules.budgets[0].token_budget.value
    written = Precisions(weights=weights, kv=kv)
    sizes = ModelSizes.of(model, weights_of(written, model), kv_of(written, model), tokens)
    rooms: list[MachineRoom] = []
    for name in catalogue_names():
        machine = load_machine(name)
        degrees = Parallel(tensor=tensor or 1)
        filled = _filled(engine, degrees, machine)
        reserve = reserve_of(filled, machine, model, degrees)
        blocks = Engine(reserve, steps, filled.block_tokens, equal)
        rooms.append(
            machine_room(
                machine,
                model,
                tokens,
                weights=sizes.weights,
                kv=sizes.kv,
                engine=blocks,
                tensor=tensor,
            )
        )
    return ShownModel(
        sizes,
        rules.name,
        steps,
        engine.block_tokens,
        equal,
        tuple(rooms),
        taken_from_checkpoint(written, model),
    )


def _counted(config: str) -> Counted:
    """Count a config.json's weights with transformers."""
    option = "--transformers"
    path = Path(config)
    path = path if path.suffix == ".json" else path / "config.json"
    if not path.is_file():
        refuse(
            option, f"'{config}' is no config.json, which transformers reads alone; leave it out"
        )
    if not available():
        refuse(option, "transformers is not installed; pip install 'vsim[hf]'")
    try:
        return count(json.loads(path.read_text()))
    except LookupError as error:
        refuse(option, f"{first_line(error)}; leave it out")


def _faults(
    tokens: int, tensor: int | None, kv: str | None, weights: str | None, profile: str
) -> list[Fault]:
    faults = []
    if not 1 <= tokens <= MOST_TOKENS:
        faults.append(Fault("--tokens", f"{tokens} is out of range; write 1 to {MOST_TOKENS}"))
    if tensor is not None and not 1 <= tensor <= MOST_TENSOR:
        faults.append(Fault("--tensor", f"{tensor} is out of range; write 1 to {MOST_TENSOR}"))
    kinds = [("--kv", kv, get_args(Precision)), ("--weights", weights, get_args(WeightPrecision))]
    for option, value, known in kinds:
        if value is not None and value not in known:
            message = f"'{value}' is no precision{suggestion(value, known)}; write one of"
            faults.append(Fault(option, f"{message} {', '.join(known)}"))
    if profile not in profile_names():
        message = f"'{profile}' is no engine profile{suggestion(profile, profile_names())}"
        faults.append(Fault("--profile", f"{message}; write one of {', '.join(profile_names())}"))
    return faults
