"""Eviction policies in the engine: each has its own effect, and a user's in Python works."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.sim.eviction.user_lru import LRU

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.setup import build_state
from vsim.sim.eviction.state import POLICIES
from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import InputError

from .conftest import assert_same
from .worlds import World, draw_world


def run(world: World, folder: Path, **policies: str) -> EngineResult:
    """Run a world with other policies in some of its tiers."""
    tiers = [tier | {"eviction": policies.get(tier["tier"], "lru")} for tier in world.tiers]
    scenario = Scenario.model_validate(
        {
            "name": "test",
            "workload": {"trace": "none", "pacing": world.pacing},
            "machine": "h100",
            "model": "llama-3.1-8b",
            "engine": world.engine,
            "tiers": tiers,
            "output": {"operations": "transfers"},
        }
    )
    return run_engine(build_state(scenario, world.machine, world.cost, world.requests, folder))


def busy_world() -> World:
    """The first world that evicts from two tiers a lot."""
    for seed in range(100):
        world = draw_world(seed)
        if world.engine["prefix_caching"] and len(world.tiers) >= 2:
            evicted = [tier.evicted_pages for tier in run(world, Path()).tiers]
            if min(evicted[:2]) >= 15:
                return world
    raise AssertionError("no world evicts enough")


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world()


def traffic(result: EngineResult) -> tuple[Any, ...]:
    return tuple((t.hit_tokens, t.inserted_pages, t.evicted_pages) for t in result.tiers)


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"lru"}))
def test_each_policy_differs_from_lru_somewhere(policy: str, tmp_path: Path) -> None:
    differs = False
    for seed in range(40):
        drawn = draw_world(seed)
        policies = {tier["tier"]: policy for tier in drawn.tiers}
        differs = traffic(run(drawn, tmp_path)) != traffic(run(drawn, tmp_path, **policies))
        if differs:
            break
    assert differs


def test_a_users_lru_equals_the_built_in_one_bit_for_bit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_engine_lru.py").write_text(dedent(LRU))
    second = world.tiers[1]["tier"]
    names = {"hbm": "own_engine_lru:Lru", second: "own_engine_lru:Lru"}
    assert_same(run(world, tmp_path, **names), run(world, tmp_path))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('gone')", "KeyError"),
        ("return 10**9", "not a resident page"),
        ("return 'page'", "not a resident page"),
    ],
)
def test_a_users_mistake_ends_in_one_line_about_it(
    world: World, tmp_path: Path, body: str, said: str
) -> None:
    name = f"own_mistake_{abs(hash(body))}"
    source = dedent(LRU).replace(
        "    def victim(self, evictable):\n", f"    def victim(self, evictable):\n        {body}\n"
    )
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(InputError) as refused:
        run(world, tmp_path, hbm=f"{name}:Lru")
    assert len(refused.value.faults) == 1
    assert said in str(refused.value)
    assert name in str(refused.value)


def test_a_policy_that_gives_no_victim_is_told_so(world: World, tmp_path: Path) -> None:
    source = dedent(LRU).replace("if evictable(page)", "if False")
    (tmp_path / "own_silent.py").write_text(source)
    with pytest.raises(InputError, match="own_silent"):
        run(world, tmp_path, hbm="own_silent:Lru")
