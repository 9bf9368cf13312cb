"""`--over`: which values a range has, and which scenarios come of them."""

from pathlib import Path

import pytest

from vsim.sim.goodput.grid import configurations, parse_over
from vsim.traces.faults import InputError

SCENARIO = """\
name: s
workload: {trace: t.arrow}
machine: h100
model: llama-3.1-8b
engine: {loading: always, token_budget: 8192}
tiers:
  - {tier: hbm}
  - {tier: host, capacity: 64GiB}
  - {tier: nvme, capacity: 1TiB}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return str(tmp_path / "s.yaml")


def fault(*texts: str) -> str:
    with pytest.raises(InputError) as raised:
        parse_over(texts)
    return str(raised.value.faults[0])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..1TiB", ("0", "16GiB", "64GiB", "256GiB", "1TiB")),
        ("16GiB..1TiB", ("16GiB", "64GiB", "256GiB", "1TiB")),
        ("1GiB..3GiB", ("1GiB", "3GiB")),
        ("0..1TiB/3", ("0", "16GiB", "1TiB")),
        ("1GiB..16GiB/5", ("1GiB", "2GiB", "4GiB", "8GiB", "16GiB")),
        ("1GiB..2GiB/3", ("1GiB", "1448MiB", "2GiB")),
        ("0B | 64GiB|100GB", ("0", "64GiB", "100GB")),
    ],
)
def test_a_range_rises_in_equal_steps_and_a_list_is_as_written(
    text: str, values: tuple[str, ...]
) -> None:
    (axis,) = parse_over([f"tiers.1.capacity = {text}"])
    assert axis.field == "tiers.1.capacity"
    assert axis.values == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiers.1.capacity", "'tiers.1.capacity' varies nothing; write it like tiers.1.capacity=0"),
        ("a=1|2,a=3", "a is there twice"),
        ("a=1||2", "holds an empty value"),
        ("a=1|1", "holds a value twice"),
        ("a=1TiB..1GiB", "does not rise"),
        ("a=1..2", "'1' is not a size"),
        ("a=1GiB..", "is no range"),
        ("a=1GiB..2GiB/1", "asks for 1 values; write 2 to 64"),
        ("a=0..2GiB/2", "asks for 2 values; write 3 to 64"),
        ("a=1GiB..2GiB/65", "asks for 65 values"),
    ],
)
def test_what_is_no_grid_is_refused_with_what_to_write(text: str, words: str) -> None:
    assert words in fault(text)


def test_the_last_field_goes_fastest_and_0_leaves_a_tier_out(scenario: str) -> None:
    axes = parse_over(["tiers.1.capacity=0|64GiB,tiers.2.capacity=0|1TiB"])
    found = configurations(scenario, ["engine.token_budget=4096"], axes)
    assert [[tier.tier for tier in each.scenario.tiers[1:]] for each in found] == [
        [], ["nvme"], ["host"], ["host", "nvme"],
    ]  # fmt: skip
    assert [each.name for each in found] == [
        "no host, no nvme", "no host, nvme 1TiB", "host 64GiB, no nvme", "host 64GiB, nvme 1TiB",
    ]  # fmt: skip
    assert {each.scenario.engine.token_budget for each in found} == {4096}
    # what is about tiers below goes with the last of them
    assert ["loading" in each.scenario.engine.model_fields_set for each in found] == [
        False, True, True, True,
    ]  # fmt: skip


def test_without_over_the_scenario_is_as_written(scenario: str) -> None:
    (only,) = configurations(scenario, [], ())
    assert only.name == "as written"
    assert len(only.scenario.tiers) == 3


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("tiers.0.capacity=0|8GiB", "--over tiers.0.capacity: 0 leaves HBM out"),
        (
            "tiers.7.capacity=0|8GiB",
            "--over tiers.7.capacity: there is no tier 7; they are counted",
        ),
        ("tiers.7.capacity=8GiB|9GiB", "--over tiers.7.capacity: 'tiers' is a list of 3"),
        ("engine.token_budget=1|x", "--over engine.token_budget: "),
        ("engine.budget=1|2", "--over engine.budget"),
    ],
)
def test_a_value_that_the_scenario_can_t_take_is_told_of_its_option(
    scenario: str, over: str, words: str
) -> None:
    with pytest.raises(InputError) as raised:
        configurations(scenario, [], parse_over([over]))
    assert words in str(raised.value.faults[0])


def test_a_grid_without_end_is_refused(scenario: str) -> None:
    many = "|".join(map(str, range(1, 41)))
    axes = parse_over([f"seed={many},engine.token_budget={many}"])
    with pytest.raises(InputError, match="asks for 1,600 configurations; write at most 1,024"):
        configurations(scenario, [], axes)
