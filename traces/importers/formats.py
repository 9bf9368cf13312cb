"""Which importer reads a file: by name, or by what the file holds."""

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vsim.traces.arrow_io import is_arrow
from vsim.traces.faults import Fault, InputError, refuse, suggestion
from vsim.traces.importers import agentic, azure, burstgpt, columns, mooncake, sharegpt
from vsim.traces.importers.imported import Imported, ImportOptions
from vsim.traces.importers.lines import text_lines
from vsim.traces.importers.parquet import column_names

Importer = Callable[[str | Path, ImportOptions], Imported]

FORMATS: Final[Mapping[str, Importer]] = MappingProxyType(
    {
        "mooncake": mooncake.import_mooncake,
        "azure": azure.import_azure,
        "burstgpt": burstgpt.import_burstgpt,
        "sharegpt": sharegpt.import_sharegpt,
        "agentic": agentic.import_agentic,
        "columns": columns.import_columns,
    }
)

_DRAWN: Final = {"seed": "--seed", "session_rate_per_s": "--session-rate"}
_BLOCKS: Final = {"block_tokens": "--block-tokens"}
_SORT: Final = {"sort": "--sort"}
_OPTIONS_OF: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "mooncake": {**_BLOCKS, **_SORT},
        "azure": _SORT,
        "burstgpt": _SORT,
        "sharegpt": {**_DRAWN, **_BLOCKS, "think_s_mean": "--think-mean"},
        "agentic": {**_DRAWN, **_BLOCKS},
        "columns": {
            **_DRAWN,
            **_BLOCKS,
            **_SORT,
            "columns": "--columns",
            "time_unit": "--time-unit",
            "local_prefixes": "--local-prefixes",
        },
    }
)


DRAWN_FORMATS: Final = frozenset({"agentic", "sharegpt"})
"""Formats without arrival times, for which the import draws some."""


def _refuse_idle(name: str, options: ImportOptions) -> None:
    """Refuse options that differ from their defaults but concern another format."""
    default = ImportOptions()
    words = {option: word for used in _OPTIONS_OF.values() for option, word in used.items()}
    faults = [
        Fault(word, f"does nothing with the format {name}; leave it out")
        for option, word in words.items()
        if option not in _OPTIONS_OF[name] and getattr(options, option) != getattr(default, option)
    ]
    if faults:
        raise InputError(faults)


def format_of(path: str | Path) -> str:
    """Say which of FORMATS a file is in, by its first bytes and lines. Raises InputError."""
    if columns.is_parquet(path):
        names = column_names(path)
        return "agentic" if set(agentic.COLUMN_NAMES) <= set(names) else "columns"
    first = next((text.strip() for text in islice(text_lines(path), 100) if text.strip()), "")
    if not first:
        refuse(str(path), "is empty; name a trace with at least one request")
    if first.startswith("["):
        return "sharegpt"
    if first.startswith("{"):
        try:
            entry = json.loads(first)
        except ValueError:
            return "mooncake"  # its importer names the line
        calls = ("conversations", "messages", "prompt", *sharegpt.PROMPT_COUNTS)
        is_call = "hash_ids" not in entry and any(name in entry for name in calls)
        return "sharegpt" if is_call and "timestamp" not in entry else "mooncake"
    header = [name.strip().strip('"') for name in first.split(",")]
    if set(azure.places_of(header)) & {"ContextTokens", "GeneratedTokens"}:
        return "azure"
    if set(burstgpt.COLUMN_NAMES[1:3]) & set(header):
        return "burstgpt"
    return "columns"


def import_requests(
    path: str | Path, format: str = "auto", options: ImportOptions | None = None
) -> Imported:
    """Import a request trace.

    Args:
        path: the file, plain or gzipped.
        format: a key of FORMATS, or `auto` to tell by the content.
        options: what the file does not say itself.

    Raises:
        InputError: naming the file and each wrong line or row.
    """
    options = options or ImportOptions()
    if is_arrow(path):
        refuse(str(path), "is an Arrow file already; it needs no import")
    if format != "auto" and format not in FORMATS:
        refuse("--format", f"{format!r} is unknown{suggestion(format, ['auto', *FORMATS])}")
    named = "columns" if format == "auto" and options.columns else format
    name = format_of(path) if named == "auto" else named
    _refuse_idle(name, options)
    return FORMATS[name](path, options)
