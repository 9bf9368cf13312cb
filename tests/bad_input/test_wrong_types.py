"""A value of the wrong type, in every field of every kind of file, is one clear line."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.seeds import some

import vsim.sim.machine
import vsim.sim.model
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import InputError

SCENARIOS = Path(__file__).parents[2] / "scenarios"
MACHINES = Path(vsim.sim.machine.__file__).parent / "catalogue"
MODELS = Path(vsim.sim.model.__file__).parent / "catalogue"
WRONG: dict[str, Any] = {
    "nothing": None, "yes": True, "5": 5, "-1": -1, "0": 0, "1.5": 1.5, "a word": "word",
    "an empty word": "", "an empty list": [], "a list": [1], "a list of lists": [[1]],
    "a large number": 10**30, "a larger one": 1e300, "a size": "80GiB", "a long word": "x" * 3000,
    "two lines": "a\nb", "a control character": "a\x1bb",
}  # fmt: skip


def read(path: Path, **changes: Any) -> Any:
    return yaml.safe_load(path.read_text()) | changes


def drawn() -> Any:
    found = read(
        SCENARIOS / "quickstart.yaml",
        parallel={"tensor": 1, "pipeline": 1},
        precision={"weights": "bf16", "kv": "bf16"},
        output={"operations": "none"},
    )
    found["workload"]["synth"]["tenants"] = [
        {"name": name, "share": 1.0, "priority": 0} for name in ("a", "b")
    ]
    return found


def measured() -> Any:
    """A machine of two tiers: `places` looks at the first entry of a list, and all are read."""
    found = read(MACHINES / "h200-measured.yaml")
    return found | {
        "tiers": found["tiers"][:2],
        "links": found["links"][:1],
        "vmm": found["vmm"][:1],
    }


FILES: dict[str, tuple[Any, Any]] = {
    "a scenario": (drawn(), Scenario),
    "recorded attention": (read(SCENARIOS / "recorded_attention.yaml"), Scenario),
    "a machine": (measured(), Machine),
    "a model with latents": (read(MODELS / "deepseek-v3.yaml"), Model),
    "a model with experts": (read(MODELS / "mixtral-8x7b.yaml"), Model),
}


def written(data: Any) -> str:
    """As text, a value a line: what has long lines is read slowly."""
    return json.dumps(data, indent=1)


def places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(data, dict):
        for key in data:
            yield from places(data[key], (*place, key))
    elif isinstance(data, list) and data:
        yield from places(data[0], (*place, 0))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_before_anything_is_wrong_in_it(name: str) -> None:
    data, model = FILES[name]
    assert isinstance(parse_yaml(written(data), "f", model), model)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", FILES)
def test_a_value_of_the_wrong_type_is_one_short_line(name: str, wrong: str) -> None:
    data, model = FILES[name]
    for place in some(list(places(data)), 6):
        changed = copy.deepcopy(data)
        part = changed
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = WRONG[wrong]
        try:
            parse_yaml(written(changed), "f", model)
        except InputError as error:
            lines = [str(fault) for fault in error.faults]
            assert len(lines) == 1, (place, lines)
            assert len(lines[0].splitlines()) == 1, lines
            assert lines[0].isprintable(), lines
            assert len(lines[0]) < 400, lines
