"""Make decode loops of simulated runs: which request decoded in which steps, and what was copied.

    python -m vsim.sim.fidelity.gpu.loops_of_runs > build/loops.json
    mv build/loops.json sim/fidelity/gpu/loops.json

runs the scenarios below, whose logs hold each step's batch, and takes some of each run's steps.
Chunks of prompts are left out: a loop is of decodes. Steps without any are left out, too, and what
was copied beside them goes to the next.
"""

import sys
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vsim.sim.fidelity.gpu.case_json import case_text
from vsim.sim.fidelity.gpu.heads import Heads
from vsim.sim.fidelity.gpu.loop_cases import LoopCase, LoopCopy, Stay
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate


@dataclass(frozen=True, slots=True)
class Wanted:
    """A loop to make.

    Args:
        name: of the case.
        model: whose heads and layers; as the catalogue calls it.
        heads, layers: of that model.
        rate_per_s: arrivals.
        prompts, outputs: quantiles of tokens.
        hbm_gib: room for KV.
        host_gib: room in host memory; 0 for none.
        begin: the first step that is taken.
        steps: how many.
    """

    name: str
    model: str
    heads: Heads
    layers: int
    rate_per_s: float
    prompts: str
    outputs: str
    hbm_gib: int
    host_gib: int
    begin: int
    steps: int


LOOPS: Final = (
    Wanted("chat, Llama-3.1-8B", "llama-3.1-8b", Heads(32, 8, 128, 32), 32, 25,
           "0.5:900,0.9:2400,0.99:5000,1:8000", "0.5:300,0.9:600,0.99:900,1:1000",
           24, 0, 1500, 96),
    Wanted("chat with offload, Llama-3.1-8B", "llama-3.1-8b", Heads(32, 8, 128, 32), 32, 25,
           "0.5:900,0.9:2400,0.99:5000,1:8000", "0.5:300,0.9:600,0.99:900,1:1000",
           14, 64, 1500, 96),
    Wanted("long prompts with offload, Llama-3.1-8B", "llama-3.1-8b", Heads(32, 8, 128, 32), 32,
           3, "0.5:12000,0.9:30000,0.99:50000,1:60000", "0.5:200,0.9:400,0.99:600,1:700",
           20, 64, 600, 96),
    Wanted("chat with offload, Llama-2-7B", "llama-2-7b", Heads(32, 32, 128, 16), 32, 12,
           "0.5:700,0.9:1500,0.99:2500,1:3000", "0.5:200,0.9:400,0.99:600,1:700",
           20, 64, 800, 64),
)  # fmt: skip


def scenario_of(wanted: Wanted) -> Scenario:
    """The scenario that a loop is taken from."""
    tiers: list[dict[str, Any]] = [
        {"tier": "hbm", "capacity": f"{wanted.hbm_gib}GiB", "eviction": "lru"}
    ]
    if wanted.host_gib:
        lower = {"tier": "host", "capacity": f"{wanted.host_gib}GiB", "eviction": "lru"}
        tiers.append({**lower, "access": "promote", "write": "back"})
    return Scenario.model_validate(
        {
            "name": "loop",
            "seed": 5,
            "workload": {
                "synth": {
                    "requests": 400,
                    "arrivals": {"rate_per_s": wanted.rate_per_s},
                    "prompt_tokens": wanted.prompts,
                    "output_tokens": wanted.outputs,
                    "sessions": {
                        "turns_mean": 4,
                        "think_s_mean": 5,
                        "follow_up_tokens": "0.5:120,0.9:500,0.99:1500",
                        "most_tokens": 64000,
                        "system_prompts": 8,
                        "system_prompt_tokens": 1024,
                        "zipf": 1.0,
                    },
                }
            },
            "machine": "h200-measured",
            "model": wanted.model,
            "engine": {"max_running_requests": 96, "page_tokens": wanted.heads.page_tokens},
            "tiers": tiers,
            "output": {"operations": "all"},
        }
    )


def loop_of(wanted: Wanted, operations: pa.Table) -> LoopCase:
    """Take a loop out of a log of all operations.

    Raises:
        ValueError: the log has too few steps.
    """
    rows = operations.select(
        ["step", "kind", "source_tier", "target_tier", "pages", "rows", "new_tokens",
         "context_tokens"]
    ).to_pylist()  # fmt: skip
    number: dict[int, int] = {}
    decoding: list[dict[int, int]] = []
    for row in rows:
        if row["kind"] != "compute" or len(decoding) > wanted.begin + wanted.steps:
            continue
        batch = zip(row["rows"], row["new_tokens"], row["context_tokens"], strict=True)
        decodes = {request: context for request, new, context in batch if new == 1}
        number[row["step"]] = len(decoding)
        if decodes:
            decoding.append(decodes)
    taken = decoding[wanted.begin : wanted.begin + wanted.steps]
    if len(taken) < wanted.steps:
        raise ValueError(f"{wanted.name}: the run has {len(decoding)} steps with decodes")
    copies = []
    for row in rows:
        at = number.get(row["step"], -1) - wanted.begin if row["kind"] == "copy" else -1
        if 0 <= at < wanted.steps:
            copies.append(LoopCopy(at, row["source_tier"], row["target_tier"], len(row["pages"])))
    copies.sort(key=lambda copy: copy.step)
    return LoopCase(wanted.name, wanted.heads, wanted.layers, _stays(taken), tuple(copies))


def _stays(steps: list[dict[int, int]]) -> tuple[Stay, ...]:
    """Runs of steps in which a request decodes one after another, in order of their first step."""
    open_ones: dict[int, Stay] = {}
    done: list[Stay] = []
    for at, batch in enumerate(steps):
        for request, context in batch.items():
            before = open_ones.get(request)
            if before is not None and (before.first + before.steps, before.context + before.steps) \
                    == (at, context):  # fmt: skip
                open_ones[request] = Stay(before.first, before.steps + 1, before.context)
                continue
            if before is not None:
                done.append(before)
            open_ones[request] = Stay(at, 1, context)
    found = [*done, *open_ones.values()]
    return tuple(sorted(found, key=lambda stay: (stay.first, stay.context, stay.steps)))


def main() -> None:
    """Print the loops, one a line."""
    for wanted in LOOPS:
        result = simulate(scenario_of(wanted))
        assert result.operations is not None
        case = loop_of(wanted, result.operations)
        moved = sum(copy.pages for copy in case.copies) * case.page_bytes / 1e9
        batch = sum(stay.steps for stay in case.stays) / case.steps
        told = f"{case.name}: {batch:.1f} requests, {len(case.copies)} copies, {moved:.1f} GB"
        print(told, file=sys.stderr)
        print(case_text(case))


if __name__ == "__main__":
    main()
