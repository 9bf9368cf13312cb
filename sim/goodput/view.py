"""What a person reads of a study: tables of 100 columns, and two sentences."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vsim.sim.goodput.answer import Answer, PricedRun
from vsim.sim.goodput.prices import Prices
from vsim.sim.goodput.recommendation import chosen, recommendation
from vsim.sim.goodput.slo import Slo
from vsim.sim.goodput.words import NONE, dollars, latency, load, percent, promise, rate, span
from vsim.traces.faults import one_line
from vsim.traces.units import format_bytes

WIDTH: Final = 100
_BUSY_SHOWN: Final = 3
_LEAST_BUSY: Final = 0.005


def show_study(
    title: str,
    answers: Sequence[Answer],
    slo: Slo | None,
    prices: Prices,
    counts: str,
    console: Console | None = None,
) -> None:
    """Print what came of a study.

    Args:
        title: scenario, model and machine.
        answers: of its configurations.
        slo: the promises, or None.
        prices: what things cost, and the day of that.
        counts: how many runs there were.
        console: where to print.
    """
    to = console or Console(width=WIDTH, highlight=False)
    to.print(Text(title, "bold"))
    promised = "each at its own load" if slo is None else f"highest load within {slo.text()}"
    to.print(Text(f"{promised} · {counts} · prices of {prices.date.isoformat()}"))
    to.print()
    best = chosen(answers)
    if len(answers) > 1:
        to.print(_configurations(answers, best, slo))
        to.print()
    if best.best is not None:
        if len(answers) > 1:
            to.print(Text(best.name, "bold"))
        for part in _detail(best, best.best, slo):
            to.print(part)
        to.print()
    for sentence in recommendation(answers, slo):
        to.print(Text(one_line(sentence)))


def _configurations(answers: Sequence[Answer], best: Answer, slo: Slo | None) -> Table:
    """One row a configuration: what was varied, a column a field, and its best load."""
    names = _latency_names(slo)
    fields = [one_line(label) for label in answers[0].studied.configuration.labels]
    figures = ("load", "good/s", *names, "hits", "$/h", "$/M output")
    table = _table(*fields, *figures, words=len(fields))
    for each in answers:
        run, mark = each.best, " *" if each is best else ""
        values = [one_line(value) for value in each.studied.configuration.values]
        values[-1] += mark
        if run is None:
            none = ["none", *[NONE] * (len(names) + 2)]
            table.add_row(*values, *none, f"{each.hourly.usd:.2f}", NONE)
            continue
        measured = run.tried.measured
        table.add_row(
            *values,
            f"{run.tried.rate_scale:g}",
            rate(run.good_per_s),
            *(latency(_latency(run, name)) for name in names),
            percent(measured.hit_ratio),
            f"{each.hourly.usd:.2f}",
            dollars(run.usd_per_million_output).removeprefix("$"),
        )
    return table


def _detail(answer: Answer, run: PricedRun, slo: Slo | None) -> Iterator[Table | Text]:
    if slo is not None:
        yield _loads(answer, slo)
        if not answer.studied.monotone:
            yield Text("not monotone: a load above the lowest that fails meets the SLO again")
    if answer.offered is not None and answer.offered.shrinks_pauses:
        yield Text(
            "note: with pacing: arrivals a higher load shortens the pauses within sessions too;"
            " pacing: think_times keeps them"
        )
    measured = run.tried.measured
    if slo is not None and len(measured.classes) > 1:
        yield Text()
        yield _classes(run)
    if answer.tiers:
        yield Text()
        yield _tiers(answer)
    yield Text()
    yield from _room(answer, run)


def _loads(answer: Answer, slo: Slo) -> Table:
    """The runs around the boundary: the highest that keeps the SLO, the next, and the farthest."""
    names = _latency_names(slo)
    table = _table("load", "offered", "kept", "good/s", "good", *names, "$/M output")
    for run in answer.runs:
        measured = run.tried.measured
        table.add_row(
            f"{run.tried.rate_scale:g}",
            load(answer, run),
            "yes" if run.tried.met else "no",
            rate(run.good_per_s),
            percent(measured.good / measured.requests),
            *(latency(_latency(run, name)) for name in names),
            dollars(run.usd_per_million_output).removeprefix("$"),
        )
    return table


def _classes(run: PricedRun) -> Table:
    table = _table("class", "requests", "good", "good/s", "good output tokens/s")
    seconds = run.tried.measured.simulated_ns / 1e9
    for each in run.tried.measured.classes:
        table.add_row(
            one_line(each.name), f"{each.requests:,}", percent(each.good / each.requests),
            rate(each.good / seconds), rate(each.output_tokens / seconds),
        )  # fmt: skip
    return table


def _tiers(answer: Answer) -> Table:
    table = _table(
        "tier", "capacity", "$/h", "hits save", "kept", "break-even", "written", "wear",
        "never loaded",
    )  # fmt: skip
    for tier in answer.tiers:
        never = NONE
        if tier.stored and tier.never_loaded is not None:
            never = f"{percent(tier.never_loaded / tier.stored)} of {tier.stored:,}"
        table.add_row(
            one_line(tier.cost.name),
            format_bytes(tier.cost.capacity_bytes),
            f"{tier.cost.usd_per_hour:.3f}",
            f"{dollars(tier.saved_usd_per_hour)}/h",
            span(tier.kept_s),
            span(tier.break_even_s),
            f"{format_bytes(tier.written_bytes_per_day)}/d",
            percent(tier.wear),
            never,
        )
    return table


def _room(answer: Answer, run: PricedRun) -> Iterator[Text]:
    """Say how near each promise is to its limit, and which resources are the busiest."""
    measured = run.tried.measured
    if run.tried.kept:
        kept = ", ".join(promise(each) for each in run.tried.kept)
        yield Text(f"head-room at the highest load: {kept}")
    busy = sorted(measured.busy.items(), key=lambda item: -item[1])[:_BUSY_SHOWN]
    shown = ", ".join(f"{name} {percent(share)}" for name, share in busy if share > _LEAST_BUSY)
    if shown:
        yield Text(f"busiest: {shown} of the time; {measured.peak_requests} requests at the peak")
    hourly = answer.hourly
    yield Text(
        f"{dollars(hourly.usd)} an hour, of that {dollars(hourly.gpus_usd)} for"
        f" {hourly.gpus} GPU{'s' if hourly.gpus > 1 else ''};"
        f" {dollars(run.usd_per_million)} a million tokens with those of prompts"
    )


def _latency_names(slo: Slo | None) -> tuple[str, ...]:
    """Which latencies are shown: those promised, of requests alone their 99 %."""
    if slo is None:
        return ("ttft_p99", "tpot_p99")
    names = (
        each.name if each.statistic is not None else f"{each.metric}_p99" for each in slo.objectives
    )
    return tuple(dict.fromkeys(names))[:_BUSY_SHOWN]


def _latency(run: PricedRun, name: str) -> int | None:
    metric, _, statistic = name.partition("_")
    return run.tried.measured.latency_ns[metric][statistic]


def _table(*columns: str, words: int = 1) -> Table:
    """Make a table without rules: the first `words` columns to the left, figures to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        left = index < words
        table.add_column(
            column, justify="left" if left else "right", no_wrap=not left, overflow="fold"
        )
    return table
