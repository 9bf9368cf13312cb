"""Many tenants and priorities: the class that goes next is the one a search through all finds."""

from dataclasses import replace

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.drivers import drive
from vsim.sim.engine.run import collect, run_engine

from .conftest import CheckedBackend, assert_same, make_requests, make_state
from .worlds import World, draw_world

SEEDS = range(3_000, 3_024)


def with_many_classes(world: World, seed: int) -> World:
    """The same requests, sent by up to 5,000 tenants at up to 50 priorities."""
    draw = np.random.Generator(np.random.PCG64(seed))
    n, classes = len(world.requests), int(draw.choice([2, 7, 50, 5_000]))
    requests = replace(
        world.requests,
        tenant=draw.integers(0, classes, n).astype(np.int32),
        tenant_names=tuple(map(str, range(classes))),
        priority=draw.integers(-25, 25, n).astype(np.int32),
    )
    scheduler = str(draw.choice(["fair", "fair", "priority"]))
    return replace(world, requests=requests, engine=world.engine | {"scheduler": scheduler})


@pytest.mark.parametrize("seed", some(SEEDS, 3))
def test_the_heaps_find_what_a_search_finds_before_every_wait(seed: int) -> None:
    """`CheckedBackend` compares them, see `check_classes`; the fast driver gives the same."""
    world = with_many_classes(draw_world(seed), seed)
    state = world.state()
    oracle = collect(state, drive(state, CheckedBackend(state)), 0)
    assert_same(run_engine(world.state()), oracle)
    assert_same(run_engine(world.state(), mode="events"), oracle)


def test_of_tenants_served_equally_the_first_goes_first() -> None:
    # nobody was served yet: by their number, whatever order they came in
    n = 40
    order = np.random.Generator(np.random.PCG64(5)).permutation(n).astype(np.int32)
    requests = make_requests(
        [0] * n, [100] * n, [1] * n, tenant=order, tenant_names=tuple(map(str, range(n)))
    )
    found = run_engine(make_state(requests, scheduler="fair", max_running_requests=1))
    assert np.argsort(found.admitted_ns).tolist() == np.argsort(order).tolist()


def test_the_least_served_goes_next() -> None:
    # While tenant 0 runs the others come, each with nothing served. Tenant 1 goes first, then
    # tenant 2, which was served less by then, and tenant 1's second request last.
    requests = make_requests(
        [0, 1, 1, 2],
        [600, 300, 300, 100],
        [1, 1, 1, 1],
        tenant=np.array([0, 1, 1, 2], np.int32),
        tenant_names=("0", "1", "2"),
    )
    state = make_state(requests, scheduler="fair", max_running_requests=1)
    found = run_engine(state)
    assert np.argsort(found.admitted_ns).tolist() == [0, 1, 3, 2]
    assert state.arrays["g"]["service"].tolist() == [600, 600, 100]


def test_a_tenant_that_comes_back_starts_with_the_least_service_of_the_active() -> None:
    # Tenant 0 keeps the server busy, 300 tokens a request; tenant 1 comes when the second one runs
    # and 300 were served. Without credit for its absence it takes turns from there on.
    n = 6
    requests = make_requests(
        [0] * n + [14_000_000] * 4,
        [300] * n + [300] * 4,
        [1] * (n + 4),
        tenant=np.array([0] * n + [1] * 4, np.int32),
        tenant_names=("0", "1"),
    )
    state = make_state(requests, scheduler="fair", max_running_requests=1)
    found = run_engine(state)
    served_before = int((found.last_token_ns[:n] <= 14_000_000).sum())
    assert served_before == 1
    # equal ones by number: tenant 0 goes on, then each in turn
    assert np.argsort(found.admitted_ns).tolist() == [0, 1, 6, 2, 7, 3, 8, 4, 9, 5]
    assert state.arrays["g"]["service"].tolist() == [1_800, 300 + 1_200]
