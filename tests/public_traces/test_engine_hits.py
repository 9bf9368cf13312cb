"""On Mooncake's trace in fixed order the engine's hits equal an independent replay's exactly."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.sim.engine.conftest import make_state
from tests.sim.engine.lru_replay import one_at_a_time, replay_lru
from tests.sim.engine.round_machine import COST, round_machine

from vsim.sim.engine.run import run_engine
from vsim.traces.importers import import_requests
from vsim.traces.requests import Requests

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("VSIM_TRACES") or REPOSITORY.parent / "shared" / "traces")

pytestmark = pytest.mark.public_traces


@cache
def mooncake() -> Requests:
    path = FOLDER / "mooncake_conversation.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no public trace {path.name}: set VSIM_TRACES to the folder that holds it")
    return one_at_a_time(import_requests(path).requests)


@pytest.mark.parametrize("capacity", [1_000, 3_000, 10_000, 30_000, 100_000])
def test_block_hits_equal_an_lru_list_in_plain_python(capacity: int) -> None:
    requests = mooncake()
    tiers = [{"tier": "hbm", "capacity": f"{capacity * 512 * COST.kv_bytes_per_token}B"}]
    settings = {"block_tokens": 512, "page_tokens": 512, "reclaim_low": 0.0, "reclaim_high": 0.0}
    state = make_state(requests, tiers, round_machine(), cost=COST, token_budget=8192, **settings)
    result = run_engine(state)
    expected = np.array(replay_lru(requests, capacity))
    assert (expected >= 0).all()
    np.testing.assert_array_equal(result.hit_tokens // 512, expected)
    assert (result.status == 0).all()
