"""A study as a JSON document and as one Arrow table, a run a row."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from vsim.sim.goodput.answer import Answer, PricedRun, pareto
from vsim.sim.goodput.measured import ClassGoodput
from vsim.sim.goodput.prices import Prices
from vsim.sim.goodput.recommendation import chosen, recommendation
from vsim.sim.goodput.slo import METRICS, STATISTICS, Slo
from vsim.traces.schema import schema_of

TABLE: Final = "size_runs"
RESULTS: Final = "size"


def document(
    scenario: str, answers: Sequence[Answer], slo: Slo | None, prices: Prices
) -> dict[str, Any]:
    """Give all of a study but its runs' latencies, which are in the table.

    Args:
        scenario: its name.
        answers: of its configurations.
        slo: the promises, or None.
        prices: what things cost.
    """
    best = chosen(answers)
    return {
        "scenario": scenario,
        "slo": None if slo is None else slo.text(),
        "prices": {"date": prices.date.isoformat(), "note": prices.note},
        "recommendation": list(recommendation(answers, slo)),
        "chosen": best.name,
        "pareto": [each.name for each in pareto(answers)],
        "configurations": [_configuration(each) for each in answers],
    }


def _configuration(answer: Answer) -> dict[str, Any]:
    broken, above = answer.first_broken, answer.studied.above
    return {
        "name": answer.name,
        "changes": list(answer.studied.configuration.changes),
        "offered_at_load_1_per_s": None if answer.offered is None else answer.offered.per_s,
        "offered_unit": None if answer.offered is None else answer.offered.unit,
        "runs": len(answer.runs),
        "monotone": answer.studied.monotone,
        "best": None if answer.best is None else _run(answer.best),
        "above": None if above is None else {"rate_scale": above.rate_scale, **_kept(above.kept)},
        "first_broken": None if broken is None else broken.name,
        "head_room": answer.head_room,
        "cost": {
            "gpus": answer.hourly.gpus,
            "usd_per_hour": answer.hourly.usd,
            "gpus_usd_per_hour": answer.hourly.gpus_usd,
        },
        "tiers": [{**asdict(tier.cost), **_without(asdict(tier), "cost")} for tier in answer.tiers],
    }


def _run(run: PricedRun) -> dict[str, Any]:
    measured = run.tried.measured
    simulated_s = measured.simulated_ns / 1e9
    return {
        "rate_scale": run.tried.rate_scale,
        "offered_per_s": run.offered_per_s,
        "good_per_s": run.good_per_s,
        "usd_per_million_output_tokens": run.usd_per_million_output,
        "usd_per_million_tokens": run.usd_per_million,
        **_kept(run.tried.kept),
        "classes": [_class(each, simulated_s) for each in measured.classes],
        "measured": measured.model_dump(mode="json"),
    }


def _class(each: ClassGoodput, simulated_s: float) -> dict[str, Any]:
    return {
        "name": each.name,
        "requests": each.requests,
        "good_share": each.good / each.requests,
        "good_per_s": each.good / simulated_s,
        "good_output_tokens_per_s": each.output_tokens / simulated_s,
    }


def _kept(kept: Sequence[Any]) -> dict[str, Any]:
    return {"promises": [asdict(each) for each in kept]}


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def runs_table(answers: Sequence[Answer]) -> pa.Table:
    """Give every run, of one configuration after another, by load."""
    rows = [
        _row(number, answer, run) for number, answer in enumerate(answers) for run in answer.runs
    ]
    return pa.Table.from_pylist(rows, schema=schema_of(TABLE))


def _row(number: int, answer: Answer, run: PricedRun) -> dict[str, Any]:
    measured, best = run.tried.measured, answer.best
    latencies = {
        f"{metric}_{statistic}_ns": measured.latency_ns[metric][statistic]
        for metric in METRICS
        for statistic in STATISTICS
    }
    return {
        "configuration": number,
        "changes": answer.name,
        "rate_scale": run.tried.rate_scale,
        "offered_per_s": run.offered_per_s,
        "met": run.tried.met,
        "best": best is not None and best.tried.rate_scale == run.tried.rate_scale,
        "requests": measured.requests,
        "rejected": measured.rejected,
        "good": measured.good,
        "good_per_s": run.good_per_s,
        **latencies,
        "prompt_tokens": measured.prompt_tokens,
        "output_tokens": measured.output_tokens,
        "simulated_ns": measured.simulated_ns,
        "hit_ratio": measured.hit_ratio,
        "usd_per_hour": answer.hourly.usd,
        "usd_per_million_output": run.usd_per_million_output,
        "bound_by": measured.bound_by,
    }
