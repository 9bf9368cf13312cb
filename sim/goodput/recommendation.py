"""recommendation: what a study comes to, in two sentences with the numbers that carry it."""

from collections.abc import Sequence

from vsim.sim.goodput.answer import Answer, PricedRun, cheapest, pareto
from vsim.sim.goodput.slo import Slo
from vsim.sim.goodput.words import dollars, load, percent, promise, rate

_WORTH_SAYING = 0.02


def chosen(answers: Sequence[Answer]) -> Answer:
    """The configuration that is spoken of: the cheapest; the first where none has a price."""
    return cheapest(answers) or answers[0]


def recommendation(answers: Sequence[Answer], slo: Slo | None) -> tuple[str, str]:
    """Say which configuration to take, and what limits it.

    Args:
        answers: at least one.
        slo: the promises; None where each was run at its own load.
    """
    best = chosen(answers)
    if best.best is None:
        return _nothing_meets(best, slo)
    if slo is None:
        return _at_own_load(best, best.best, answers)
    return _take(best, best.best, answers, slo), _limit(best, best.best, answers)


def _named(answer: Answer, answers: Sequence[Answer]) -> str:
    return f"With {answer.name} it" if len(answers) > 1 else "It"


def _price(run: PricedRun) -> str:
    return f"{dollars(run.usd_per_million_output)} a million output tokens"


def _take(best: Answer, run: PricedRun, answers: Sequence[Answer], slo: Slo) -> str:
    times = (
        "" if best.head_room is None else f", {best.head_room:.3g} times the scenario's own load"
    )
    return (
        f"{_named(best, answers)} serves {load(best, run)} within {slo.text()}"
        f" (rate_scale {run.tried.rate_scale:g}{times}), at {_price(run)} and"
        f" {dollars(best.hourly.usd)} an hour."
    )


def _limit(best: Answer, run: PricedRun, answers: Sequence[Answer]) -> str:
    above, broken = best.studied.above, best.first_broken
    if above is None or broken is None:
        parts = ["Nothing broke at any load that was tried: the trace is too short to fill it"]
    else:
        beyond = next(each for each in best.runs if each.tried is above)
        bound = above.measured.step_bound_by
        parts = [
            f"At {load(best, beyond)} {promise(broken)} is the first to break, bound by {bound}"
        ]
    return "; ".join([*parts, *_beside(best, run, answers)]) + "."


def _beside(best: Answer, run: PricedRun, answers: Sequence[Answer]) -> list[str]:
    """What else carries the choice: more goodput for more money, or what the tiers bring."""
    found = []
    front = [each for each in pareto(answers) if each is not best and each.best is not None]
    if front and front[-1].best is not None and run.good_per_s:
        most, other = front[-1], front[-1].best
        more = other.good_per_s / run.good_per_s - 1
        if more >= _WORTH_SAYING:
            found.append(f"{most.name} serves {percent(more)} more at {_price(other)}")
    if best.tiers:
        saved = sum(tier.saved_usd_per_hour for tier in best.tiers)
        paid = sum(tier.cost.usd_per_hour for tier in best.tiers)
        names = " and ".join(tier.cost.name for tier in best.tiers)
        found.append(
            f"hits in {names} save {dollars(saved)} an hour of prefill for {dollars(paid)}"
        )
    worn = [tier for tier in best.tiers if tier.wear is not None and tier.wear > 1]
    found += [
        f"{tier.cost.name} is written {tier.wear:.1f} times as much a day as it is rated for"
        for tier in worn
    ]
    return found


def _nothing_meets(best: Answer, slo: Slo | None) -> tuple[str, str]:
    if not best.runs:
        return "Nothing was run.", ""
    lowest = best.runs[0]
    broken = max((k for k in lowest.tried.kept if not k.met), key=lambda each: each.strain)
    words = "" if slo is None else slo.text()
    return (
        f"No load meets {words}: at {load(best, lowest)}, the lowest that was tried, there is"
        f" {promise(broken)}.",
        f"There it is bound by {lowest.tried.measured.step_bound_by}: {lowest.tried.measured.why}.",
    )


def _at_own_load(best: Answer, run: PricedRun, answers: Sequence[Answer]) -> tuple[str, str]:
    dearest = max(answers, key=_output_price)
    against = ""
    if dearest is not best and _output_price(dearest):
        against = f", against {dollars(_output_price(dearest))} with {dearest.name}"
    measured = run.tried.measured
    first = (
        f"At its own load, {best.name if len(answers) > 1 else 'it'} gives"
        f" {rate(measured.output_tokens / (measured.simulated_ns / 1e9))} output tokens/s at"
        f" {_price(run)}{against}."
    )
    parts = [
        f"Of its prompts {percent(measured.hit_ratio)} are found cached and its steps are bound by"
        f" {measured.step_bound_by}",
        *_beside(best, run, [best]),
    ]
    return first, "; ".join(parts) + "."


def _output_price(answer: Answer) -> float:
    return (answer.best.usd_per_million_output if answer.best else None) or 0.0
