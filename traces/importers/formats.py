"""Which importer reads a file: by name, or by what the file holds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vsim.traces.faults import Fault, InputError, refuse, suggestion
from vsim.traces.importers import agentic, azure, bailian, burstgpt, columns, mooncake, sharegpt
from vsim.traces.importers.imported import OPTION_OF, Imported, ImportOptions, given_options
from vsim.traces.importers.recognised import format_of
from vsim.traces.trace_file import TraceFile, open_trace

Importer = Callable[[TraceFile, ImportOptions], Imported]

FORMATS: Final[Mapping[str, Importer]] = MappingProxyType(
    {
        "mooncake": mooncake.import_mooncake,
        "bailian": bailian.import_bailian,
        "azure": azure.import_azure,
        "burstgpt": burstgpt.import_burstgpt,
        "sharegpt": sharegpt.import_sharegpt,
        "agentic": agentic.import_agentic,
        "columns": columns.import_columns,
    }
)

_DRAWN: Final = frozenset({"seed", "session_rate_per_s"})
_OPTIONS_OF: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "mooncake": frozenset({"block_tokens", "sort", "time_unit"}),
        "bailian": frozenset({"block_tokens", "sort"}),
        "azure": frozenset({"sort"}),
        "burstgpt": frozenset({"sort"}),
        "sharegpt": _DRAWN | {"block_tokens", "think_s_mean"},
        "agentic": _DRAWN | {"block_tokens"},
        "columns": _DRAWN | {"block_tokens", "sort", "columns", "time_unit", "local_prefixes"},
    }
)


def _refuse_idle(name: str, options: ImportOptions) -> None:
    """Refuse options that were given but concern another format."""
    given = given_options(options)
    faults = [
        Fault(word, f"does nothing with the format {name}; leave it out")
        for option, word in OPTION_OF.items()
        if option in given and option not in _OPTIONS_OF[name]
    ]
    if faults:
        raise InputError(faults)


def import_requests(
    path: str | Path | TraceFile, format: str = "auto", options: ImportOptions | None = None
) -> Imported:
    """Import a request trace.

    Args:
        path: the file or pipe, plain or gzipped.
        format: a key of FORMATS, or `auto` to tell by the content.
        options: what the file does not say itself.

    Raises:
        InputError: naming the file and each wrong line or row.
    """
    options = options or ImportOptions()
    if format != "auto" and format not in FORMATS:
        refuse("--format", f"{format!r} is unknown{suggestion(format, ['auto', *FORMATS])}")
    with open_trace(path) as file:
        if file.is_arrow:
            refuse(file.name, "is an Arrow file already; it needs no import")
        file.refuse_what_is_no_trace()
        named = "columns" if format == "auto" and options.columns else format
        try:
            name = format_of(file) if named == "auto" else named
            _refuse_idle(name, options)
            return FORMATS[name](file, options)
        except MemoryError:
            refuse(file.name, "needs more memory than there is; import a part of it")
