"""The `vsim trace` commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

_File = Annotated[str, typer.Argument(help="The trace: Arrow, or a format that import knows.")]
_Out = Annotated[str, typer.Option("--out", help="The Arrow file to write.")]


def register(app: typer.Typer) -> None:
    """Add the `trace` commands to the application."""
    trace = typer.Typer(help="Import, inspect and generate traces.", no_args_is_help=True)
    app.add_typer(trace, name="trace")
    trace.command("info")(info)
    trace.command("import")(import_)
    trace.command("synth")(synth)
    trace.command("check")(check)


def info(
    file: _File,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    cache_blocks: Annotated[
        str, typer.Option(help="Hits of LRU caches of these sizes, in blocks: 1000,3000.")
    ] = "",
    mrc: Annotated[
        bool, typer.Option("--mrc", help="Hits and misses of LRU caches of every size.")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(
            help="With --mrc: hits by tenant, or by tier, of the sizes in --cache-blocks."
        ),
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(help="With --mrc: an estimate from this share of conversations: 0.01."),
    ] = None,
    working_set: Annotated[
        str, typer.Option(help="Blocks used, and faults, in windows of so many seconds: 10,60.")
    ] = "",
) -> None:
    """Say what a trace holds: counts, arrival rate, lengths, prefix hits."""
    from json import dumps

    from vsim.traces.arrow_io import kind_of, read_table
    from vsim.traces.faults import refuse
    from vsim.traces.info import describe_requests, describe_table
    from vsim.traces.info_view import print_requests, print_table
    from vsim.traces.prefix_curve_options import curve_options
    from vsim.traces.reading import read_imported
    from vsim.traces.trace_file import open_trace

    sizes = _sizes(cache_blocks)
    asked = curve_options(sizes, mrc=mrc, by=by, sample=sample, working_set=working_set)
    with open_trace(file) as trace:
        kind = kind_of(trace) if trace.is_arrow else "requests"
        if kind != "requests":
            table = read_table(trace)
            assert kind is not None  # the table has been checked
            for option in [*_asked(sizes, mrc), *asked.given]:
                refuse(option, f"does nothing with a trace of {kind}; leave it out")
            facts = describe_table(table, kind)
            if json:
                print(dumps(facts, indent=2, default=str))
            else:
                print_table(facts)
            return
        requests = read_imported(trace).requests
    for option in [*_asked(sizes, mrc), *asked.given] if not len(requests.prefix_ids) else ():
        refuse(option, "does nothing here: the trace has no prefix blocks; leave it out")
    _print_notes(file, requests.notes)
    described = describe_requests(requests, sizes, curve=mrc)
    curves = asked.taken_from(requests)
    if json:
        found = {} if curves is None else {"prefix_curves": curves.as_dict()}
        print(dumps({**described.as_dict(), **found}, indent=2))
        return
    print_requests(described)
    if curves is not None:
        from vsim.traces.prefix_curves_view import print_curves

        print_curves(curves)


def _say(line: str) -> None:
    """Print a line that may hold a file's name."""
    from vsim.traces.faults import one_line

    print(one_line(line))


def _print_notes(file: str, notes: Iterable[str]) -> None:
    """Say on standard error what an import changed, drew or found to contradict."""
    from vsim.traces.faults import one_line

    for note in notes:
        print(one_line(f"{file}: note: {note}"), file=sys.stderr)


def _asked(sizes: list[int], mrc: bool) -> list[str]:
    """Name the options given that need prefix blocks."""
    return ["--cache-blocks"] * bool(sizes) + ["--mrc"] * mrc


def _sizes(text: str) -> list[int]:
    from vsim.traces.faults import refuse

    sizes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isascii() or not part.isdigit() or int(part) < 1 or len(part) > 15:
            refuse("--cache-blocks", f"{part!r} is no number of blocks; write 1000,3000")
        sizes.append(int(part))
    return sizes


def import_(
    file: Annotated[str, typer.Argument(help="The trace to import, plain or gzipped.")],
    out: _Out,
    format: Annotated[
        str,
        typer.Option(
            help="auto, mooncake, bailian, azure, burstgpt, sharegpt, agentic or columns "
            "(any CSV or Parquet table, or flat JSON); of allocations torch-snapshot (a pickle) or "
            "torch-events (a Parquet table)."
        ),
    ] = "auto",
    columns: Annotated[
        str,
        typer.Option(
            help="Which column of a table is which: arrival=ts,prompt=in_len,output=out_len; also "
            "id, session, parent, think, tenant, priority, prefix."
        ),
    ] = "",
    time_unit: Annotated[
        str | None,
        typer.Option(help="Unit of the file's arrivals and think times: ns, us, ms, s or iso."),
    ] = None,
    block_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prefix block, where the file says none.")
    ] = None,
    local_prefixes: Annotated[
        bool, typer.Option("--local-prefixes", help="A table's prefix ids are local to a session.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the arrivals and think times that are drawn; else 0."),
    ] = None,
    session_rate: Annotated[
        float | None,
        typer.Option(help="Sessions that start a second, where the file has no arrivals; else 1."),
    ] = None,
    think_mean: Annotated[
        float | None,
        typer.Option(
            help="Mean think time drawn between turns, s, where the file has none; else 10."
        ),
    ] = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows by arrival instead of refusing disorder.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(help="Of a file with several runs of a program, the one to import."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where the data are from, for the file's metadata.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Under which licence, for the file's metadata.")
    ] = None,
) -> None:
    """Import requests or allocations from another format into an Arrow trace."""
    from math import isfinite
    from os.path import isfile, islink
    from pathlib import Path

    from vsim.traces.allocation_import import import_as_allocations
    from vsim.traces.faults import Fault, InputError, refuse
    from vsim.traces.importers import ImportOptions, import_requests
    from vsim.traces.importers.column_names import parse_columns
    from vsim.traces.importers.values import UNITS_NS
    from vsim.traces.requests import write_requests
    from vsim.traces.trace_file import open_trace
    from vsim.traces.writing import fresh_file
    from vsim.traces.writing.marks import arrow_kind
    from vsim.traces.writing.target import file_target

    faults = []
    if time_unit is not None and time_unit not in (*UNITS_NS, "iso"):
        known = ", ".join((*UNITS_NS, "iso"))
        faults.append(Fault("--time-unit", f"{time_unit!r} is unknown (known: {known})"))
    if session_rate is not None and not 0 < session_rate <= 1e6:
        message = f"{session_rate:g} is no rate; write sessions a second like 0.5"
        faults.append(Fault("--session-rate", message))
    if think_mean is not None and not (isfinite(think_mean) and 0 <= think_mean <= 1e7):
        faults.append(Fault("--think-mean", f"{think_mean:g} is no time; write seconds like 10"))
    for option, text in (("--source", source), ("--licence", licence)):
        if text is not None and not text.isprintable():
            faults.append(Fault(option, "holds what does not print; write plain text"))
    if faults:
        raise InputError(faults)
    options = ImportOptions(
        block_tokens=block_tokens,
        seed=seed,
        session_rate_per_s=session_rate,
        think_s_mean=think_mean,
        columns=parse_columns(columns),
        time_unit=time_unit,
        local_prefixes=local_prefixes,
        sort=sort,
        source=source,
        licence=licence,
    )
    # Before the input is read, which tells what it holds: either may be replaced by either's like.
    plain = isfile(out) and not islink(out)
    stands = plain and arrow_kind(Path(out)) == "allocations"
    file_target(out, "allocations" if stands else "requests", "--out").check([file])
    with open_trace(file) as opened:
        trace = import_as_allocations(opened, format, options, part=part, out=out)
        if trace is not None:
            _say(f"{out}: {len(trace):,} calls of allocations from {trace.source}")
            _print_notes(file, trace.notes)
            return
        if part is not None:
            refuse("--part", "does nothing with requests; leave it out")
        with fresh_file(out, "requests", inputs=[file], option="--out") as fresh:
            imported = import_requests(opened, format, options)
            write_requests(imported.requests, fresh, imported.licence)
    _say(f"{out}: {len(imported.requests):,} requests from {imported.requests.source}")
    _print_notes(file, imported.notes)


def synth(
    out: _Out,
    requests: Annotated[int, typer.Option(help="Number of requests.")],
    rate: Annotated[float, typer.Option(help="Requests a second in the long run.")],
    prompt_quantiles: Annotated[
        str,
        typer.Option(help="New tokens of a first turn by quantiles: 0.5:1020,0.99:4142."),
    ],
    output_quantiles: Annotated[
        str, typer.Option(help="Tokens generated, by quantiles: 0.5:129,0.99:601.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    arrivals: Annotated[str, typer.Option(help="poisson, gamma or onoff.")] = "poisson",
    cv: Annotated[
        float | None, typer.Option(help="gamma: standard deviation of gaps over their mean.")
    ] = None,
    on: Annotated[float | None, typer.Option(help="onoff: mean on period, s.")] = None,
    off: Annotated[float | None, typer.Option(help="onoff: mean off period, s.")] = None,
    turns: Annotated[float, typer.Option(help="Mean turns of a session.")] = 1.0,
    think: Annotated[
        float | None, typer.Option(help="Mean think time before a further turn, s.")
    ] = None,
    follow_up_quantiles: Annotated[
        str | None, typer.Option(help="New tokens of a further turn, by quantiles.")
    ] = None,
    most_tokens: Annotated[
        int | None, typer.Option(help="A session ends before a turn would exceed these tokens.")
    ] = None,
    system_prompts: Annotated[
        int, typer.Option(help="Different system prompts that sessions share.")
    ] = 0,
    system_prompt_tokens: Annotated[
        int | None, typer.Option(help="Tokens of each system prompt.")
    ] = None,
    zipf: Annotated[
        float | None, typer.Option(help="System prompt i is drawn with weight i^-zipf.")
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            help="A tenant as name:share or name:share:priority; may be repeated. A single "
            "one leaves its share out: name: or name::priority."
        ),
    ] = None,
    block_tokens: Annotated[
        int, typer.Option(help="Tokens of a prefix block; 0 for no prefix ids.")
    ] = 16,
) -> None:
    """Generate a workload from a seed."""
    from vsim.traces.faults import InputError
    from vsim.traces.requests import write_requests
    from vsim.traces.synth import synthesise
    from vsim.traces.synth_options import option_fault, spec_from_options
    from vsim.traces.writing import fresh_file

    spec = spec_from_options(
        {
            "requests": requests,
            "seed": seed,
            "arrivals": {
                "process": arrivals, "rate_per_s": rate, "cv": cv, "on_s": on, "off_s": off,
            },
            "prompt_tokens": prompt_quantiles,
            "output_tokens": output_quantiles,
            "sessions": {
                "turns_mean": turns,
                "think_s_mean": think,
                "follow_up_tokens": follow_up_quantiles,
                "most_tokens": most_tokens,
                "system_prompts": system_prompts,
                "system_prompt_tokens": system_prompt_tokens,
                "zipf": zipf,
            },
            "block_tokens": block_tokens,
        },
        tenant or [],
    )  # fmt: skip
    with fresh_file(out, "requests", option="--out") as fresh:
        try:
            made = synthesise(spec)
        except InputError as error:
            raise InputError(map(option_fault, error.faults)) from None
        write_requests(made, fresh)
    _say(f"{out}: {len(made):,} requests over {made.arrival_ns[-1] / 1e9:,.0f} s")


def check(file: _File) -> None:
    """Check a trace of any kind; exit code 2 and one line a fault where something is wrong."""
    from vsim.traces.arrow_io import metadata_of, read_table
    from vsim.traces.attention import attention_from_table
    from vsim.traces.reading import read_imported
    from vsim.traces.trace_file import open_trace

    with open_trace(file) as trace:
        if trace.is_arrow:
            table = read_table(trace)
            kind = metadata_of(table)["kind"]
            if kind == "attention":
                attention_from_table(table, trace.name)  # what its metadata claim as well
            _say(f"{file}: {table.num_rows:,} rows of {kind}, no faults")
            return
        requests = read_imported(trace).requests
    _say(f"{file}: {len(requests):,} requests, no faults")
    _print_notes(file, requests.notes)
