"""Memory does not grow with the number of steps, and little with the number of requests."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUN = """
import sys
from tests.peak_memory import peak_bytes
from tests.sim.engine.conftest import make_requests
from vsim.sim import simulate
from vsim.sim.scenario.scenario import Scenario

scenario = Scenario.model_validate({
    "name": "memory", "machine": "h100", "model": "llama-3.1-8b", "tiers": [{"tier": "hbm"}],
    "workload": {"trace": "none"},
})
for requests, output in ([2_000, 5], [2_000, 5], *eval(sys.argv[1])):
    # a token takes less than 10 ms: each request is alone
    trace = make_requests([10_000_000 * output * i for i in range(requests)],
                          [100] * requests, [output] * requests)
    out = sys.argv[2] if len(sys.argv) > 2 else None
    result = simulate(scenario, requests=trace, out=out, steps=False)
    print(result.summary["step"]["count"], peak_bytes())
"""


def peaks(runs: list[tuple[int, int]], *out: str) -> list[tuple[int, int]]:
    """Steps of each run of (requests, tokens of an answer), and the process's peak by its end."""
    command = [sys.executable, "-c", RUN, str(runs), *out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(int(steps), int(peak)) for steps, peak in lines][2:]


def test_ten_times_the_steps_take_the_memory_of_one_and_a_request_no_more_than_400_bytes() -> None:
    """All in one process, whose peak never falls."""
    (few, before), (many, after), (_, idle), (_, full) = peaks(
        [(1_000, 200), (1_000, 2_000), (1_000, 2), (201_000, 2)]
    )
    assert few == 200_000  # a request that is alone takes a step for each token of its answer
    assert many == 2_000_000
    assert after - before < 24 << 20  # 1,800,000 steps more, each of 9 numbers
    assert 0 < full - idle < 200_000 * 400


def test_a_run_that_is_written_takes_no_more_for_ten_times_the_steps(tmp_path: Path) -> None:
    (_, before), (many, after) = peaks([(1_000, 200), (1_000, 2_000)], str(tmp_path / "out"))
    assert many == 2_000_000
    assert after - before < 24 << 20
