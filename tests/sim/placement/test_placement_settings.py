"""Every field of a placement scenario changes what it says it does, or is refused by name."""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from vsim.sim.inputs.yaml_input import YamlDocument
from vsim.sim.placement.bounding import bound
from vsim.sim.placement.scenario import (
    GenerateSettings,
    MemorySettings,
    PlacementScenario,
    SelectionSettings,
    TierSettings,
)
from vsim.traces.attention import AttentionTrace, write_attention
from vsim.traces.faults import InputError

BASE = """\
name: small
generate: {prompt_tokens: 600, steps: 30, heads: 6}
memory: {hbm_share: 0.25}
policies: [static, lru]
"""
WINDOW = "selection={kind: window, sinks: 1, window: 4}"
MASS = "selection={kind: top-mass, mass_share: 0.8}"
THREE = (
    "memory={tiers: [{tier: hbm, bandwidth: 5TB/s, share: 0.125},"
    " {tier: peer, bandwidth: 1TB/s, share: 0.25}, {tier: host, bandwidth: 200GB/s}]}"
)
ROUNDING, DRAWN = "policies=[static, lp-rounding]", "policies=[static, belady-error-50]"
FOLLOWS = "policies=[static, ewma-mass]"

CHANGES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "name": ((), "name=other", "scenario"),
    "description": ((), "description=of what", "description"),
    "attention": (("generate=null", "attention=two.arrow"), "attention=four.arrow", "bound_s"),
    "generate": ((), "generate={prompt_tokens: 900, steps: 30, heads: 6}", "bound_s"),
    "generate.prompt_tokens": ((), "generate.prompt_tokens=900", "bound_s"),
    "generate.steps": ((), "generate.steps=40", "bound_s"),
    "generate.requests": ((), "generate.requests=2", "bound_s"),
    "generate.heads": ((), "generate.heads=9", "bound_s"),
    "generate.kept": ((FOLLOWS,), "generate.kept=0.3", "policies"),
    "generate.variation": ((), "generate.variation=3", "bound_s"),
    "generate.seed": ((), "generate.seed=1", "bound_s"),
    "selection": ((), WINDOW, "bound_s"),
    "selection.kind": (("selection={}",), "selection={kind: dense}", "bound_s"),
    "selection.sparsity": ((), "selection.sparsity=0.6", "bound_s"),
    "selection.score": (
        ("generate=null", "attention=two.arrow"), "selection={score: quest}", "bound_s"),
    "selection.mass_share": ((MASS,), "selection.mass_share=0.5", "bound_s"),
    "selection.sinks": ((WINDOW,), "selection.sinks=3", "bound_s"),
    "selection.window": ((WINDOW,), "selection.window=6", "bound_s"),
    "memory": ((), "memory={hbm_share: 0.4}", "bound_s"),
    "memory.hbm_bandwidth": ((), "memory.hbm_bandwidth=1TB/s", "bound_s"),
    "memory.slow_bandwidth": ((), "memory.slow_bandwidth=1TB/s", "bound_s"),
    "memory.slow_tier": ((), "memory.slow_tier=peer", "case"),
    "memory.hbm_share": ((), "memory.hbm_share=0.4", "bound_s"),
    "memory.weights": ((), "memory.weights=5MB", "bound_s"),
    "memory.exclusive": ((), "memory.exclusive=true", "policies"),
    "memory.duplex": ((), "memory.duplex=false", "bound_s"),
    "memory.norm": ((), "memory.norm=4", "bound_s"),
    "memory.start": ((), "memory.start=empty", "bound_s"),
    "memory.tiers": ((), THREE, "bound_s"),
    "memory.tiers.tier": ((THREE,), "memory.tiers.1.tier=cxl", "case"),
    "memory.tiers.bandwidth": ((THREE,), "memory.tiers.1.bandwidth=2TB/s", "bound_s"),
    "memory.tiers.share": ((THREE,), "memory.tiers.1.share=0.5", "bound_s"),
    "time_per": ((), "time_per=layer", "bound_s"),
    "page_factor": ((), "page_factor=2", "bound_s"),
    "merge_heads": ((), "merge_heads=true", "bound_s"),
    "steps": ((), "steps=20", "bound_s"),
    "policies": ((), "policies=[static]", "policies"),
    "mip_seconds": ((ROUNDING,), "mip_seconds=0.2", "tried"),
    "seed": ((DRAWN,), "seed=7", "policies"),
}  # fmt: skip
"""By field: settings before it, the setting, and the part of the result that it changes."""

ONE_HEAD = ("generate=null", "attention=one.arrow")
REFUSALS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "name": ((), "name=", "name: nothing is not text"),
    "attention": ((), "attention=two.arrow", "both of attention and generate is given"),
    "generate": (("attention=two.arrow",), "generate.steps=30", "both of attention and generate"),
    "generate.prompt_tokens": ((), "generate.prompt_tokens=2147483647", "more than 2147483647"),
    "generate.steps": ((), "generate.steps=1000000000", "at most 16777215"),
    "generate.requests": ((), "generate.requests=1000000000", "at most 65536"),
    "generate.heads": ((), "generate.heads=1000000000", "at most 32768"),
    "generate.kept": ((), "generate.kept=0.1", "0.1 of the pages are drawn, and 0.2 of them"),
    "generate.variation": ((), "generate.variation=11", "at most 10"),
    "generate.seed": ((), "generate.seed=99999999999999999999", "at most 4611686018427387904"),
    "selection": ((), "selection={kind: dense, window: 3}", "does nothing for kind dense"),
    "selection.kind": ((), "selection.kind=some", "'some' is not known here"),
    "selection.sparsity": ((), "selection.sparsity=[0.8, 0.8]", "0.8 is listed above already"),
    "selection.score": ((WINDOW,), "selection.score=mass", "does nothing for kind window"),
    "selection.mass_share": ((), "selection.mass_share=0.5", "does nothing for kind top-share"),
    "selection.sinks": ((), "selection.sinks=3", "does nothing for kind top-share"),
    "selection.window": ((), "selection.window=3", "does nothing for kind top-share"),
    "memory": ((), "memory=3", "3 is not a group of fields"),
    "memory.hbm_bandwidth": ((THREE,), "memory.hbm_bandwidth=1TB/s", "stands beside memory.tiers"),
    "memory.slow_bandwidth": ((THREE,), "memory.slow_bandwidth=1TB/s", "stands beside"),
    "memory.slow_tier": ((THREE,), "memory.slow_tier=peer", "stands beside memory.tiers"),
    "memory.hbm_share": ((THREE,), "memory.hbm_share=0.4", "stands beside memory.tiers"),
    "memory.weights": ((), "memory.weights=0B", "write from 1B"),
    "memory.exclusive": ((), "memory.exclusive=2", "write true or false"),
    "memory.duplex": (("steps=5",), "memory.duplex=false", "no page is written"),
    "memory.norm": ((), "memory.norm=0.5", "of at least 1"),
    "memory.start": ((), "memory.start=warm", "'warm' is not known here"),
    "memory.tiers": ((), "memory.tiers=[{tier: hbm, bandwidth: 1TB/s}]", "write at least 2"),
    "memory.tiers.tier": ((THREE,), "memory.tiers.1.tier=hbm", "the name of another tier"),
    "memory.tiers.bandwidth": ((THREE,), "memory.tiers.1.bandwidth=0.1B/s", "write from 1B/s"),
    "memory.tiers.share": ((THREE,), "memory.tiers.2.share=0.1", "leave its share out"),
    "time_per": (ONE_HEAD, "time_per=layer", "the trace has one layer"),
    "page_factor": ((), "page_factor=1000000000", "more than the 40 of a whole context"),
    "merge_heads": (ONE_HEAD, "merge_heads=true", "the trace has one KV head a layer"),
    "steps": ((), "steps=31", "31 is more than the 30 recorded"),
    "policies": ((), "policies=[static, static]", "'static' is listed above already"),
    "mip_seconds": ((), "mip_seconds=0", "is for lp-rounding, which is not among the policies"),
    "seed": ((), "seed=0", "none of the policies draws"),
}  # fmt: skip
"""By field: settings before it, one that can't act or be, and what is said to it."""


def fields_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    return [prefix + name for name in model.model_fields]


EVERY_FIELD = [
    *fields_of(PlacementScenario),
    *fields_of(GenerateSettings, "generate."),
    *fields_of(SelectionSettings, "selection."),
    *fields_of(MemorySettings, "memory."),
    *fields_of(TierSettings, "memory.tiers."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Recordings of one, two and four heads with two scores; one head has one layer."""
    base = tmp_path_factory.mktemp("recorded")
    for name, layers, heads in (("one", 1, 1), ("two", 2, 1), ("four", 2, 2)):
        draw = np.random.Generator(np.random.PCG64(heads))
        rows = [(t, i, j) for t in range(20) for i in range(layers) for j in range(heads)]
        step, layer, head = (np.array(column) for column in zip(*rows, strict=True))
        counts = (160 + step) // 16 + 1
        scores = [draw.dirichlet(np.ones(n) / 3, 2).astype(np.float16) for n in counts]
        write_attention(
            AttentionTrace(
                step=step,
                request=np.zeros(len(rows), np.int64),
                layer=layer.astype(np.int32),
                kv_head=head.astype(np.int32),
                offsets=np.concatenate([[0], np.cumsum(counts)]),
                pages=np.concatenate([np.arange(n) for n in counts]).astype(np.int32),
                scores={
                    "mass": np.concatenate([s[0] for s in scores]),
                    "quest": np.concatenate([s[1] for s in scores]),
                },
                scales={},
                page_tokens=16,
                page_bytes=4096,
                prompt_tokens=160,
                source="drawn for a test",
            ),
            base / f"{name}.arrow",
        )
    return str(base)


@cache
def outcome(folder: str, *settings: str) -> dict[str, Any]:
    scenario = YamlDocument(BASE, "base.yaml", settings).validate(PlacementScenario)
    (case,) = bound(scenario, base=folder)
    found = case.as_json()
    # how long it took is no outcome
    for row in found["policies"].values():
        row.pop("planner_s_per_step", None)
    return found


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changes_what_it_is_for(
    folder: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, setting, part = CHANGES[field]
    if part == "tried":  # whether a search finds better pages is up to the clock
        asked = []
        monkeypatch.setattr(
            "vsim.sim.placement.policies.grouped_mip",
            lambda reads, tiers, solved, rounded, time_limit_s: (
                asked.append(time_limit_s) or rounded
            ),
        )
        bound(YamlDocument(BASE, "b", (*before, setting)).validate(PlacementScenario), base=folder)
        assert asked == [0.2]
        return
    assert outcome(folder, *before)[part] != outcome(folder, *before, setting)[part]


@pytest.mark.parametrize("field", REFUSALS)
def test_a_field_that_can_not_act_is_refused_with_the_reason(folder: str, field: str) -> None:
    before, setting, wanted = REFUSALS[field]
    with pytest.raises(InputError) as caught:
        outcome(folder, *before, setting)
    assert len(caught.value.faults) == 1
    assert wanted in str(caught.value)
    if before and "both of" not in wanted:
        outcome(folder, *before)  # what stands before it is no fault


def test_every_field_is_in_both_tables() -> None:
    assert set(CHANGES) == set(EVERY_FIELD)
    # any text describes; every other field can be wrong
    assert set(REFUSALS) == set(EVERY_FIELD) - {"description"}


def test_a_scenario_built_by_hand_meets_the_same_checks(folder: str) -> None:
    with pytest.raises(InputError, match=r"policies\.0: 'lruu' is no policy .*did you mean 'lru'"):
        bound(PlacementScenario(attention=("two.arrow",), policies=("lruu",)), base=folder)
    with pytest.raises(InputError, match=r"policies\.0: 'lp-rounding' is for two inclusive tiers"):
        bound(
            PlacementScenario(
                attention=("two.arrow",),
                policies=("lp-rounding",),
                memory=MemorySettings(exclusive=True),
            ),
            base=folder,
        )
    with pytest.raises(InputError, match="seed: does nothing: none of the policies draws"):
        bound(PlacementScenario(attention=("two.arrow",), policies=("lru",), seed=1), base=folder)
    with pytest.raises(InputError, match="steps: 21 is more than the 20 recorded"):
        bound(PlacementScenario(attention=("two.arrow",), policies=("lru",), steps=21), base=folder)
    faults = []
    for scenario in (
        PlacementScenario(attention=("two.arrow",), policies=("ewma-mass",), page_factor=2),
        PlacementScenario(
            attention=("two.arrow",), policies=("ewma-mass",), page_factor=2,
            memory=MemorySettings(exclusive=True),
        ),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            bound(scenario, base=folder)
        faults.append(str(caught.value))
    assert all(one == other for one, other in pairwise(faults))
    assert "'ewma-mass' follows attention mass; the trace has none" in faults[0]


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("mip_seconds=86401", "86401 is out of range; write a number of at most 86400"),
        ("mip_seconds=1e300", "1e+300 is out of range; write a number of at most"),
        ("mip_seconds=14401", "14401 s of search in each of 6 cases take 24.0 h; write at most"),
    ],
)
def test_a_search_of_more_than_a_day_is_refused_with_the_arithmetic(
    folder: str, setting: str, wanted: str
) -> None:
    cases = ("selection.sparsity=[0.7, 0.8]", "memory.hbm_share=[0.2, 0.3, 0.4]")
    with pytest.raises(InputError) as caught:
        outcome(folder, ROUNDING, *cases, setting)
    (fault,) = caught.value.faults
    assert "mip_seconds: " in str(fault)
    assert wanted in str(fault)


def test_faults_of_several_settings_are_shown_together(folder: str) -> None:
    with pytest.raises(InputError) as caught:
        outcome(
            folder, "policies=[static, lruu, fifo]", "seed=3", "mip_seconds=2", "selection.sinks=1"
        )
    places = [fault.place for fault in caught.value.faults]
    assert places == ["selection.sinks", "policies.1", "policies.2", "seed", "mip_seconds"]


@pytest.mark.parametrize("share", ["0.000001", "1"])
def test_all_policies_place_in_no_room_and_in_room_for_all(folder: str, share: str) -> None:
    given = ("generate=null", "attention=two.arrow", f"memory.hbm_share={share}")
    held = outcome(folder, *given, "policies=null", "steps=6")["policies"]
    assert all(row["gap"] >= 0 for name, row in held.items() if name != "unlimited-hbm")
    stacked = outcome(folder, *given, "policies=null", "steps=6", "memory.exclusive=true")
    assert all(row["gap"] >= 0 for row in stacked["policies"].values())
