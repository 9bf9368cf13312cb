"""Where times and lengths end: named, and never a number that wrapped."""

import numpy as np
import pytest

from vsim.sim.engine.layout import LAST_NS
from vsim.sim.engine.run import run_engine
from vsim.sim.results.metrics import distribution_ms
from vsim.traces.faults import InputError

from .conftest import make_requests, make_state
from .round_machine import COST, round_machine


def test_a_request_longer_than_the_server_is_rejected_not_allocated() -> None:
    requests = make_requests([0, 0], [100, 2_000_000_000], [3, 3])
    state = make_state(requests)
    assert state.arrays["table"].nbytes < 1 << 28
    assert run_engine(state).status.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("prompt", "output"),
    [(20_000_000_000, 3), (3, 2**62), (2**31 - 10, 10), (2**63 - 5, 100), (1, 2**31 - 1)],
)
def test_more_tokens_than_the_engine_can_hold_are_refused_by_name(prompt: int, output: int) -> None:
    with pytest.raises(InputError, match=rf"request 1 has {prompt} \+ {output} tokens"):
        make_state(make_requests([0, 0], [5, prompt], [5, output]))


def test_the_longest_request_that_can_be_held_is_none_of_them() -> None:
    requests = make_requests([0], [2**31 - 11], [10])
    assert run_engine(make_state(requests)).status.tolist() == [1]


def test_an_arrival_after_the_end_of_time_is_refused() -> None:
    with pytest.raises(InputError, match="arrive after 36 years"):
        make_state(make_requests([0, LAST_NS + 1], [5, 5], [5, 5]))


@pytest.mark.parametrize("mode", ["fast", "events", "backend"])
def test_a_run_that_does_not_end_in_time_is_refused(mode: str) -> None:
    requests = make_requests([LAST_NS - 10], [100], [10])
    state = make_state(requests, machine=round_machine(), cost=COST)
    with pytest.raises(InputError, match="more than 36 years"):
        run_engine(state, mode=mode)  # type: ignore[arg-type] # a mode


@pytest.mark.parametrize("mode", ["fast", "events", "backend"])
def test_a_run_may_use_all_the_time_there_is(mode: str) -> None:
    requests = make_requests([0, LAST_NS - 10**9], [100, 100], [3, 3])
    state = make_state(requests, machine=round_machine(), cost=COST)
    found = run_engine(state, mode=mode)  # type: ignore[arg-type] # a mode
    assert found.status.tolist() == [0, 0]
    assert sum(found.time_ns.values()) == found.simulated_ns < LAST_NS


def test_the_mean_of_waits_that_add_up_beyond_64_bits_is_exact() -> None:
    ns = np.full(800_000, 2**44)
    assert int(ns.sum()) != 800_000 * 2**44  # what an int64 makes of it
    assert distribution_ms(ns)["mean"] == 2**44 / 1e6
