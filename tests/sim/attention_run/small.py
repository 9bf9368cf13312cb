"""Small traces of attention, and a server of round figures on which runs can be worked out by hand.

A page of 10 tokens of one layer and head is 2,560 B; there are two layers of two heads. HBM reads
1,000 B in a nanosecond, the tier under it is read and written over a link of 250 each way. A step
launches for 1,000 ns; its products read weights for 10 ns or take 1 ns of arithmetic a token,
whichever is longer; then it writes 1.024 ns of KV a token; then its attention reads both tiers.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.sim.engine.round_machine import COST, round_machine

from vsim.sim.attention_run.run import run_attention
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.results.output import Result
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.attention import AttentionTrace, write_attention

PAGE_TOKENS, PAGE_BYTES, COLUMNS = 10, 2_560, 4
ROUND: StepCost = replace(
    COST,
    kv_bytes_per_token=1_024,
    kv_read_bytes_per_token=1_024.0,
    kv_write_bytes_per_token=1_024.0,
    weight_read_bytes=10_000.0,
)
MODEL = Model(
    name="small", layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn_hidden=512,
    vocabulary=1_000,
)  # fmt: skip
MODEL_YAML = """\
name: small
layers: 2
hidden: 256
heads: 4
kv_heads: 2
head_dim: 64
ffn_hidden: 512
vocabulary: 1000
"""


def trace(
    prompt_tokens: int,
    steps: int,
    *,
    seed: int = 0,
    layers: int = 2,
    kv_heads: int = 2,
    page_tokens: int = PAGE_TOKENS,
    page_bytes: int = PAGE_BYTES,
    **changes: Any,
) -> AttentionTrace:
    """A trace that holds every page, with mass that is drawn."""
    draw = np.random.Generator(np.random.PCG64(seed))
    rows, pages, mass = [], [], []
    for t in range(steps):
        context = (prompt_tokens + t) // page_tokens + 1
        for layer in range(layers):
            for head in range(kv_heads):
                rows.append((t, layer, head))
                pages.append(np.arange(context))
                mass.append(draw.dirichlet(np.full(context, 0.4)).astype(np.float16))
    step, layer_of, head_of = (np.array(column) for column in zip(*rows, strict=True))
    found = AttentionTrace(
        step=step,
        request=np.zeros(len(rows), np.int64),
        layer=layer_of.astype(np.int32),
        kv_head=head_of.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(p) for p in pages])]),
        pages=np.concatenate(pages).astype(np.int32),
        scores={"mass": np.concatenate(mass)},
        scales={},
        page_tokens=page_tokens,
        page_bytes=page_bytes,
        prompt_tokens=prompt_tokens,
        source="drawn for a test",
    )
    return replace(found, **changes)


def write(folder: Path, *traces: AttentionTrace) -> list[str]:
    """Write traces as a.arrow, b.arrow, …; their names."""
    names = [f"{chr(ord('a') + i)}.arrow" for i in range(len(traces))]
    for name, each in zip(names, traces, strict=True):
        write_attention(each, folder / name)
    return names


def scenario(
    names: list[str], *, hbm_pages: int = 8, write: str = "back", slow: str = "lpddr", **parts: Any
) -> Scenario:
    """A scenario on the round machine; `workload` is merged, `parts` replace other fields."""
    workload = {"attention": names, "selection": {"kind": "dense"}, **parts.pop("workload", {})}
    return Scenario.model_validate(
        {
            "name": "small",
            "workload": workload,
            "machine": "round",
            "model": "small",
            "placement": "static",
            "tiers": [
                {"tier": "hbm", "capacity": f"{hbm_pages * PAGE_BYTES}B"},
                {"tier": slow, "access": "in_place", "write": write},
            ],
            **parts,
        }
    )


def run(
    folder: Path,
    *traces: AttentionTrace,
    cost: StepCost = ROUND,
    machine: Machine | None = None,
    **settings: Any,
) -> Result:
    """Run traces on the round machine."""
    described = scenario(write(folder, *traces), **settings)
    return run_attention(described, machine or round_machine(), MODEL, cost, folder)
