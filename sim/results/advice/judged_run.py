"""A run as advice judges it: what the busy time went to, and what changes of it could save."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vsim.sim.results.run_settings import RunSettings


@dataclass(frozen=True)  # no slots: `again` is kept
class Run:
    """What happened in a run, and what it was told.

    Args:
        summary: without its verdict.
        share: parts of the busy time, which leaves out the time without a request.
        settings: what the run was told.
    """

    summary: Mapping[str, Any]
    share: Mapping[str, float]
    settings: RunSettings

    def part(self, *names: str) -> float:
        """Sum of some parts of the busy time."""
        return sum(self.share.get(name, 0.0) for name in names)

    @property
    def lower(self) -> float:
        """Share of the busy time in which steps wait for pages attended in place."""
        return sum(value for name, value in self.share.items() if name.startswith("lower_tier:"))

    @property
    def each_step(self) -> float:
        """What every step pays, whatever its batch: twice the batch halves it."""
        return self.part("hbm_weights", "launch", "communication")

    @property
    def held_back(self) -> bool:
        """Whether requests waited for room or were preempted for want of it."""
        waited = self.summary["wait_s_by_cause"].get("capacity", 0) > 0
        return bool(self.summary["preemptions"] > 0 or waited)

    @property
    def queued(self) -> bool:
        """Whether requests waited for admission."""
        return (self.summary["admission_wait_ms"]["mean"] or 0) > 0

    @cached_property
    def again(self) -> float:
        """Share of the busy time that goes, at most, to computing what room would have kept.

        That is what was computed beyond the prompts, after preemptions, and those parts of prompts
        that an unbounded cache would have held, as far as pages were lost. Such parts make a step
        bound by compute; with them go the other parts of as many steps.
        """
        summary, settings = self.summary, self.settings
        step = summary["step"]
        computed = step["mean_prefill_tokens"] * step["count"]
        if computed <= 0:
            return 0.0
        new = summary["tokens"]["prompt"] - summary["prefix_hit_tokens"]
        tokens = max(0.0, computed - new)
        lost = summary["tiers"][-1]["dropped_pages"] * summary["engine"]["page_tokens"]
        if settings.caching and lost > 0:
            tokens += min(lost, max(0, settings.reusable_tokens - summary["prefix_hit_tokens"]))
        steps = step["bound_share"].get("compute", 0.0)
        others = self.part("hbm_kv") + self.each_step
        return float(min(1.0, tokens / computed) * (self.part("compute") + steps * others))

    def batched(
        self,
        factor: float,
        *,
        smaller_kv: float = 1.0,
        smaller_weights: float = 1.0,
        quicker: float = 1.0,
    ) -> float:
        """What `factor` times the batch saves at most: the same tokens in fewer steps.

        Launches and weights are paid by step. The bodies then take at least the longer of all
        arithmetic and all that HBM still has to read, whatever of it hid behind the other before.

        Args:
            factor: how many times fewer steps there are.
            smaller_kv: size of the KV after over before.
            smaller_weights: the same of the weights.
            quicker: time of the arithmetic after over before.
        """
        per_time = busy_per_time(self.summary)
        bodies = self.part("compute", "hbm_weights", "hbm_kv")
        arithmetic = self.summary["compute_busy_share"] * per_time
        read = self.summary["tiers"][0].get("read_busy_share", 0.0) * per_time
        read = max(read, self.part("hbm_weights", "hbm_kv"))
        weights = read - self.part("hbm_kv")
        kv = self.part("hbm_kv") * smaller_kv
        left = max(arithmetic * quicker, weights * smaller_weights / factor + kv)
        fixed = self.part("launch", "communication") * (1 - 1 / factor)
        return float(max(0.0, bodies - left)) + fixed

    def roomier(self, factor: float, *, smaller_kv: float = 1.0) -> float:
        """What room for `factor` times as many tokens in HBM saves at most, with smaller KV."""
        if self.held_back:
            saved = self.batched(factor, smaller_kv=smaller_kv)
        else:
            saved = self.part("hbm_kv") * (1 - smaller_kv)
        waits = self.part("idle_capacity", "idle_transfers") + self.lower
        return saved + waits + self.again


def times_as_much(new: float, old: float) -> float:
    """How many times as much; 1 where there is nothing to change."""
    return new / old if old else 1.0


def busy_per_time(summary: Mapping[str, Any]) -> float:
    """Turn a share of the whole time into one of the time in which there were requests."""
    idle = summary["time_share"].get("idle_no_requests", 0.0)
    return 1 / (1 - idle) if idle < 1 else 1.0


def busiest_way(summary: Mapping[str, Any]) -> tuple[str, float]:
    """Return the link, or the memory under HBM, that is busy longest one way, and that share."""
    ways = [
        (max(link["forward_busy_share"], link["reverse_busy_share"]), f"link {link['name']}")
        for link in summary["links"]
    ]
    for tier in summary["tiers"][1:]:
        ways.append((tier.get("read_busy_share", 0.0), f"read bandwidth of {tier['name']}"))
        ways.append((tier.get("write_busy_share", 0.0), f"write bandwidth of {tier['name']}"))
    busy, name = max(ways, default=(0.0, "no link"))
    return name, busy
