import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from vsim.sim.inputs.field_descriptions import descriptions
from vsim.sim.scenario.scenario import (
    EngineSettings,
    Scenario,
    TierSettings,
    Workload,
    load_scenario,
    schema_text,
)
from vsim.traces.faults import InputError

FOLDER = Path(__file__).parents[3] / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))
TEXT = """\
name: small
workload: {trace: a.arrow}
machine: h100
model: llama-3.1-8b
tiers:
  - {tier: hbm, capacity: 4GiB}
  - {tier: host, access: in_place}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(TEXT)
    return file


def test_a_file_and_python_values_give_the_same_scenario(path: Path) -> None:
    by_hand = Scenario(
        name="small",
        workload=Workload(trace="a.arrow"),
        machine="h100",
        model="llama-3.1-8b",
        tiers=(
            TierSettings(tier="hbm", capacity=4 * 2**30),
            TierSettings(tier="host", access="in_place"),
        ),
    )
    assert load_scenario(path) == by_hand
    assert load_scenario(path).model_fields_set == by_hand.model_fields_set


def test_overrides_win_over_the_file(path: Path) -> None:
    scenario = load_scenario(path, ["tiers.1.capacity=2GiB", "engine.block_tokens=32"])
    assert scenario.tiers[1].capacity == 2**31
    assert scenario.engine.block_tokens == 32


def test_a_page_is_one_block_unless_written(path: Path) -> None:
    assert EngineSettings(block_tokens=32).page_or_block_tokens == 32
    assert EngineSettings(block_tokens=32, page_tokens=64).page_or_block_tokens == 64


def test_another_trace_takes_the_place_of_what_the_file_names(path: Path) -> None:
    scenario = load_scenario(path, ["workload.rate_scale=2"]).with_trace("b.arrow")
    assert scenario.workload == Workload(trace="b.arrow", rate_scale=2)
    assert scenario.workload.synth is None


def test_a_scenario_does_not_change(path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_scenario(path).seed = 2  # type: ignore[misc] # that this is refused is the point


@pytest.mark.parametrize(
    "build",
    [
        lambda: EngineSettings(max_running_requests=2**31),
        lambda: EngineSettings(token_budget=2**63),
        lambda: EngineSettings(block_tokens=0),
        lambda: EngineSettings(reclaim_low=float("nan")),
        lambda: TierSettings(tier="hbm", capacity=2**63),
        lambda: TierSettings(tier="hbm", capacity=0),
        lambda: TierSettings(tier="hbm", capacity="4GB/s"),  # type: ignore[arg-type]
        lambda: TierSettings(tier=""),
        lambda: Workload(trace="a", rate_scale=1e-300),
        lambda: Workload(trace="a", requests=2**31),
        lambda: Workload(trace="a\nb"),
        lambda: Workload(),
    ],
)
def test_what_is_built_by_hand_is_held_to_what_a_file_is_held_to(build: Any) -> None:
    with pytest.raises(ValidationError):
        build()


SYNTH = "{requests: 3, arrivals: {rate_per_s: 1}, prompt_tokens: 5, output_tokens: 5}"


@pytest.mark.parametrize("workload", ["{}", f"{{trace: a, synth: {SYNTH}}}"])
def test_exactly_one_source_of_requests_is_named(workload: str, path: Path) -> None:
    path.write_text(TEXT.replace("{trace: a.arrow}", workload))
    with pytest.raises(InputError, match=r"small\.yaml:2:11: workload"):
        load_scenario(path)


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """All models that a model is made of."""

    def within(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        if get_origin(annotation) is Literal:
            return []
        return [found for each in get_args(annotation) for found in within(each)]

    seen.add(model)
    for field in model.model_fields.values():
        for inner in within(field.annotation):
            if inner not in seen:
                sections(inner, seen)
    return seen


def test_every_field_is_documented_and_no_section_takes_unknown_keys() -> None:
    found = sections(Scenario, set())
    assert len(found) >= 8
    for model in found:
        assert model.model_config.get("extra") == "forbid", model
        assert model.model_config.get("frozen") is True, model
        assert set(descriptions(model)) == set(model.model_fields), model


def test_the_committed_schema_is_the_current_one() -> None:
    committed = (FOLDER / "scenario.schema.json").read_text()
    assert committed == schema_text(), "run `make schema`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_scenario_is_valid_to_an_editor_and_to_vsim(file: Path) -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))
    assert load_scenario(file).name == file.stem.replace("_", "-")
    assert file.read_text().startswith("# yaml-language-server: $schema=scenario.schema.json\n")


def test_an_editor_refuses_what_vsim_refuses(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    for old, new in [("4GiB", "4GB/s"), ("in_place", "inplace"), ("machine:", "machines:")]:
        text = TEXT.replace(old, new)
        assert list(validator.iter_errors(yaml.safe_load(text))), new
        path.write_text(text)
        with pytest.raises(InputError):
            load_scenario(path)
