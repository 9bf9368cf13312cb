"""The published crossing, at a sixteenth of its size: host memory holds 16 agents and not 32."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from vsim.sim.goodput.grid import configurations, parse_over
from vsim.sim.goodput.measured import Measured
from vsim.sim.goodput.point import Point
from vsim.traces.request_check import check_requests
from vsim.traces.requests import Requests

REPOSITORY = Path(__file__).parents[3]
SCENARIO = REPOSITORY / "scenarios" / "sizing" / "metrum_agents.yaml"


@pytest.fixture(scope="module")
def drawn() -> ModuleType:
    spec = spec_from_file_location("users", REPOSITORY / "reports" / "sizing" / "users.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_user_works_through_25_rounds_that_grow(drawn: ModuleType) -> None:
    requests: Requests = drawn.users(5)
    check_requests(requests)
    assert len(requests) == 5 * 25
    for session in range(5):
        rows = [row for row in range(len(requests)) if requests.session[row] == session]
        assert len(rows) == 25
        assert requests.parent[rows].tolist() == [-1, *rows[:-1]]
        answered = requests.prompt_tokens[rows] + requests.output_tokens[rows]
        assert (requests.prompt_tokens[rows][1:] > answered[:-1]).all()


def test_host_memory_pays_until_sessions_outgrow_it_and_nvme_holds(drawn: ModuleType) -> None:
    small = ["tiers.0.capacity=17GiB", "engine.page_tokens=512"]
    over = parse_over(["tiers.1.capacity=0|64GiB,tiers.2.capacity=0|440GB"])
    kinds = {each.name: each.scenario for each in configurations(str(SCENARIO), small, over)}

    def run(users: int, kind: str) -> Measured:
        return Point(kinds[kind], 0, ".").measure([drawn.users(users)])

    alone, host, drives = "no host, no nvme", "host 64GiB, no nvme", "no host, nvme 440GB"
    few = {kind: run(16, kind) for kind in (alone, host)}
    many = {kind: run(32, kind) for kind in (alone, host, drives)}
    assert few[host].hit_ratio > 0.9 > 0.5 > many[host].hit_ratio
    assert many[drives].hit_ratio > 0.9
    for each in (few[alone], many[alone]):
        assert each.hit_ratio < 0.4
    # the same tokens in less time cost less: at 16 the host's memory pays, at 32 hardly
    assert few[host].simulated_ns < 0.9 * few[alone].simulated_ns
    assert many[drives].simulated_ns < many[host].simulated_ns
