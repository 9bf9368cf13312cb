"""A user's own policy in Python: loaded, called from compiled code, and its faults explained."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vsim.sim.eviction import dispatch
from vsim.sim.eviction.cache_replay import replay
from vsim.sim.eviction.state import TierPolicy, make_state
from vsim.sim.eviction.user import Holder, load
from vsim.traces.faults import InputError

from .test_twins import use_counts
from .user_lru import LRU


@pytest.fixture
def policy(tmp_path, monkeypatch, request):
    """Write a module whose name no other test has; give its name and its folder."""
    name = f"policy_{abs(hash(request.node.nodeid))}"
    monkeypatch.delitem(sys.modules, name, raising=False)

    def write(source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name, tmp_path

    return write


def zipf(n, accesses):
    weights = 1 / np.arange(1, n + 1)
    return np.random.Generator(np.random.PCG64(3)).choice(n, accesses, p=weights / weights.sum())


def test_a_users_lru_equals_the_one_that_comes_with_vsim(policy):
    module, folder = policy(LRU)
    keys = zipf(300, 5000)
    own = replay(keys, 40, f"{module}:Lru", folder=folder)
    assert own == replay(keys, 40, "lru")


def test_a_users_policy_sees_uses_releases_and_removals(policy):
    module, folder = policy(LRU)
    holder = Holder(f"{module}:Lru", load(f"{module}:Lru", folder), 4)
    twin = TierPolicy(0, 4)
    victims = []
    for tier in (holder.tier_policy(), twin):
        ev = make_state([tier], 10)
        used = use_counts(4)
        # Slots 2 and 3 hold the same content; 1 has no key.
        for slot, key in enumerate([5, -1, 7, 7]):
            dispatch.on_insert(ev, 0, slot, key, 1)
        dispatch.on_hit(ev, 0, 1)
        used[0] = 1
        taken = [dispatch.victim(ev, 0, used)]
        used[0] = 0
        dispatch.on_release(ev, 0, 0)
        dispatch.on_remove(ev, 0, 1)
        taken += [dispatch.victim(ev, 0, used) for _ in range(3)]
        victims.append(taken)
    holder.check()
    assert victims == [[2, 3, 0, -1]] * 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "write it like package.module:Class"),
        ("no.such.module:Policy", "can't be imported: ModuleNotFoundError"),
        ("json:Nothing", "json has no class Nothing"),
        ("json:JSONDecoderr", "did you mean 'JSONDecoder'?"),
        ("json:JSONDecoder", "lacks insert, touch, remove, victim"),
    ],
)
def test_a_policy_that_cannot_be_loaded_is_explained(name, says):
    with pytest.raises(InputError) as caught:
        load(name)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_module_that_fails_is_explained(policy):
    module, folder = policy("1 / 0")
    with pytest.raises(InputError, match="can't be imported: ZeroDivisionError: division by zero"):
        load(f"{module}:Policy", folder)


def test_a_class_that_takes_no_capacity_is_refused(policy):
    module, folder = policy(LRU.replace("self, capacity", "self"))
    with pytest.raises(InputError, match=r"write __init__\(self, capacity: int\)"):
        load(f"{module}:Lru", folder)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (("self.pages = {}", "raise OSError('no')"), r"\.py:4: __init__: .* raised OSError: no"),
        (("self.pages[page] = None", "raise KeyError(page)"), r"\.py:6: insert: .* KeyError: 0"),
        (("return page", "return 99"), "victim: returned 99, which is not a resident page"),
        (("return page", "return None"), "victim: returned None, which is not a resident page"),
        (("if evictable(page)", "if False"), "victim: gave no page though all could be evicted"),
    ],
)
def test_what_a_users_method_does_wrong_is_one_line(policy, broken, says):
    module, folder = policy(LRU.replace(*broken))
    with pytest.raises(InputError, match=says) as caught:
        replay(np.arange(5), 2, f"{module}:Lru", folder=folder)
    assert "\n" not in str(caught.value)


def test_a_victim_that_is_in_use_is_refused(policy):
    module, folder = policy(LRU.replace("if evictable(page)", "if True"))
    holder = Holder(f"{module}:Lru", load(f"{module}:Lru", folder), 1)
    ev = make_state([holder.tier_policy()], 1)
    dispatch.on_insert(ev, 0, 0, 0, 1)
    assert dispatch.victim(ev, 0, use_counts(1, 1)) == -1
    with pytest.raises(InputError, match="returned page 0, which is in use"):
        holder.check()


def test_compiled_calls_of_a_user_policy_are_kept_for_the_next_run(policy, tmp_path):
    module, folder = policy(LRU)
    script = f"""
import numpy as np
from pathlib import Path
from vsim.sim.eviction.cache_replay import replay
print(replay(np.arange(50) % 7, 5, "{module}:Lru", folder=Path({str(folder)!r})).hits)
print(replay(np.arange(50) % 4, 5, "{module}:Lru", folder=Path({str(folder)!r})).hits)
"""
    cache = tmp_path / "cache"

    def run():
        command = [sys.executable, "-c", script]
        environment = {"PATH": "", "NUMBA_CACHE_DIR": str(cache)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout, {path: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}

    first, compiled = run()
    second, reused = run()
    assert first == second == "0\n46\n"
    assert compiled
    assert compiled == reused
