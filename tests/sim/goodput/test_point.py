"""The key of a run: the same as long as its figures are, and another as soon as they may differ."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.sim.goodput.queues import arriving, server

from vsim.sim.goodput.point import Origin, Point, trace_hash
from vsim.sim.scenario.scenario import Scenario

REQUESTS = arriving(np.arange(5, dtype=np.int64))
ORIGIN = Origin("program", (trace_hash(REQUESTS), "another"))
POINT = Point(server(), 0, ".", (("ttft", 5),), 1)


def with_scenario(**changes: object) -> Point:
    return replace(POINT, scenario=POINT.scenario.model_copy(update=changes))


def test_names_and_places_change_no_key() -> None:
    moved = POINT.scenario.workload.model_copy(update={"trace": "elsewhere/t.arrow"})
    for same in (with_scenario(name="x", description="y"), with_scenario(workload=moved)):
        assert ORIGIN.key(same) == ORIGIN.key(POINT)


def test_whatever_a_figure_may_follow_from_changes_it() -> None:
    scenario = POINT.scenario
    others = [
        with_scenario(seed=1),
        with_scenario(machine="h100"),
        with_scenario(workload=scenario.workload.model_copy(update={"rate_scale": 2.0})),
        with_scenario(engine=scenario.engine.model_copy(update={"token_budget": 4096})),
        replace(POINT, trace=1),
        replace(POINT, limits_ns=(("ttft", 6),)),
        replace(POINT, first=0),
        replace(POINT, follows_stores=True),
    ]
    keys = [ORIGIN.key(each) for each in (POINT, *others)]
    keys.append(replace(ORIGIN, program="other").key(POINT))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("column", ["arrival_ns", "prompt_tokens", "think_ns", "tenant"])
def test_any_column_of_a_trace_changes_its_hash(column: str) -> None:
    values = getattr(REQUESTS, column).copy()
    values[3] += 1
    assert trace_hash(replace(REQUESTS, **{column: values})) != trace_hash(REQUESTS)


def test_the_content_of_a_model_s_file_is_in_the_key(tmp_path: Path) -> None:
    catalogue = Path(__file__).parents[3] / "sim" / "model" / "catalogue"
    text = (catalogue / "llama-3.1-8b.yaml").read_text()
    scenario: Scenario = POINT.scenario.model_copy(update={"model": "mine.yaml"})
    point = replace(POINT, scenario=scenario, base=str(tmp_path))
    keys = []
    for content in (text, text, f"{text}# changed\n"):
        (tmp_path / "mine.yaml").write_text(content)
        keys.append(ORIGIN.key(point))
    assert keys[0] == keys[1] != keys[2]
