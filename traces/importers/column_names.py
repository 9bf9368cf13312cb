"""Which of a table's columns is which of ours: as named, else by names in common use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vsim.traces.faults import refuse, suggestion
from vsim.traces.importers.lines import Faults

OURS: Final = (
    "arrival", "prompt", "output", "id", "session", "parent", "think", "tenant", "priority",
    "prefix",
)  # fmt: skip
COMMON: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "arrival": ("arrival_ns", "timestamp_ns", "timestamp_us", "timestamp_ms", "timestamp_s"),
        "prompt": ("input_length", "prompt_tokens", "input_tokens", "num_prefill_tokens"),
        "output": ("output_length", "output_tokens", "num_decode_tokens"),
        "session": ("session_id",),
        "prefix": ("hash_ids",),
    }
)
LIKE_ARRIVALS: Final = frozenset(
    {"ts", "time", "timestamp", "arrival", "arrivals", "arrival_time", "arrived", "arrived_at",
     "start", "start_time", "started", "started_at", "request_time", "created", "created_at",
     "datetime", "date", "arrival_s", "arrival_ms", "arrival_us"}
)  # fmt: skip
LIKE_PREFIXES: Final = frozenset(
    {"block_hashes", "block_ids", "block_keys", "blocks", "cache_key", "cache_keys", "hash_id",
     "hashes", "keys", "key", "kv_hashes", "prefix", "prefix_hash", "prefix_hashes", "prefix_id",
     "prefix_ids", "prefix_keys", "token_hashes"}
)  # fmt: skip
_EXAMPLE: Final = "`vsim trace import --columns arrival=ts,prompt=in_len,output=out_len`"
_SEPARATORS: Final = ";\t|"
_SHOWN: Final = 30  # column names in a fault


def named_columns(file: str, there: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column for each of ours: as given, else by the names in common use.

    Raises:
        InputError: a column given is not in the table, or prompt or output is not found.
    """
    if len(there) == 1 and any(each in there[0] for each in _SEPARATORS):
        refuse(file, f"its header is one cell, {there[0]!r:.60}; separate cells by commas")
    faults = Faults(file)
    for ours, theirs in given.items():
        if ours not in OURS:
            faults.add(f"{ours!r} is no column of ours{suggestion(ours, OURS)}", place="--columns")
        elif theirs not in there:
            message = f"{theirs!r} is no column of the table{suggestion(theirs, there)}"
            faults.add(message, place=f"--columns {ours}")
    found = dict(given)
    for ours, common in COMMON.items():
        for theirs in common:
            if ours not in found and theirs in there:
                found[ours] = theirs
    for ours in ("prompt", "output"):
        if ours not in found:
            some = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
            some = some or "none"
            message = f"no column of {ours} tokens among {some}; name it: {_EXAMPLE}"
            faults.add(message, place="--columns")
    if "parent" in found and "id" not in found:
        faults.add("parent needs id, the column it refers to", place="--columns")
    if not given:
        for ours, names in (("arrival", LIKE_ARRIVALS), ("prefix", LIKE_PREFIXES)):
            like = [name for name in there if name.lower().replace(" ", "_") in names]
            if ours not in found and like:
                said = "neither its unit nor what it is" if ours == "arrival" else "not what it is"
                message = (
                    f"looks like {ours}, but says {said}; name it with "
                    f"`vsim trace import --columns {ours}={like[0]},…`, or all columns but it"
                )
                faults.add(message, place=f"column {like[0]}")
    faults.settle()
    return found


def parse_columns(text: str) -> dict[str, str]:
    """Parse `arrival=ts,prompt=in_len`. Raises InputError."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = part.partition("=")
        if not equals or not ours.strip() or not theirs.strip():
            refuse("--columns", f"{part!r} names no column; write {_EXAMPLE}")
        if ours.strip() in found:
            refuse("--columns", f"{ours.strip()} is there more than once; keep one")
        found[ours.strip()] = theirs.strip()
    return found
