"""A small scenario with copies both ways, for replays."""

from pathlib import Path

import pytest

SMALL = """
name: small
seed: 3
workload:
  synth:
    requests: 24
    arrivals: {rate_per_s: 6}
    prompt_tokens: "0.5:900,0.99:4000"
    output_tokens: "0.5:40,0.99:120"
    sessions: {turns_mean: 3, think_s_mean: 1, follow_up_tokens: "0.5:200,0.99:900"}
machine: h100
model: llama-3.1-8b
tiers:
  - tier: hbm
    capacity: 1GiB
  - tier: host
    capacity: 4GiB
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The scenario as a file."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path
