"""`vsim record fit`: fit head profiles to recordings, and hold what they draw against them."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vsim.traces.attention import AttentionTrace, read_attention
from vsim.traces.attention_curves import (
    CACHE_SHARES,
    DISTANCES,
    QUANTILES,
    SHARES,
    curves_of,
)
from vsim.traces.attention_fit import (
    LAGS,
    PROFILES,
    HeadProfile,
    HeadStatistics,
    fit,
    short_of_a_fit,
    statistics,
    write_profiles,
)
from vsim.traces.attention_generator import GeneratorSpec, generate
from vsim.traces.faults import Fault, InputError
from vsim.traces.writing import FreshFile, check_apart, file_target, fresh_file

CURVES = "attention_curves"
Curves = dict[str, list[float]]


def fit_recordings(recordings: Sequence[Path], out: Path, curves: Path | None) -> None:
    """Fit profiles and write them; with `curves`, compare and write those as well.

    Raises:
        InputError: a recording cannot be read, or is too short, or is of another model; or an
            output cannot be written.
    """
    targets = [file_target(out, PROFILES, "--out")]
    if curves is not None:
        targets.append(file_target(curves, CURVES, "--curves"))
    check_apart(targets)
    with ExitStack() as stack:
        file = stack.enter_context(fresh_file(out, PROFILES, inputs=recordings, option="--out"))
        other = None
        if curves is not None:
            other = stack.enter_context(
                fresh_file(curves, CURVES, inputs=recordings, option="--curves")
            )
        _fit(recordings, file, other)


def _fit(recordings: Sequence[Path], out: FreshFile, curves: FreshFile | None) -> None:
    traces = [read_attention(path) for path in recordings]
    _refuse_unfit(recordings, traces)
    found = [statistics(trace) for trace in traces]
    profiles = fit(found)
    write_profiles(profiles, out, ", ".join(path.name for path in recordings))
    out.publish()
    if curves is None:
        return
    compared: list[dict[str, str | Curves]] = [
        {
            "recording": path.stem,
            "recorded": curves_of(trace),
            "generated": curves_of(generate(spec_like(trace, profiles, number), profiles)),
            # fitted to the others only: what to expect of a text that was not recorded
            "left_out": curves_of(_generated_by_others(trace, found, number)),
        }
        for number, (path, trace) in enumerate(zip(recordings, traces, strict=True))
    ]
    document = {
        "lags": LAGS,
        "quantiles": QUANTILES,
        "shares": SHARES,
        "distances": DISTANCES,
        "cache_shares": CACHE_SHARES,
        "recordings": compared,
    }
    curves.write_json(document)
    curves.publish()
    Console(markup=False).print(_table(compared))


def _refuse_unfit(recordings: Sequence[Path], traces: Sequence[AttentionTrace]) -> None:
    """Raise InputError for recordings that are too short, or that are not of one model."""
    lacks = [(path, short_of_a_fit(trace)) for path, trace in zip(recordings, traces, strict=True)]
    faults = [Fault(str(path), lack) for path, lack in lacks if lack is not None]
    rows = [len(trace) // trace.steps for trace in traces]
    for path, heads in zip(recordings, rows, strict=True):
        if not faults and heads != rows[0]:
            message = f"has {heads} heads, and {recordings[0]} has {rows[0]}; fit to one model"
            raise InputError([Fault(str(path), message)])
    if faults:
        raise InputError(faults)


def spec_like(trace: AttentionTrace, profiles: Sequence[HeadProfile], seed: int) -> GeneratorSpec:
    """Ask for a trace of the same shape as a recording."""
    return GeneratorSpec(
        prompt_tokens=trace.prompt_tokens,
        steps=trace.steps,
        heads=len(profiles),
        seed=seed,
        page_tokens=trace.page_tokens,
        page_bytes=trace.page_bytes,
    )


def _generated_by_others(
    trace: AttentionTrace, found: Sequence[HeadStatistics], number: int
) -> AttentionTrace:
    others = [one for index, one in enumerate(found) if index != number] or found
    profiles = fit(others)
    return generate(spec_like(trace, profiles, number), profiles)


def _table(compared: Sequence[dict[str, str | Curves]]) -> Table:
    table = Table("recording", "curve", "recorded", "generated", "from the others")
    rows = [
        ("overlap 80 %", LAGS.index(1), "overlap at lag 1, 80 %"),
        ("overlap 80 %", LAGS.index(32), "overlap at lag 32, 80 %"),
        ("lru 80 %", CACHE_SHARES.index(0.25), "LRU hits with 25 % of pages, 80 %"),
        ("mass", SHARES.index(0.1), "mass on the top 10 % of pages"),
    ]
    for entry in compared:
        for curve, index, title in rows:
            values = []
            for side in ("recorded", "generated", "left_out"):
                measured = entry[side]
                assert isinstance(measured, dict)
                values.append(f"{measured[curve][index]:.3f}")
            table.add_row(str(entry["recording"]), title, *values)
    return table
