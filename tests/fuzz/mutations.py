"""Mutations of input texts: small and large changes that a person, an editor or a disk may make.

`mutated` draws how many and which; all draws come from the generator that it is given, so a seed
gives the same texts again. Nothing here knows what the texts mean, or who reads them.
"""

import copy
import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import yaml

Random = np.random.Generator

SCALARS: tuple[str, ...] = (
    "", "~", "null", "true", "no", "0", "-0", "-1", "1", "2", "7", "0.5", "-0.0", "1e3", "1e-300",
    "1e300", "1e999", ".inf", "-.inf", ".nan", "NaN", "Infinity", "0x1F", "0o17", "1_000", "12:30",
    "2024-01-01", "2147483647", "2147483648", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "1" * 39, "1" * 5000, "0." + "1" * 400,
    "80GiB", "1B", "0B", "1EiB", "1024PiB", "9e30GiB", "-4GiB", "4 GiB", "4gib", "1GB/s", "1B/s",
    "1PB/s", "1e9PB/s", "0s", "1ns", "1000s", "10000h", "-5us", "5", "1TFLOP/s", "1e30PFLOP/s",
    "bf16", "fp8", "int4", "hbm", "host", "nvme", "promote", "in_place", "lru", "arc", "cost",
    "static", "priority", "fair", "swap", "balanced", "mapped", "think_times", "all", "h100",
    "a:B", "json:loads", "../x", "/dev/null", "/", ".", "a/b.yaml", "x" * 3000, "ä", "😀",
    "'", '"', "[", "]", "{", "}", "[]", "{}", "[[[]]]", "{a: {b: {c: 1}}}", "[1, 2]", "- 1", "*a",
    "&a 1", "!!python/object:os.system x", "!!binary aGk=", "!!set {a}", "<<: *a", "# comment",
    "|", ">-", "? a", "%YAML 1.2", "---", "...", "\\0", "a\\nb",
)  # fmt: skip
"""What may stand where a value stands, as text."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 16, 1000, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63,
    2**64, -(2**63), 10**30, 0.0, -0.0, 0.5, 1.0, 1e-9, 1e-300, 1e300, 1.7e308, "", "a", "x" * 3000,
    "80GiB", "1B", "1PB/s", "1000s", [], [1], [[]], {}, {"a": 1}, {"value": 1}, "a\nb", "\x00",
    "\u202e", "\ud7ff",
)  # fmt: skip
"""What may stand where a value stands, as data."""
CHARACTERS = "\x00\x01\x07\t\r\n\x0b\x0c\x1b\x7f\x85\xa0\u2028\ufeff\ufffd'\"[]{}:,#&*!|>%@`- 019aé"


def _pick(draw: Random, options: Sequence[Any]) -> Any:
    return options[int(draw.integers(len(options)))]


# --- texts ------------------------------------------------------------------------------------


def insert_character(text: str, draw: Random) -> str:
    """Put one character somewhere."""
    at = int(draw.integers(len(text) + 1))
    return text[:at] + _pick(draw, CHARACTERS) + text[at:]


def remove_part(text: str, draw: Random) -> str:
    """Take a few characters away."""
    at = int(draw.integers(len(text) + 1))
    return text[:at] + text[at + int(draw.integers(1, 12)) :]


def cut_off(text: str, draw: Random) -> str:
    """End the text early."""
    return text[: int(draw.integers(len(text) + 1))]


def repeat_line(text: str, draw: Random) -> str:
    """Write a line twice: a key that is there already."""
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    at = int(draw.integers(len(lines)))
    return "".join([*lines[: at + 1], *lines[at:]])


def drop_line(text: str, draw: Random) -> str:
    """Leave a line out."""
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    at = int(draw.integers(len(lines)))
    return "".join([*lines[:at], *lines[at + 1 :]])


def swap_lines(text: str, draw: Random) -> str:
    """Let two lines change places."""
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        return text
    a, b = (int(each) for each in draw.integers(len(lines), size=2))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def indent_line(text: str, draw: Random) -> str:
    """Move a line in or out."""
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    at = int(draw.integers(len(lines)))
    lines[at] = _pick(draw, (" ", "  ", "\t", "- ")) + lines[at]
    if draw.random() < 0.5:
        lines[at] = lines[at].lstrip(" -\t")
    return "".join(lines)


def other_scalar(text: str, draw: Random) -> str:
    """Write another value behind some colon."""
    colons = [at for at, character in enumerate(text) if character == ":"]
    if not colons:
        return text
    at = _pick(draw, colons)
    ends = [text.find(end, at) for end in ("\n", ",", "}")]
    end = min((each for each in ends if each >= 0), default=len(text))
    return f"{text[: at + 1]} {_pick(draw, SCALARS)}{text[end:]}"


def nest_deeply(text: str, draw: Random) -> str:
    """Put a value at the bottom of many brackets."""
    depth = int(_pick(draw, (10, 70, 500, 5000, 50_000)))
    opening, closing = _pick(draw, (("[", "]"), ("{a: ", "}"), ('{"a":', "}")))
    return f"{text}\ndeep: {opening * depth}1{closing * depth}\n"


def multiply_aliases(text: str, draw: Random) -> str:
    """Let aliases stand for lists of aliases: few characters, many values."""
    width, depth = int(draw.integers(2, 12)), int(draw.integers(2, 12))
    lines = [f"bomb0: &b0 [{', '.join(['x'] * width)}]"]
    lines += [f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * width)}]" for i in range(1, depth)]
    return text + "\n" + "\n".join(lines) + "\n"


TEXT_MUTATIONS: tuple[Callable[[str, Random], str], ...] = (
    insert_character, remove_part, cut_off, repeat_line, drop_line, swap_lines, indent_line,
    other_scalar, other_scalar, other_scalar, nest_deeply, multiply_aliases,
)  # fmt: skip


# --- data -------------------------------------------------------------------------------------


def _places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List all places of values under the root."""
    items: list[tuple[Any, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    found = [(*place, key) for key, _ in items]
    return found + [deeper for key, value in items for deeper in _places(value, (*place, key))]


def _holder(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        data = data[key]
    return data


def replace_value(data: Any, draw: Random) -> None:
    """Put another value in some place."""
    place = _pick(draw, _places(data))
    _holder(data, place)[place[-1]] = copy.deepcopy(_pick(draw, VALUES))


def scale_number(data: Any, draw: Random) -> None:
    """Make some number much larger or smaller, or one more or less."""
    places = [
        place for place in _places(data)
        if isinstance(_holder(data, place)[place[-1]], int | float)
        and not isinstance(_holder(data, place)[place[-1]], bool)
    ]  # fmt: skip
    if places:
        place = _pick(draw, places)
        holder, key = _holder(data, place), place[-1]
        by = _pick(draw, (0, -1, 1, 2, 3, 10, 100, 1000, 10**6, 10**9, 0.5, 1e-3, 1e-9))
        value = holder[key] * by if draw.random() < 0.7 else holder[key] + by
        # a whole number stays one, or a file's counts would all become fractions
        holder[key] = int(value) if isinstance(holder[key], int) else value


QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]+(?:/s)?)")
CHOICES: tuple[str, ...] = (
    "continuous", "static", "fcfs", "priority", "fair", "recompute", "swap", "hbm_first",
    "balanced",
    "paged", "mapped", "promote", "in_place", "back", "through", "none", "transfers", "all", "lru",
    "clock", "lfu", "fifo", "2q", "arc", "sieve", "s3-fifo", "cost", "bf16", "fp8", "int8", "int4",
    "arrivals", "think_times", "poisson", "gamma", "onoff", "hbm", "host", "nvme", "network", "cxl",
    "peer", "lpddr", "datasheet", "h100", "a10", "gh200", "smollm2-135m", "gqa", "mla",
)  # fmt: skip


def scale_quantity(data: Any, draw: Random) -> None:
    """Make some size, bandwidth or duration larger or smaller."""
    places = [
        place for place in _places(data)
        if isinstance(_holder(data, place)[place[-1]], str)
        and QUANTITY.fullmatch(_holder(data, place)[place[-1]])
    ]  # fmt: skip
    if places:
        place = _pick(draw, places)
        number, unit = QUANTITY.fullmatch(_holder(data, place)[place[-1]]).groups()  # type: ignore[union-attr] # it is one of those that match
        by = _pick(draw, (0, 0.001, 0.01, 0.1, 0.5, 2, 10, 1000, 1e6))
        _holder(data, place)[place[-1]] = f"{float(number) * by:g}{unit}"


def other_choice(data: Any, draw: Random) -> None:
    """Write another word where a word stands."""
    places = [p for p in _places(data) if str(_holder(data, p)[p[-1]]) in CHOICES]
    if places:
        place = _pick(draw, places)
        _holder(data, place)[place[-1]] = _pick(draw, CHOICES)


def remove_key(data: Any, draw: Random) -> None:
    """Leave some field or item out."""
    place = _pick(draw, _places(data))
    del _holder(data, place)[place[-1]]


def rename_key(data: Any, draw: Random) -> None:
    """Mistype some field."""
    place = _pick(draw, _places(data))
    holder, key = _holder(data, place), place[-1]
    if isinstance(holder, dict) and isinstance(key, str):
        holder[key[:-1] if draw.random() < 0.5 else key + key[-1:]] = holder.pop(key)


def move_value(data: Any, draw: Random) -> None:
    """Copy a value from one place to another."""
    places = _places(data)
    source, target = _pick(draw, places), _pick(draw, places)
    value = copy.deepcopy(_holder(data, source)[source[-1]])
    _holder(data, target)[target[-1]] = value


def repeat_item(data: Any, draw: Random) -> None:
    """Write an item of a list once more, or very often."""
    lists = [p for p in _places(data) if isinstance(_holder(data, p)[p[-1]], list)]
    if lists:
        place = _pick(draw, lists)
        items = _holder(data, place)[place[-1]]
        if items:
            items.extend([copy.deepcopy(_pick(draw, items))] * int(_pick(draw, (1, 2, 40, 2000))))


DATA_MUTATIONS: tuple[Callable[[Any, Random], None], ...] = (
    replace_value, scale_number, scale_number, scale_quantity, other_choice, remove_key,
    rename_key, move_value, repeat_item,
)  # fmt: skip


@cache
def parsed(text: str) -> Any:
    """The data of a text, which is one of a few: not to be changed."""
    return yaml.safe_load(text)


def mutated(text: str, draw: Random) -> str:
    """Change a YAML or JSON text in one or a few places, as text or as data."""
    times = int(min(draw.geometric(0.7), 4))
    if draw.random() < 0.3:
        for _ in range(times):
            text = _pick(draw, TEXT_MUTATIONS)(text, draw)
        return text
    data = copy.deepcopy(parsed(text))
    for _ in range(times):
        if _places(data):
            _pick(draw, DATA_MUTATIONS)(data, draw)
    if text.lstrip().startswith("{"):
        return json.dumps(data)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def as_bytes(text: str, draw: Random) -> bytes:
    """Encode a text as an editor may: mostly as it should be."""
    how = draw.random()
    if how < 0.9:
        return text.encode("utf-8", "surrogatepass")
    if how < 0.93:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
    if how < 0.96:
        return text.encode("utf-16", "surrogatepass")
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if raw:
        raw[int(draw.integers(len(raw)))] = int(draw.integers(256))
    return bytes(raw)
