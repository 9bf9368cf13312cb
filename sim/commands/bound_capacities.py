"""Capacities as `vsim bound` takes them: sizes, or tiers and their sizes joined by plus signs."""

from dataclasses import dataclass
from typing import Final

from vsim.sim.machine.precision import Precision
from vsim.traces.faults import refuse
from vsim.traces.units import parse_bytes

MOST_BLOCKS: Final = 1 << 40
PRECISIONS: Final[tuple[Precision, ...]] = ("bf16", "fp8", "int8", "int4")


@dataclass(frozen=True, slots=True)
class WrittenTier:
    """One tier of a capacity: `host=64GiB`, or `host=64GiB:fp8` where it keeps KV in fewer bits.

    Args:
        name: of the tier, "" where none was written.
        size: bytes, or blocks.
        text: as written.
        precision: None where none was written.
    """

    name: str
    size: int
    text: str
    precision: Precision | None = None


def read_capacities(text: str, option: str, *, bytes_: bool) -> list[tuple[WrittenTier, ...]]:
    """Read capacities in the order in which they were written.

    Raises:
        InputError: at the first that can't be read.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        refuse(option, f"'{text}' is no list; write sizes with commas between them")
    found = [
        tuple(_tier(each.strip(), option, bytes_=bytes_) for each in part.split("+"))
        for part in parts
    ]
    if len({bool(tier.name) for tiers in found for tier in tiers}) > 1:
        refuse(option, f"'{text}' names tiers in places only; name all, as hbm=16GiB+host=64GiB")
    for tiers in found:
        names = [tier.name for tier in tiers]
        if not names[0] and len(names) > 1:
            refuse(option, f"'{text}' adds sizes; name their tiers, as hbm=16GiB+host=64GiB")
        if len(set(names)) < len(names):
            refuse(option, f"'{text}' names a tier twice; name each once")
        if names[0] and names[0] != "hbm":
            refuse(option, f"'{text}' does not begin with hbm; write it first, as hbm=16GiB+…")
        if tiers[0].precision is not None:
            refuse(option, "hbm holds KV as --kv says; write a precision behind tiers below it")
    return found


def _tier(text: str, option: str, *, bytes_: bool) -> WrittenTier:
    name, equals, size = text.rpartition("=")
    if equals and not name:
        refuse(option, f"'{text}' names no tier; write it like host=64GiB")
    size, colon, kv = size.partition(":")
    precision: Precision | None = None
    if colon:
        if not name:
            refuse(option, f"'{text}' has a precision and no tier; write --kv, or host=64GiB:fp8")
        for known in PRECISIONS:
            if kv == known:
                precision = known
        if precision is None:
            refuse(option, f"'{kv}' is no precision; write bf16, fp8, int8 or int4")
    if not bytes_:
        if not (size.isascii() and size.isdecimal()) or not 1 <= int(size) <= MOST_BLOCKS:
            message = f"'{size}' is no number of blocks; write one from 1 to {MOST_BLOCKS:,}"
            refuse(option, message)
        return WrittenTier(name, int(size), text, precision)
    try:
        return WrittenTier(name, parse_bytes(size), text, precision)
    except ValueError as error:
        refuse(option, f"'{size}' {error}")
