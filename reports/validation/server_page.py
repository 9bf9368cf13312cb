"""The page of servers: figures over all runs, by class and by run, all from a check's outcome."""

from collections.abc import Iterator, Sequence
from statistics import median

from vsim.reports.validation.server_figures import AIMED, TITLES
from vsim.reports.validation.server_outcome import (
    LATENCIES,
    LatencyError,
    RunErrors,
    ServerOutcome,
    over_runs,
)

MADE = "<!-- made by `make servers`; method.md and reasons.md are written by hand -->"


def server_page(outcome: ServerOutcome, method: str, reasons: str, figures: Sequence[str]) -> str:
    """Return the page as Markdown.

    Args:
        outcome: what a check found.
        method: what was measured and fitted, and how to repeat it, as Markdown.
        reasons: why runs miss, as Markdown.
        figures: files beside the page, with a title each as `file: title`.
    """
    parts = ["# Predictions held against real servers\n", MADE, "", method.strip(), ""]
    parts += ["## Over all runs\n", *_overall(outcome), ""]
    parts += [f"![{title}]({name})\n" for name, title in (each.split(": ", 1) for each in figures)]
    parts += [reasons.strip(), "", "## By class\n", *_classes(outcome), ""]
    parts += ["## Every run\n", *_every(outcome), ""]
    if outcome.throughputs:
        parts += ["## The most that a server gave\n", *_throughputs(outcome), ""]
    return "\n".join(parts)


def _overall(outcome: ServerOutcome) -> Iterator[str]:
    aimed = ", ".join(f"{TITLES[name]} {AIMED[name]:g}" for name in LATENCIES)
    yield "Per request, the median over a run's requests, then the median over runs, in percent;"
    yield f"aimed for: {aimed}, and no run's E2E above 20. The floor is how far a median request"
    yield "differs between two plays of the same table, the median over runs.\n"
    yield "| runs | TTFT | TPOT | E2E | worst run's E2E |"
    yield "|---|---|---|---|---|"
    recorded = tuple(each for each in outcome.runs if each.recorded)
    for gpu in ("", "H200", "H100"):
        runs = tuple(each for each in recorded if gpu in each.gpu)
        if not runs:
            continue
        worst = max(runs, key=lambda each: each.latencies["e2e"].median)
        cells = " | ".join(f"{over_runs(runs, name):.1f}" for name in LATENCIES)
        told = f"{worst.latencies['e2e'].median:.0f}: `{worst.name}`"
        yield f"| {len(runs)} recorded{' on ' + gpu if gpu else ''} | {cells} | {told} |"
    floors = [_floor(recorded, name) for name in LATENCIES]
    if all(each is not None for each in floors):
        yield f"| the floor | {' | '.join(f'{each:.1f}' for each in floors)} | |"


def _floor(runs: Sequence[RunErrors], latency: str) -> float | None:
    spreads = [each.latencies[latency].spread for each in runs]
    known = [each for each in spreads if each is not None]
    return median(known) if known else None


def _classes(outcome: ServerOutcome) -> Iterator[str]:
    yield "Reached / tolerated, in percent (`sim/fidelity/tolerances.yaml`).\n"
    yield "| class | runs | TTFT | TPOT | E2E | worst E2E | makespan | preemptions |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in outcome.classes:
        figures, granted = each["figures"], each["tolerance"]
        if "e2e" not in figures:
            continue
        cells = [
            f"{figures[name]:.1f} / {granted.get(name, float('nan')):g}" if name in figures else "–"
            for name in ("ttft", "tpot", "e2e", "worst_e2e", "makespan", "preemptions")
        ]
        yield f"| {each['class']} | {each['runs']} | {' | '.join(cells)} |"


def _every(outcome: ServerOutcome) -> Iterator[str]:
    yield "A median request's error, in brackets signed, ± what repeats differ by; in percent."
    yield "Preemptions: predicted / measured, over all repeats."
    for name in outcome.names():
        yield f"\n### {name}\n"
        yield "| run | TTFT | TPOT | E2E | makespan | preemptions |"
        yield "|---|---|---|---|---|---|"
        for run in outcome.of_class(name):
            cells = " | ".join(_cell(run.latencies[latency]) for latency in LATENCIES)
            counted = run.preemptions
            told = "–" if counted is None else f"{counted[0]:.0f} / {counted[1]:.0f}"
            yield f"| `{run.name}` | {cells} | {run.makespan:+.1f} | {told} |"


def _cell(error: LatencyError) -> str:
    spread = "" if error.spread is None else f" ± {error.spread:.1f}"
    return f"{error.median:.1f} ({error.signed:+.1f}){spread}"


def _throughputs(outcome: ServerOutcome) -> Iterator[str]:
    yield "| figure | measured, tokens/s | predicted | off, % |"
    yield "|---|---|---|---|"
    for _, name, measured, predicted in outcome.throughputs:
        off = 100 * (predicted / measured - 1)
        yield f"| {name} | {measured:,.0f} | {predicted:,.0f} | {off:+.1f} |"
