"""Advice on another machine: which figure of it, were it better, would help most."""

from collections.abc import Iterator

from vsim.sim.results.advice.advice import Advice
from vsim.sim.results.advice.judged_run import Run, busiest_way
from vsim.sim.results.advice.kernel_times import slower_when_sustained


def faster_arithmetic(run: Run) -> Iterator[Advice]:
    """Another GPU; if it is done sooner, it may never lower its clock."""
    settings = run.settings
    slower = slower_when_sustained(settings.cost.curves, settings.most_tokens)
    yield Advice("twice the arithmetic rate", run.part("compute") * (1 - 0.5 / slower))


def faster_hbm(run: Run) -> Iterator[Advice]:
    """Another GPU."""
    read = run.part("hbm_weights", "hbm_kv", "small_kernels")
    yield Advice("twice the HBM bandwidth", read / 2)


def larger_hbm(run: Run) -> Iterator[Advice]:
    """Another GPU."""
    yield Advice("a GPU with room for twice the KV", min(run.roomier(2.0), 1.0))


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
    """Another runtime. What half of a launch takes may be hidden, and then no step waits for it."""
    waited = run.part("launch")
    hidden = run.settings.hides_launches
    saves = min(waited, run.in_steps / 2) if hidden else waited / 2
    yield Advice("half the launch overhead", saves)


def quicker_vmm(run: Run) -> Iterator[Advice]:
    """Another driver, or larger pages."""
    yield Advice("VMM calls of half the time", run.part("vmm") / 2)
