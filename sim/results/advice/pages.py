"""Advice on pages: which are kept, where they lie, and how they are moved and read."""

from collections.abc import Iterator

from vsim.sim.results.advice.advice import Advice
from vsim.sim.results.advice.judged_run import Run
from vsim.sim.results.advice.kernel_times import decode_ns
from vsim.sim.results.run_settings import RunSettings

_FULL = 0.97  # share of a tier that counts as full


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
        min(run.roomier(wanted / has), 1.0),
        f"tiers.0.capacity={written}",
    )


def _moves(run: Run) -> bool:
    """Whether pages are evicted from HBM, so that they have to come back."""
    return bool(run.summary["tiers"][0]["evicted_pages"] > 0)


def caching_on(run: Run) -> Iterator[Advice]:
    """Keep prompts that the trace shares."""
    settings = run.settings
    engine = settings.scenario.engine
    if settings.has_prefixes and not engine.prefix_caching and engine.batching != "static":
        reused = min(1.0, settings.reusable_tokens / max(1, run.summary["tokens"]["prompt"]))
        yield Advice("prefix_caching: true", run.prompts(reused), "engine.prefix_caching=true")


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
    if settings.scenario.parallel.data > 1:
        return  # replicas would share it
    used = {tier.tier for tier in tiers}
    below = [tier for tier in settings.machine.tiers if tier.name not in used]
    below = [tier for tier in below if tier.kind != "peer" or _peer_is_free(settings)]
    if below:
        most = max(below, key=lambda tier: tier.capacity.value)
        yield Advice(f"{most.name} as a tier under {tiers[-1].tier}", saves)


def _peer_is_free(settings: RunSettings) -> bool:
    return settings.cost.gpus < settings.machine.gpu.count


def balanced(run: Run) -> Iterator[Advice]:
    """Read part of the KV from the tiers attended in place, at the same time as HBM.

    Attention alone reads several tiers at once; weights come from HBM before and after it.
    """
    settings = run.settings
    engine, cost = settings.scenario.engine, settings.cost
    in_place = [tier for tier in settings.scenario.tiers[1:] if tier.access == "in_place"]
    if settings.recorded or engine.placement == "balanced" or not in_place:
        return
    beside = sum(settings.attend_bytes_per_s(tier.tier) for tier in in_place)
    # attention is slower than its reads, by which tiers are shared out
    keys_ns = decode_ns(cost.curves, run.decoding, run.context) / (run.decoding * run.context)
    hbm = min(cost.hbm_read_bytes_per_s, 1e9 * cost.kv_read_bytes_per_token / keys_ns)
    saves = run.part("hbm_kv") * beside / (hbm + beside) + run.lower
    if run.part("hbm_kv") > 0:
        yield Advice("placement: balanced", saves, "engine.placement=balanced")


def copied_pages(run: Run) -> Iterator[Advice]:
    """Copy pages rather than map chunks."""
    if run.settings.scenario.engine.movement == "mapped":
        yield Advice("movement: paged", run.part("vmm"), "engine.movement=paged")


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
