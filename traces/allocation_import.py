"""What `vsim trace import` does with a file of allocations."""

from dataclasses import replace

from vsim.traces.allocations import AllocationTrace, write_allocations
from vsim.traces.faults import Fault, InputError
from vsim.traces.importers.allocation_formats import (
    ALLOCATION_FORMATS,
    allocation_format_of,
    import_allocations,
)
from vsim.traces.importers.imported import OPTION_OF, ImportOptions, given_options
from vsim.traces.trace_file import TraceFile
from vsim.traces.writing import fresh_file


def import_as_allocations(
    file: TraceFile, format: str, options: ImportOptions, *, part: str | None, out: str
) -> AllocationTrace | None:
    """Import and write a trace of allocations.

    Args:
        file: the open file.
        format: a key of ALLOCATION_FORMATS, or `auto`: then as the content tells.
        options: of those, source and licence act; the others are refused.
        part: of a file that holds several runs, the one that is wanted.
        out: the file to write.

    Returns:
        What was written; None where the file holds requests.

    Raises:
        InputError: with every fault of the file or of the options.
    """
    name = allocation_format_of(file) if format == "auto" else format
    if name is None or name not in ALLOCATION_FORMATS:
        return None
    given = given_options(options)
    faults = [
        Fault(word, "does nothing with a trace of allocations; leave it out")
        for option, word in OPTION_OF.items()
        if option in given
    ]
    if faults:
        raise InputError(faults)
    with fresh_file(out, "allocations", inputs=[file.name], option="--out") as fresh:
        trace = import_allocations(file, name, part)
        trace = replace(
            trace,
            source=options.source or trace.source,
            licence=options.licence or trace.licence,
        )
        write_allocations(trace, fresh)
    return trace
