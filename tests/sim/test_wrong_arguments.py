"""What Python passes and the command line can't: told in one line, before anything runs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.sim.prefixes.test_run_bound import trace

from vsim.sim import bound, load_scenario, simulate
from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import InputError

PLAIN = Scenario.model_validate(
    {
        "name": "plain", "machine": "h100", "model": "llama-3.1-8b",
        "workload": {"trace": "given"}, "tiers": [{"tier": "hbm"}],
    }
)  # fmt: skip
ROWS: Any = trace([[1, 2], [1, 2]], 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "quickstart.yaml"}, "scenario: is str; give Scenario, as load_scenario"),
        ({"scenario": None}, "scenario: is NoneType; give Scenario"),
        ({"requests": {"id": [1]}}, "requests: is dict; give Requests"),
        ({"mode": "quick"}, r"mode: 'quick' is unknown \(known: backend, events, fast\)"),
        (
            {"requests": replace(ROWS, block_tokens=16.5)},
            "requests: block_tokens: is 16.5; give a whole number",
        ),
        (
            {"requests": replace(ROWS, priority=np.ma.masked_array(ROWS.priority, [True, False]))},
            "requests: priority: is masked, and every row has a value",
        ),
    ],
)
def test_simulate_refuses_what_it_can_t_take(arguments: dict[str, Any], message: str) -> None:
    given: Any = {"scenario": PLAIN, "requests": ROWS, **arguments}
    with pytest.raises(InputError, match=f"^{message}"):
        simulate(**given)


def test_a_placement_is_bounded_of_a_placement_scenario_alone() -> None:
    with pytest.raises(InputError, match="scenario: is Scenario; give PlacementScenario"):
        bound(PLAIN)  # type: ignore[arg-type] # that is the test


def test_one_setting_is_no_list_of_them() -> None:
    """Text is a sequence of letters, each of which would be a fault."""
    with pytest.raises(InputError) as error:
        load_scenario("scenarios/quickstart.yaml", "seed=5")
    assert len(error.value.faults) == 1
