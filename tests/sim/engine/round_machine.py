"""A machine and step costs of round figures, so that times can be worked out by hand.

A step of t tokens that reads c tokens of context takes 1,000 ns of launch; then its products 1,000
ns for the weights, or t ns of arithmetic if that is longer; then t ns for writing KV; then c ns of
attention. A page of 10 tokens is 10,000 B: 1,000 ns over the link from host memory, behind 5,000 ns
of latency.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vsim.sim.machine.machine import Machine
from vsim.sim.timing.step_cost import StepCost

GB = 10**9
_SLOWEST = 10**6  # that a machine file may say

# name: kind, read and write bytes/s, latency in ns
MEMORIES = {
    "hbm": ("hbm", 1000 * GB, 1000 * GB, 0),
    "host": ("host", 100 * GB, 100 * GB, 1_000),
    "nvme": ("nvme", 8 * GB, 2 * GB, 80_000),
    "lpddr": ("lpddr", 500 * GB, 500 * GB, 0),
}

# source, target, bytes/s forward and in reverse, latency in ns, group
LINKS = (
    ("host", "hbm", 10 * GB, 10 * GB, 4_000, None),
    ("nvme", "host", 4 * GB, 4 * GB, 10_000, None),
    ("lpddr", "hbm", 250 * GB, 250 * GB, 0, None),
)

COST = StepCost(
    gpus=1,
    kv_bytes_per_token=1_000,
    kv_capacity_bytes=10**8,
    weight_bytes=10**6,
    micro_batches=1,
    launch_ns=1_000.0,
    comm_fixed_ns=0.0,
    comm_ns_per_token=0.0,
    flops_per_token=1e6,
    flops_per_sampled_token=0.0,
    flops_per_pair=0.0,
    flops_per_s=1e15,
    weight_read_bytes=1e6,
    expert_bytes=0.0,
    experts=0,
    experts_per_token=0,
    kv_read_bytes_per_token=1_000.0,
    kv_write_bytes_per_token=1_000.0,
    window_tokens=0,
    window_share=0.0,
    hbm_read_bytes_per_s=1e12,
    hbm_write_bytes_per_s=1e12,
    attend_exponent=float("inf"),
)

PAGES_OF_10 = {"block_tokens": 10, "page_tokens": 10, "reclaim_low": 0.0, "reclaim_high": 0.0}


def pages(count: int) -> str:
    """So many pages of 10 tokens as a capacity."""
    return f"{count * 10_000}B"


def _round(value: Any) -> dict[str, Any]:
    return {"value": value, "source": "assumption", "note": "round"}


def round_machine(
    memories: Mapping[str, tuple[str, int, int, int]] | None = None,
    links: Sequence[tuple[str, str, int, int, int, str | None]] = LINKS,
    groups: Mapping[str, int] | None = None,
    copy_weight: float = 1.0,
    **parts: Any,
) -> Machine:
    """Build the machine. `memories` replaces some of MEMORIES, `parts` adds any other field.

    Links may be slower than a machine file may say.
    """
    rate = _round(10**15)
    machine = Machine.model_validate(
        {
            "name": "round",
            "description": "round figures",
            "gpu": {
                "name": "round",
                "flops": {"bf16": rate},
                "flops_efficiency": _round(1.0),
                "hbm_efficiency": _round(1.0),
                "memory_utilisation": _round(1.0),
            },
            "tiers": [
                {
                    "name": name,
                    "kind": kind,
                    "capacity": _round(10**12),
                    "read": _round(float(read)),
                    "write": _round(float(write)),
                    "latency": _round(latency),
                    "attend_in_place": kind != "nvme",
                    "page_granularity": _round(10_000),
                }
                for name, (kind, read, write, latency) in (MEMORIES | dict(memories or {})).items()
            ],
            "links": [
                {
                    "source": source,
                    "target": target,
                    "bandwidth": _round(float(max(forward, _SLOWEST))),
                    "reverse_bandwidth": _round(float(max(reverse, _SLOWEST))),
                    "latency": _round(latency),
                    "group": group,
                }
                for source, target, forward, reverse, latency, group in links
            ],
            "groups": [
                {"name": name, "bandwidth": _round(float(rate))}
                for name, rate in (groups or {}).items()
            ],
            "attend": {"exponent": _round(None), "copy_weight": _round(copy_weight)},
            "launch": {"step_overhead": _round(1_000)},
            "power": {"idle_w": _round(1.0), "max_w": _round(2.0)},
            **parts,
        }
    )
    slow = [
        link.model_copy(
            update={
                "bandwidth": link.bandwidth.model_copy(update={"value": float(forward)}),
                "reverse_bandwidth": link.bandwidth.model_copy(update={"value": float(reverse)}),
            }
        )
        for link, (_, _, forward, reverse, _, _) in zip(machine.links, links, strict=True)
    ]
    return machine.model_copy(update={"links": tuple(slow)})
