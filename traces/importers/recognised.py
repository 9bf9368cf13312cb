"""Which format a file is in, told by what it holds: its magic, header, columns or keys.

Of JSON the keys and types of its first objects decide: the format that most of them fit. What
fits no format by name is a table, whose columns must be named or of names in common use. Each
importer then holds the evidence against the whole file: each row has the keys and types, ids and
tokens agree on a block, times on a unit; keys that it does not read are noted.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from vsim.traces.faults import refuse
from vsim.traces.importers import agentic, azure, bailian, burstgpt, sharegpt
from vsim.traces.importers.column_names import LIKE_ARRIVALS, LIKE_PREFIXES
from vsim.traces.importers.json_rows import json_values
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import parquet_head
from vsim.traces.trace_file import TraceFile

_SAMPLE: Final = 200  # objects; a format shows in fewer
_LENGTHS: Final = {"input_length", "output_length"}
_CHATS: Final = {"chat_id", "parent_chat_id"}


def format_of(file: TraceFile) -> str:
    """Say which of FORMATS a file is in. Raises InputError."""
    file.refuse_what_is_no_trace()
    if file.is_parquet:
        names = parquet_head(file).names
        return "agentic" if set(agentic.COLUMN_NAMES) <= set(names) else "columns"
    first = next((text.strip() for text in islice(file.text_lines(), 100) if text.strip()), "")
    if not first:
        refuse(file.name, "is empty; name a trace with at least one request")
    if first[0] in "[{":
        return _of_json(file)
    header = [name.strip().strip('"') for name in first.split(",")]
    if set(azure.places_of(header)) & {"ContextTokens", "GeneratedTokens"}:
        return "azure"
    if set(burstgpt.COLUMN_NAMES[1:3]) & set(header):
        return "burstgpt"
    return "columns"


def _of_json(file: TraceFile) -> str:
    faults = Faults(file.name)
    sample = [value.value for value in islice(json_values(file, faults), _SAMPLE)]
    if not sample:
        faults.settle()
    fits = Counter(_of_object(found) for found in sample if isinstance(found, dict))
    return fits.most_common(1)[0][0] if fits else "sharegpt"  # its importer names what is no object


def _of_object(row: Mapping[str, Any]) -> str:
    """Say which format one object fits best."""
    keys = row.keys()
    if isinstance(row.get("requests"), list):
        return "agentic"
    if keys & _CHATS and (keys & _LENGTHS or "timestamp" in keys):
        return "bailian"
    if keys & sharegpt.CHAT_KEYS and not keys & _LENGTHS:
        return "sharegpt"
    if keys & _LENGTHS and ("hash_ids" in keys or "timestamp" in keys):
        return "mooncake"
    is_call = bool(keys & sharegpt.CALL_KEYS) and not _telling(keys - sharegpt.CALL_KEYS)
    if is_call and ("prompt" in keys or keys <= sharegpt.CALL_KEYS | sharegpt.IDLE_KEYS):
        return "sharegpt"
    if "timestamp" in keys and "hash_ids" in keys:
        return "mooncake"  # its importer names what is missing
    return "columns"


def _telling(keys: set[str]) -> bool:
    """Say whether a key looks like arrivals or prefix ids, which a conversation has not."""
    plain = {key.lower() for key in keys}
    known = {"hash_ids", *bailian.KNOWN}
    return bool(plain & (LIKE_ARRIVALS | LIKE_PREFIXES | known) - {"type"})
