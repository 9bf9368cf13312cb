"""Every field that a file may hold, from the pydantic models themselves."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel


def field_paths(model: type[BaseModel], prefix: str = "") -> set[str]:
    """List all fields by dotted path; `[]` stands for any item of a list.

    A field that holds fields is listed as these; of a union, those of all its members.
    """
    found: set[str] = set()
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = list(_models(info.annotation))
        for kind, listed in inner:
            found |= field_paths(kind, f"{path}{'[]' if listed else ''}.")
        if not inner:
            found.add(path)
    return found


def _models(annotation: Any, listed: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Find the models in an annotation, and whether each is an item of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, listed
        return
    for inner in get_args(annotation):
        yield from _models(inner, listed or getattr(annotation, "__origin__", None) is tuple)
