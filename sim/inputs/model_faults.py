"""What a pydantic model refused, in words: place, what was found, what to write instead."""

import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vsim.traces.faults import suggestion

Place: TypeAlias = tuple[str | int, ...]


class FieldsError(ValueError):
    """Raised by a model's validator to point at fields of that model, one message each.

    Args:
        faults: pairs of a place relative to the model, such as `("tiers", 1, "name")`, and what
            was found and what to write instead.
    """

    def __init__(self, faults: Iterable[tuple[Place, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(message for _, message in self.faults))


def explain(
    error: ValidationError, data: object, model: type[BaseModel]
) -> list[tuple[Place, str, bool]]:
    """List a validation's faults: place, message, and whether the key rather than the value errs.

    Args:
        error: what pydantic raised.
        data: the plain values that were validated.
        model: the model they were validated against.
    """
    found: list[tuple[Place, str, bool]] = []
    places: set[Place] = set()
    for details in error.errors(include_url=False):
        for place, message, at_key in _explain_one(details, data, model):
            message = _shortened(message)
            known = (place, message, at_key)
            # A union reports each of its members; the first says what is wrong well enough.
            if known not in found and (place not in places or details["type"] == "value_error"):
                found.append(known)
            places.add(place)
    return found


def _explain_one(
    details: ErrorDetails, data: object, model: type[BaseModel]
) -> Iterator[tuple[Place, str, bool]]:
    place, written = _place(details, data)
    kind, name = details["type"], str(place[-1]) if place else ""
    context = details.get("ctx", {})
    if kind == "too_short" and isinstance(written, list) and len(written) >= context["min_length"]:
        return  # only its valid items were counted, and the others have faults of their own
    if kind == "value_error" and isinstance(context.get("error"), FieldsError):
        for inner, message in context["error"].faults:
            yield (*place, *inner), message, False
    elif kind == "missing":
        example = _example(model, place)
        yield place, f"is missing; write `{name}: {example}`", False
    elif kind == "extra_forbidden":
        known = _fields(model, place[:-1])
        yield place, f"unknown key '{name}'{suggestion(name, known)}", True
    else:
        yield place, _say(kind, details["msg"], written, context), False


def _shortened(message: str) -> str:
    """Cut what is quoted in a message to what can be read at a glance."""
    return re.sub(r"(\S{80})\S{20,}", r"\1…", message)


def _place(details: ErrorDetails, data: object) -> tuple[Place, object]:
    """Keep of pydantic's location what names a place in the data, and find what is written there.

    What goes are union tags and functions' names.
    """
    place: list[str | int] = []
    location = details["loc"]
    for index, key in enumerate(location):
        inside_mapping = isinstance(data, dict) and key in data
        inside_list = isinstance(data, list) and isinstance(key, int) and key < len(data)
        if inside_mapping or inside_list:
            data = data[key]  # type: ignore[index] # one of the two containers, by the lines above
            place.append(key)
        elif index == len(location) - 1 and details["type"] == "missing":
            place.append(key)
    return tuple(place), data


def _say(kind: str, message: str, value: object, context: dict[str, Any]) -> str:
    """Say one pydantic error type in plain words."""
    shown = show(value)
    if kind == "value_error":
        return str(context.get("error", message))
    if kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        if isinstance(value, str) and known:
            return f"{shown} is not known here{suggestion(value, known)}"
        return f"{shown} is not known here; write one of: {', '.join(known)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        field = str(context.get("discriminator", "")).strip("'")
        tags = re.findall(r"'([^']*)'", str(context.get("expected_tags", "")))
        if kind == "union_tag_invalid":
            tag = str(context.get("tag"))
            return f"{field} '{tag}' is not known here{suggestion(tag, tags)}"
        return f"has no '{field}'; write `{field}: …` to say which kind it is"
    limits = {
        "greater_than": ("gt", "above"),
        "greater_than_equal": ("ge", "of at least"),
        "less_than": ("lt", "below"),
        "less_than_equal": ("le", "of at most"),
        "multiple_of": ("multiple_of", "that is a multiple of"),
    }
    if kind in limits:
        key, words = limits[kind]
        limit = context[key]
        written = f"{limit}" if isinstance(limit, int) else f"{limit:.15g}"
        return f"{shown} is out of range; write a number {words} {written}"
    if kind in ("too_short", "string_too_short"):
        return f"{shown} is too short; write at least {context['min_length']}"
    if kind in ("too_long", "string_too_long"):
        return f"{shown} is too long; write at most {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return f"{shown} does not have the form {context['pattern']}"
    if kind == "none_required":
        return f"{shown} is not allowed here; leave it out"
    for start, words in _WANTED:
        if kind.startswith(start):
            return f"{shown} is not {words}"
    return f"{shown}: {message[:1].lower()}{message[1:]}"


_WANTED = (
    ("int", "a whole number; write it like 4"),
    ("float", "a number; write it like 0.5"),
    ("finite_number", "a finite number; write an ordinary number"),
    ("bool", "a yes or no; write true or false"),
    ("string", "text; write a word or put it in quotes"),
    ("path", "a path; write it in quotes"),
    ("tuple", "a list; write it like [a, b] or one `- item` a line"),
    ("list", "a list; write it like [a, b] or one `- item` a line"),
    ("frozen_set", "a list; write it like [a, b] or one `- item` a line"),
    ("set", "a list; write it like [a, b] or one `- item` a line"),
    ("dict", "a group of fields; write it like {key: value}"),
    ("mapping", "a group of fields; write it like {key: value}"),
    ("model", "a group of fields; write it like {key: value}"),
    ("dataclass", "a group of fields; write it like {key: value}"),
)


_EXAMPLES = {bool: "true", int: "1", float: "0.5"}


def show(value: object) -> str:
    """Show a value as it was written, short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a group of fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"


def _fields(model: type[BaseModel], place: Place) -> list[str]:
    """Name the fields that may stand at `place`."""
    return sorted({name for inner in _models(model, place) for name in inner.model_fields})


def _example(model: type[BaseModel], place: Place) -> str:
    """Find an example of the field at `place`; `…` if its type gives none."""
    for inner in _models(model, place[:-1]):
        info = inner.model_fields.get(str(place[-1]))
        if info is None:
            continue
        if info.examples:
            return str(info.examples[0])
        for note in _annotations(info):
            if isinstance(note, WithJsonSchema) and note.json_schema:
                return str(note.json_schema.get("examples", ["…"])[0])
        for kind in _unfold(info.annotation):
            if get_origin(kind) is Literal:
                return str(get_args(kind)[0])
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                return f"{{{', '.join(f'{field}: …' for field in _required(kind))}}}"
            if kind in _EXAMPLES:
                return _EXAMPLES[kind]
    return "…"


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, info in model.model_fields.items() if info.is_required()]


def _annotations(info: FieldInfo) -> Iterator[object]:
    yield from info.metadata
    for argument in (info.annotation, *get_args(info.annotation)):
        yield from getattr(argument, "__metadata__", ())


def _models(model: type[BaseModel], place: Place) -> list[type[BaseModel]]:
    """List the models that the value at `place` may be; several where a union stands."""
    types: list[Any] = [model]
    for key in place:
        inner: list[Any] = []
        for kind in types:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                info = kind.model_fields.get(str(key))
                inner += _unfold(info.annotation) if info else []
            else:  # a container: its items' type is the last argument that is not an ellipsis
                arguments = [a for a in get_args(kind) if a is not Ellipsis]
                inner += _unfold(arguments[-1]) if arguments else []
        types = inner
    return [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _unfold(annotation: Any) -> list[Any]:
    """List a union's members and strip `Annotated`."""
    if hasattr(annotation, "__metadata__"):
        return _unfold(annotation.__origin__)
    if get_origin(annotation) in (Union, UnionType):
        return [kind for member in get_args(annotation) for kind in _unfold(member)]
    return [annotation]
