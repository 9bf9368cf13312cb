"""Where times and lengths end: named, and never a number that wrapped."""

from dataclasses import replace

import numpy as np
import pytest

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.demand import book_wait
from vsim.sim.engine.entry import world
from vsim.sim.engine.layout import CAPACITY, LAST_NS, SWAP_IN
from vsim.sim.engine.run import run_engine
from vsim.sim.results.metrics import distribution_ms
from vsim.traces.faults import InputError

from .conftest import make_requests, make_state
from .round_machine import COST, PAGES_OF_10, round_machine


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


def test_pages_held_for_a_long_time_are_booked_exactly() -> None:
    """One request's 100 pages stay cached until the next comes: pages times ns pass 2^63."""
    prefixes = [list(range(100)), list(range(100, 110))]
    machine = round_machine()

    def page_ns(gap_ns: int) -> int:
        requests = make_requests([0, gap_ns], [1_000, 100], [1, 1], prefixes, 10)
        state = make_state(requests, machine=machine, cost=COST, **PAGES_OF_10)
        return run_engine(state).tiers[0].page_ns

    short, long = 10**9, 2**59
    assert page_ns(long) - page_ns(short) == 100 * (long - short)  # the second's come with it
    assert 100 * long > 2**63


def test_tokens_held_over_long_steps_are_booked_exactly() -> None:
    """Steps of hours on a slow GPU: tokens times ns of one step pass 2^63."""
    slow = replace(COST, launch_ns=2**58)
    requests = make_requests([0], [1_000], [3])
    found = run_engine(make_state(requests, machine=round_machine(), cost=slow))
    assert found.step_log is not None
    lengths = (found.step_log.end_ns - found.step_log.start_ns).tolist()
    assert found.token_ns_used == sum(
        tokens * ns for tokens, ns in zip([1_000, 1_001, 1_002], lengths, strict=True)
    )
    assert found.token_ns_used > 2**63
    assert found.token_ns_reserved >= found.token_ns_used


@borrowing_kernel
def book(cause: int, waited: int, address: int) -> None:
    """Book a wait in a world."""
    book_wait(world(address), cause, waited)


def test_waits_of_one_cause_add_up_beyond_64_bits() -> None:
    state = make_state(make_requests([0], [100], [3]))
    for _ in range(40):
        book(SWAP_IN, 2**59 + 7, state.address)
        book(CAPACITY, 1, state.address)
    found = run_engine(state).wait_ns_by_cause
    assert found["swap_in"] == 40 * (2**59 + 7) > 2**63
    assert found["capacity"] == 40
    assert found["promotion"] == 0
