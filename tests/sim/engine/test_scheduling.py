"""Who is served first, and who gives way."""

from typing import Any

import numpy as np

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.traces.requests import Requests

from .conftest import make_requests, make_state
from .round_machine import COST, PAGES_OF_10, pages, round_machine


def run(requests: Requests, hbm_pages: int = 500, **engine: Any) -> EngineResult:
    tiers = [{"tier": "hbm", "capacity": pages(hbm_pages)}]
    settings = PAGES_OF_10 | engine
    return run_engine(make_state(requests, tiers, round_machine(), cost=COST, **settings))


def order(result: EngineResult) -> list[int]:
    """Requests in the order of their admission."""
    return np.argsort(result.admitted_ns, kind="stable").tolist()


def test_fcfs_serves_by_arrival() -> None:
    requests = make_requests([0, 1, 2, 3], [50] * 4, [5] * 4, priority=np.array([3, 2, 1, 0]))
    assert order(run(requests, max_running_requests=1)) == [0, 1, 2, 3]


def test_priority_serves_the_lowest_number_first_and_equals_by_arrival() -> None:
    requests = make_requests([0, 1, 2, 3, 4], [50] * 5, [5] * 5, priority=np.array([3, 2, 1, 2, 0]))
    # the first is alone when it comes
    found = run(requests, max_running_requests=1, scheduler="priority")
    assert order(found) == [0, 4, 2, 1, 3]


def test_preemption_takes_the_last_admitted_or_the_last_of_the_least_urgent() -> None:
    # three grow to 7 pages each, of which HBM holds 18
    arrays = {"arrival_ns": [0] * 3, "prompt_tokens": [50] * 3, "output_tokens": [20] * 3}
    requests = make_requests(**arrays, priority=np.array([0, 2, 1]))
    assert run(requests, 18).preemptions.tolist() == [0, 0, 1]
    assert run(requests, 18, scheduler="priority").preemptions.tolist() == [0, 1, 0]


def test_a_preempted_request_goes_before_those_that_still_wait() -> None:
    requests = make_requests([0, 0, 0], [50] * 3, [20] * 3)
    found = run(requests, 13, max_running_requests=2)
    assert found.preemptions.tolist() == [0, 1, 0]
    assert found.last_token_ns[1] < found.last_token_ns[2]


def _two_tenants(first: int, second: int) -> Requests:
    """Tenant a with many requests at once, then b with as many."""
    n = first + second
    tenant = np.repeat([0, 1], [first, second]).astype(np.int32)
    return make_requests(
        [0] * first + [1] * second, [50] * n, [5] * n, tenant=tenant, tenant_names=("a", "b")
    )


def test_fair_alternates_between_tenants_that_are_served_alike() -> None:
    requests = _two_tenants(4, 4)
    assert order(run(requests, max_running_requests=1)) == list(range(8))
    fair = order(run(requests, max_running_requests=1, scheduler="fair"))
    assert fair == [0, 4, 1, 5, 2, 6, 3, 7]


def test_fair_counts_tokens_and_not_requests() -> None:
    # a's prompts are three times as long: after each of them b is served three times
    tenant = np.repeat([0, 1], [3, 9]).astype(np.int32)
    requests = make_requests([0] * 3 + [1] * 9, [150] * 3 + [50] * 9, [1] * 12, tenant=tenant,
                             tenant_names=("a", "b"))  # fmt: skip
    found = order(run(requests, max_running_requests=1, scheduler="fair"))
    served = "".join("a" if row < 3 else "b" for row in found)
    assert served == "abbbabbbabbb"


def test_fair_gives_no_credit_for_absence() -> None:
    # b comes when a has been served 200 tokens, and alternates with it: it has nothing to make up
    tenant = np.repeat([0, 1], [8, 4]).astype(np.int32)
    arrival = [0] * 8 + [8_000] * 4
    requests = make_requests(arrival, [50] * 12, [1] * 12, tenant=tenant, tenant_names=("a", "b"))
    found = order(run(requests, max_running_requests=1, scheduler="fair"))
    served = "".join("a" if row < 8 else "b" for row in found)
    assert served.startswith("aaaa")
    assert served[4:] == "babababa"


def test_the_token_budget_is_given_to_the_running_before_the_waiting() -> None:
    requests = make_requests([0, 0, 0], [30, 30, 30], [10, 10, 10])
    found = run(requests, token_budget=32)
    # 30 + 2 of the second; the first's token, 28 and 3 of the third; …
    assert (found.step_log.prefill_tokens + found.step_log.decode_tokens)[:3].tolist() == [
        32,
        32,
        29,
    ]
    assert found.step_log.requests[:3].tolist() == [2, 3, 3]
