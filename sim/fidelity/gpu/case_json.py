"""Cases as JSON, both ways: `{"kind": …, …}` with every field by its name."""

import json
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from vsim.sim.fidelity.gpu.cases import CASES, GpuCase

_BY_KIND: Final = {case.kind: case for case in CASES}
_WORDS: Final = {int: "a whole number", float: "a number", str: "a text"}


def case_text(case: GpuCase) -> str:
    """Return a case as one line of JSON; equal cases give equal lines."""
    plain = {"kind": case.kind} | _plain(case)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def case_of(text: str) -> GpuCase:
    """Read a case.

    Raises:
        ValueError: with the field, what was found and what to write instead.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error}); record the cases again") from None
    if not isinstance(found, dict):
        raise ValueError("is no JSON object; record the cases again")
    kind = found.pop("kind", None)
    if kind not in _BY_KIND:
        raise ValueError(f"kind is {kind!r}; write one of {', '.join(_BY_KIND)}")
    case: GpuCase = _built(_BY_KIND[kind], found, "")
    return case


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _built(of: type, found: Any, place: str) -> Any:
    if not isinstance(found, dict):
        raise ValueError(f"{place.rstrip('.') or 'it'} is {found!r}; write a JSON object")
    hints = get_type_hints(of)
    names = {field.name: field for field in fields(of)}
    unknown = sorted(found.keys() - names.keys())
    if unknown:
        raise ValueError(f"{place}{unknown[0]} is unknown; write {', '.join(names)}")
    values = {}
    for name, field in names.items():
        if name in found:
            values[name] = _value(hints[name], found[name], f"{place}{name}")
        elif field.default is MISSING:
            raise ValueError(f"{place}{name} is missing; write it")
    try:
        return of(**values)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def _value(wanted: Any, found: Any, place: str) -> Any:
    """Turn what JSON holds into what a field's annotation names."""
    origin = get_origin(wanted)
    if origin is UnionType:
        if found is None:
            return None
        (wanted,) = (each for each in get_args(wanted) if each is not NoneType)
        return _value(wanted, found, place)
    if origin is Literal:
        if found not in get_args(wanted):
            raise ValueError(f"{place} is {found!r}; write one of {', '.join(get_args(wanted))}")
        return found
    if origin is tuple:
        if not isinstance(found, list):
            raise ValueError(f"{place} is {found!r}; write a list")
        of = get_args(wanted)[0]
        return tuple(_value(of, each, f"{place}[{at}]") for at, each in enumerate(found))
    if is_dataclass(wanted):
        return _built(wanted, found, f"{place}.")  # type: ignore[arg-type]  # a class, not a value
    good = isinstance(found, int | float) if wanted is float else isinstance(found, wanted)
    if isinstance(found, bool) or not good:
        raise ValueError(f"{place} is {found!r}; write {_WORDS[wanted]}")
    return wanted(found)
