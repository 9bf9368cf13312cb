"""A run as advice judges it: what the busy time went to, and what changes of it could save."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vsim.sim.results.advice.kernel_times import (
    decode_ratio,
    least_products_ns,
    quickest_flops_per_s,
)
from vsim.sim.results.run_settings import RunSettings

_BODY = ("compute", "hbm_weights", "hbm_kv", "small_kernels")


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
    def in_steps(self) -> float:
        """Share of the busy time in which steps launch, talk or compute over HBM alone."""
        return self.part("launch", "communication", *_BODY)

    @property
    def held_back(self) -> bool:
        """Whether requests waited for room or were preempted for want of it."""
        waited = self.summary["wait_s_by_cause"].get("capacity", 0) > 0
        return bool(self.summary["preemptions"] > 0 or waited)

    @property
    def queued(self) -> bool:
        """Whether requests waited for admission."""
        return (self.summary["admission_wait_ms"]["mean"] or 0) > 0

    @property
    def with_prompts(self) -> float:
        """Share of the steps that compute parts of prompts, at most.

        Such a step uses up the token budget, or ends some prompt. Prompts end once for each
        admission; so many steps as all tokens fill use up the budget.
        """
        summary, step = self.summary, self.summary["step"]
        if not step["count"]:
            return 0.0
        ends = summary["requests"]["completed"] + summary["preemptions"]
        tokens = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
        full = tokens / self.settings.scenario.engine.token_budget
        return float(min(1.0, ends / step["count"] + full))

    @property
    def tokens_with_prompts(self) -> float:
        """Tokens of a mean step that computes parts of prompts, at least."""
        step, share = self.summary["step"], self.with_prompts
        of_prompts = step["mean_prefill_tokens"] / share if share else 0.0
        of_step = float(step["mean_prefill_tokens"] + step["mean_decode_tokens"])
        return max(1.0, float(of_prompts), of_step)

    @cached_property
    def again(self) -> float:
        """Share of the busy time that goes, at most, to computing what room would have kept.

        That is what was computed beyond the prompts, after preemptions, and those parts of prompts
        that an unbounded cache would have held, as far as pages were lost.
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
        return self.prompts(min(1.0, tokens / computed))

    def prompts(self, share: float) -> float:
        """What computing a share of all prompt tokens less saves at most.

        With the tokens go their steps. Weights and KV are read by each step alike; arithmetic,
        launches of kernels one by one, small kernels and traffic may all be of steps with prompts.
        """
        steps = self.with_prompts
        in_them = self.part("compute", "launch", "small_kernels", "communication")
        return float(share * (in_them + steps * self.part("hbm_weights", "hbm_kv")))

    @cached_property
    def least_products(self) -> float:
        """Share of the busy time that products of all tokens take at least, in whatever batches."""
        step = self.summary["step"]
        tokens = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
        return self._busy_share(tokens * least_products_ns(self.settings.cost.curves))

    @cached_property
    def least_arithmetic(self) -> float:
        """The same of all FLOPs, at the highest rate that any kernel reaches."""
        cost = self.settings.cost
        busy = self.summary["compute_busy_share"] * busy_per_time(self.summary)
        return float(busy * cost.flops_per_s / quickest_flops_per_s(cost))

    @property
    def prefill_attention(self) -> float:
        """Share of the busy time that attention of prompts takes at most, of arithmetic.

        The rest is of products, which take `least_products` with what they wait for weights.
        """
        products = max(0.0, self.least_products - self.part("hbm_weights"))
        return max(0.0, self.part("compute") - products)

    @property
    def context(self) -> float:
        """Keys that a decode sees in the mean."""
        tokens = self.summary["tokens"]
        count = max(1, self.summary["requests"]["completed"])
        return float((tokens["prompt"] + tokens["output"] / 2) / count)

    @property
    def decoding(self) -> float:
        """Requests that decode in the mean step."""
        return max(1.0, float(self.summary["step"]["mean_decode_tokens"]))

    def _busy_share(self, step_ns: float) -> float:
        """Share of the busy time of what takes so long in a mean step."""
        step = self.summary["step"]
        if not self.summary["simulated_s"]:
            return 0.0
        share = 1e-9 * step_ns * step["count"] / self.summary["simulated_s"]
        return float(share * busy_per_time(self.summary))

    def batched(
        self,
        factor: float,
        *,
        smaller_kv: float = 1.0,
        smaller_weights: float = 1.0,
        quicker: float = 1.0,
        smaller: float = 1.0,
    ) -> float:
        """What `factor` times the batch saves at most: the same tokens in fewer steps.

        A step that does the work of several takes as long as the longest of them, at least.
        Besides, weights, small kernels and traffic are paid by step at least; products take their
        arithmetic at the least that a token takes in any batch, attention reads all KV, and one
        follows the other. Launches that a longer step hides are saved altogether.

        Args:
            factor: how many times fewer steps there are.
            smaller_kv: time of attention over KV after over before.
            smaller_weights: the same of reading weights.
            quicker: the same of arithmetic.
            smaller: the same of small kernels.
        """
        curves = self.settings.cost.curves
        kv = self.part("hbm_kv") * smaller_kv
        weights = self.part("hbm_weights") * smaller_weights
        arithmetic = self.part("compute") * quicker
        small = self.part("small_kernels") * smaller
        others = self.part("launch", "communication") + small
        slowest = (kv + weights + arithmetic + others) / factor
        kv *= min(1.0, decode_ratio(curves, curves, self.decoding, self.context, factor))
        kv *= 1 - self.with_prompts * (1 - 1 / curves.beside_prefill)
        paid = self.part("communication") + small
        paid += 0.0 if self.settings.hides_launches else self.part("launch")
        left = kv + max(weights / factor, self.least_products * quicker) + paid / factor
        left = max(left, self.least_arithmetic * quicker, slowest)
        return max(0.0, self.in_steps - left)

    def roomier(self, factor: float, *, smaller_kv: float = 1.0, quicker: float = 1.0) -> float:
        """What room for `factor` times as many tokens in HBM saves at most.

        Args:
            factor: how many times as many.
            smaller_kv: time of attention over KV after over before.
            quicker: the same of arithmetic.
        """
        if self.held_back:
            saved = self.batched(factor, smaller_kv=smaller_kv, quicker=quicker)
        else:
            saved = self.part("hbm_kv") * (1 - smaller_kv) + self.part("compute") * (1 - quicker)
        waits = self.part("idle_capacity", "idle_transfers") + self.lower
        return saved + waits + self.again


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
