"""Advice: changes that could help a run, each only where its settings and use leave room for it.

`saves` is an upper limit, of the busy time: every part of it that the change can act on is counted
as if nothing else came in its way. A change of a setting is given as `--set` takes it, so that it
can be tried as it stands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vsim.sim.machine.machine import Precision
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.scenario.limits import MOST_REQUESTS_AT_ONCE, MOST_TOKEN_BUDGET
from vsim.sim.timing.step_cost import StepCost

LEAST_WORTH = 0.01
"""Advice that could save less is not given."""
_FULL = 0.97  # share of a tier that counts as full
_LOWER: Mapping[Precision, tuple[Precision, ...]] = {
    "bf16": ("fp8", "int8"), "fp8": ("int4",), "int8": ("int4",), "int4": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Advice:
    """One change.

    Args:
        text: the change in words.
        saves: share of the busy time that it saves at most.
        setting: the change as `--set` takes it; None where it is another machine or workload.
    """

    text: str
    saves: float
    setting: str | None = None


@dataclass(frozen=True, slots=True)
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

    @property
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


def changes(run: Run, kind: str) -> list[Advice]:
    """List what applies to a run that is bound by `kind`, the most promising setting first.

    Args:
        run: what happened.
        kind: compute, hbm, capacity, transfers, vmm, lower_tier, communication or launch.
    """
    found = [advice for rule in _RULES[kind] for advice in rule(run) if advice.saves >= LEAST_WORTH]
    return sorted(found, key=lambda advice: -advice.saves)


def _roomier(run: Run, factor: float, *, smaller_kv: float = 1.0) -> float:
    """What room for `factor` times as many tokens in HBM saves at most, and smaller KV with it."""
    if run.held_back:
        saved = run.batched(factor, smaller_kv=smaller_kv)
    else:
        saved = run.part("hbm_kv") * (1 - smaller_kv)
    waits = run.part("idle_capacity", "idle_transfers") + run.lower
    return saved + waits + run.again


def kv_precision(run: Run) -> Iterator[Advice]:
    """Smaller KV: less to read and to move, and room for more."""
    settings = run.settings
    lower = next(iter(_LOWER[settings.scenario.precision.kv]), None)
    cost = None if lower is None else settings.cost_with(kv=lower)
    if cost is None:
        return
    ratio = cost.kv_bytes_per_token / settings.cost.kv_bytes_per_token
    saves = _roomier(run, 1 / ratio, smaller_kv=ratio)
    yield Advice(f"kv: {lower}", min(saves, 1.0), f"precision.kv={lower}")


def weight_precision(run: Run) -> Iterator[Advice]:
    """Smaller weights: less to read, more HBM for KV, and a faster rate where the GPU has one."""
    settings = run.settings
    found: list[Advice] = []
    for lower in _LOWER[settings.scenario.precision.weights]:
        cost = settings.cost_with(weights=lower)
        saves = 0.0 if cost is None else _smaller_weights(run, cost)
        if saves > 0:
            found.append(Advice(f"weights: {lower}", saves, f"precision.weights={lower}"))
    if found:
        yield max(found, key=lambda advice: advice.saves)  # of equals, the first


def _smaller_weights(run: Run, cost: StepCost) -> float:
    """What smaller weights save at most; 0 where unpacking them is slower than reading them."""
    old = run.settings.cost
    ratio = _ratio(cost.weight_read_bytes, old.weight_read_bytes)
    if old.expert_bytes:
        ratio = min(ratio, cost.expert_bytes / old.expert_bytes)
    quicker = old.flops_per_s / cost.flops_per_s
    direct = run.part("hbm_weights") * (1 - ratio) + run.part("compute") * (1 - quicker)
    growth = run.settings.hbm_growth(cost)
    if direct <= 0 or growth <= 1:
        return max(0.0, direct)
    waits = run.part("idle_capacity", "idle_transfers") + run.lower + run.again
    if run.held_back:
        direct = run.batched(growth, smaller_weights=ratio, quicker=quicker)
    return min(1.0, direct + waits)


def more_hbm(run: Run) -> Iterator[Advice]:
    """Let KV take more of the HBM that the weights leave."""
    settings = run.settings
    if settings.scenario.tiers[0].capacity is None:
        return
    most, has = settings.cost.kv_capacity_bytes, settings.hbm_bytes
    if most < 1.02 * has or not (run.held_back or run.lower or _moves(run)):
        return
    wanted = min(most, 2 * has)
    wanted = wanted >> 20 << 20 if wanted >> 20 << 20 > has else wanted
    written = f"{wanted >> 20}MiB" if wanted % 2**20 == 0 else f"{wanted}B"
    yield Advice(
        f"tiers.0.capacity: {written}",
        min(_roomier(run, wanted / has), 1.0),
        f"tiers.0.capacity={written}",
    )


def _moves(run: Run) -> bool:
    """Whether pages are evicted from HBM, so that they have to come back."""
    return bool(run.summary["tiers"][0]["evicted_pages"] > 0)


def more_gpus(run: Run) -> Iterator[Advice]:
    """Twice as many GPUs for each layer, where the machine has them and the traffic leaves a gain.

    Traffic is worked out for the mean step.
    """
    settings, old = run.settings, run.settings.cost
    if settings.recorded:
        return
    tensor = 2 * settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor)
    if cost is None:
        return
    hbm = _ratio(_hbm_time(cost), _hbm_time(old))
    saves = run.part("compute") * (1 - old.flops_per_s / cost.flops_per_s)
    saves += run.part("hbm_weights", "hbm_kv") * (1 - hbm)
    saves -= run.part("communication") * (_traffic_ratio(run, cost) - 1)
    if not run.part("communication"):
        saves -= _traffic_ns(run, cost) / _step_ns(run) * _in_steps(run)
    if saves < LEAST_WORTH:
        return
    growth = settings.hbm_growth(cost)
    saves += _roomier(run, growth) if growth > 1 else run.part("idle_transfers")
    yield Advice(f"parallel.tensor: {tensor}", min(saves, 1.0), f"parallel.tensor={tensor}")


def fewer_gpus(run: Run) -> Iterator[Advice]:
    """Half as many GPUs for each layer, where the model fits and traffic costs more than it gains.

    Traffic is worked out for the mean step.
    """
    settings, old = run.settings, run.settings.cost
    tensor = settings.scenario.parallel.tensor
    cost = settings.cost_with(tensor=tensor // 2) if tensor > 1 and tensor % 2 == 0 else None
    if cost is None:
        return
    saved = run.part("communication") * (1 - _traffic_ratio(run, cost))
    lost = run.part("compute") * (old.flops_per_s / cost.flops_per_s - 1)
    lost += run.part("hbm_weights", "hbm_kv") * (_ratio(_hbm_time(cost), _hbm_time(old)) - 1)
    if saved - lost >= LEAST_WORTH:
        yield Advice(f"parallel.tensor: {tensor // 2}", saved, f"parallel.tensor={tensor // 2}")


def _ratio(new: float, old: float) -> float:
    """How many times as much; 1 where there is nothing to change."""
    return new / old if old else 1.0


def _hbm_time(cost: StepCost) -> float:
    return cost.weight_read_bytes / cost.hbm_read_bytes_per_s


def _traffic_ns(run: Run, cost: StepCost) -> float:
    step = run.summary["step"]
    tokens = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
    return cost.curves.communication.at(tokens)


def _traffic_ratio(run: Run, cost: StepCost) -> float:
    now = _traffic_ns(run, run.settings.cost)
    return _traffic_ns(run, cost) / now if now else 0.0


def _step_ns(run: Run) -> float:
    return float(max(1e6 * run.summary["step"]["mean_ms"], 1.0))


def _in_steps(run: Run) -> float:
    return 1 - run.part("idle_transfers", "idle_capacity")


def larger_batch(run: Run) -> Iterator[Advice]:
    """A larger limit of the batch, where it is what holds requests back."""
    engine = run.settings.scenario.engine
    if run.settings.recorded:
        return
    limit = engine.max_running_requests
    reached = run.summary["concurrent_requests"]["peak"] >= limit
    if not reached or run.held_back or not run.queued or 2 * limit > MOST_REQUESTS_AT_ONCE:
        return
    yield Advice(
        f"max_running_requests: {2 * limit}",
        run.batched(2),
        f"engine.max_running_requests={2 * limit}",
    )


def larger_budget(run: Run) -> Iterator[Advice]:
    """A larger token budget, where steps use up theirs on parts of prompts."""
    engine, step = run.settings.scenario.engine, run.summary["step"]
    budget = engine.token_budget
    used = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
    if engine.batching == "static" or used < 0.8 * budget or 2 * budget > MOST_TOKEN_BUDGET:
        return
    # a prompt in half as many parts has its context read half as often
    saves = run.batched(2, smaller_kv=0.5)
    yield Advice(f"token_budget: {2 * budget}", saves, f"engine.token_budget={2 * budget}")


def more_traces(run: Run) -> Iterator[Advice]:
    """More traces that decode side by side."""
    if run.settings.recorded:
        yield Advice("twice the traces in workload.attention", run.batched(2))


def caching_on(run: Run) -> Iterator[Advice]:
    """Keep prompts that the trace shares."""
    settings = run.settings
    engine = settings.scenario.engine
    if settings.has_prefixes and not engine.prefix_caching and engine.batching != "static":
        reused = min(1.0, settings.reusable_tokens / max(1, run.summary["tokens"]["prompt"]))
        steps = run.summary["step"]["bound_share"].get("compute", 0.0)
        saves = reused * (run.part("compute") + steps * (run.part("hbm_kv") + run.each_step))
        yield Advice("prefix_caching: true", saves, "engine.prefix_caching=true")


def larger_lowest_tier(run: Run) -> Iterator[Advice]:
    """More room in the lowest tier, where cached pages are lost from it."""
    settings, tiers = run.settings, run.settings.scenario.tiers
    last = run.summary["tiers"][-1]
    full = last["peak_bytes"] >= _FULL * last["capacity_bytes"]
    if not settings.caching or not full or not last["dropped_pages"]:
        return
    saves = run.again
    has, given = settings.machine.tier(tiers[-1].tier).capacity.value, tiers[-1].capacity
    if len(tiers) > 1 and given is not None and has >= 1.02 * given:
        wanted = min(has, 2 * given) >> 20
        place = f"tiers.{len(tiers) - 1}.capacity"
        yield Advice(f"{place}: {wanted}MiB", saves, f"{place}={wanted}MiB")
        return
    used = {tier.tier for tier in tiers}
    below = [tier for tier in settings.machine.tiers if tier.name not in used]
    below = [tier for tier in below if tier.kind != "peer" or _peer_is_free(settings)]
    if below:
        most = max(below, key=lambda tier: tier.capacity.value)
        yield Advice(f"{most.name} as a tier under {tiers[-1].tier}", saves)


def _peer_is_free(settings: RunSettings) -> bool:
    return settings.cost.gpus < settings.machine.gpu.count


def balanced(run: Run) -> Iterator[Advice]:
    """Read part of the KV from the tiers attended in place, at the same time as HBM."""
    settings = run.settings
    engine, hbm = settings.scenario.engine, settings.cost.hbm_read_bytes_per_s
    in_place = [tier for tier in settings.scenario.tiers[1:] if tier.access == "in_place"]
    if settings.recorded or engine.placement == "balanced" or not in_place:
        return
    beside = sum(settings.attend_bytes_per_s(tier.tier) for tier in in_place)
    saves = run.part("hbm_weights", "hbm_kv") * beside / (hbm + beside)
    if run.part("hbm_kv") > 0:
        yield Advice("placement: balanced", saves, "engine.placement=balanced")


def copied_pages(run: Run) -> Iterator[Advice]:
    """Copy pages rather than map chunks."""
    if run.settings.scenario.engine.movement == "mapped":
        yield Advice("movement: paged", run.part("vmm"), "engine.movement=paged")


def what_hbm_holds(run: Run) -> Iterator[Advice]:
    """So few requests at a time that HBM holds them, where that is faster than reading below it.

    A step then takes what it takes without the wait for the lower tier, and its HBM part, which
    hid behind that wait; but more steps are needed.
    """
    settings, tiers = run.settings, run.summary["tiers"]
    if settings.recorded or settings.caching:
        return
    held = sum(tier["mean_bytes"] for tier in tiers)
    at_once = run.summary["concurrent_requests"]["mean"]
    fit = int(at_once * tiers[0]["capacity_bytes"] / held) if held else 0
    if not 1 <= fit < at_once:
        return
    hidden = tiers[0].get("read_busy_share", 0.0) * busy_per_time(run.summary)
    hidden = max(0.0, hidden - run.part("hbm_weights", "hbm_kv"))
    if (1 - run.lower + hidden) * at_once / fit < 1:
        yield Advice(
            f"max_running_requests: {fit}", run.lower, f"engine.max_running_requests={fit}"
        )


def promoting(run: Run) -> Iterator[Advice]:
    """Copy cached pages to HBM before they are read, where HBM has room for them."""
    settings, hbm = run.settings, run.summary["tiers"][0]
    if settings.recorded or not settings.caching:
        return
    roomy = hbm["mean_bytes"] < 0.9 * hbm["capacity_bytes"] and not run.held_back
    for index, tier in enumerate(settings.scenario.tiers[1:], start=1):
        used = run.summary["tiers"][index]["hit_tokens"] > 0
        if tier.access == "in_place" and used and roomy:
            place = f"tiers.{index}.access"
            yield Advice(f"access: promote in {tier.tier}", run.lower, f"{place}=promote")


def another_placement(run: Run) -> Iterator[Advice]:
    """Another placement of recorded pages: the certified gap says how much it can save."""
    if "placement" in run.summary:
        gap = run.summary["placement"]["gap"]
        yield Advice("another placement", gap / (1 + gap))


def faster_arithmetic(run: Run) -> Iterator[Advice]:
    """Another GPU."""
    yield Advice("twice the arithmetic rate", run.part("compute") / 2)


def faster_hbm(run: Run) -> Iterator[Advice]:
    """Another GPU."""
    yield Advice("twice the HBM bandwidth", run.part("hbm_weights", "hbm_kv") / 2)


def larger_hbm(run: Run) -> Iterator[Advice]:
    """Another GPU."""
    yield Advice("a GPU with room for twice the KV", min(_roomier(run, 2.0), 1.0))


def faster_way(run: Run) -> Iterator[Advice]:
    """Another link, or another memory."""
    way, _ = busiest_way(run.summary)
    way = way if "bandwidth" in way else f"bandwidth of {way}"
    yield Advice(f"twice the {way}", max(run.part("idle_transfers"), run.lower) / 2)


def faster_gpu_link(run: Run) -> Iterator[Advice]:
    """Another machine."""
    yield Advice(
        "GPU links of twice the bandwidth and half the latency", run.part("communication") / 2
    )


def quicker_launch(run: Run) -> Iterator[Advice]:
    """Another runtime."""
    yield Advice("half the launch overhead", run.part("launch") / 2)


def quicker_vmm(run: Run) -> Iterator[Advice]:
    """Another driver, or larger pages."""
    yield Advice("VMM calls of half the time", run.part("vmm") / 2)


_RULES = {
    "compute": (weight_precision, more_gpus, caching_on, larger_lowest_tier, faster_arithmetic),
    "hbm": (kv_precision, weight_precision, more_gpus, larger_batch, larger_budget, balanced,
            more_traces, faster_hbm),
    "capacity": (kv_precision, weight_precision, more_hbm, more_gpus, larger_hbm),
    "transfers": (kv_precision, more_hbm, faster_way),
    "vmm": (copied_pages, quicker_vmm),
    "lower_tier": (kv_precision, more_hbm, what_hbm_holds, promoting, another_placement,
                   faster_way),
    "communication": (fewer_gpus, faster_gpu_link),
    "launch": (larger_batch, larger_budget, more_traces, quicker_launch),
}  # fmt: skip


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
