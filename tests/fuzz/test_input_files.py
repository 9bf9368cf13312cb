"""A seeded part of the fuzzer of input files: each is simulated with sane numbers, or refused."""

from collections import Counter
from pathlib import Path

import pytest
from tests.fuzz.input_files import SCENARIOS, Files, case, check, outcome
from tests.seeds import examples

from vsim.sim.scenario.scenario import load_scenario
from vsim.sim.simulation import simulate

CASES = examples(200, 2)


@pytest.mark.parametrize("text", SCENARIOS)
def test_what_is_mutated_runs_as_it_is(text: str, tmp_path: Path) -> None:
    whole = case(0)
    (tmp_path / "scenario.yaml").write_text(
        text.replace("machine.yaml", "h100").replace("model.yaml", "llama-3.1-8b")
    )
    assert isinstance(whole, Files)
    check(simulate(load_scenario(tmp_path / "scenario.yaml"), base=tmp_path).summary)


def test_the_same_number_is_the_same_case() -> None:
    assert case(7) == case(7)
    assert len({case(number) for number in range(40)}) > 30


def test_a_mutated_file_is_simulated_with_sane_numbers_or_refused(tmp_path: Path) -> None:
    found = Counter(outcome(case(number), tmp_path) for number in range(CASES))
    assert found["refused"] > CASES / 2
    assert found["simulated"] > CASES / 20
