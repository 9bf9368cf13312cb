"""What a model's fields mean: the docstrings below them, read from the sources when asked for.

pydantic's own `use_attribute_docstrings` reads the sources of every model that is imported, a
third of a second of every command's start, and only a JSON schema shows what it finds.
"""

import ast
import inspect
import sys
from itertools import pairwise

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Each field's description: what its `Field` says, else the docstring below it.

    A field without either is left out; one that a subclass writes anew has what stands there.
    """
    below: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            anew = vars(kind).get("__annotations__", ())
            below = {name: text for name, text in below.items() if name not in anew}
            below |= _docstrings(kind)
    given = {name: field.description for name, field in model.model_fields.items()}
    found = {name: text or below.get(name) for name, text in given.items()}
    return {name: text for name, text in found.items() if text}


class DescribedSchema(GenerateJsonSchema):
    """A JSON schema in which every field has its description."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """As pydantic's own, with descriptions."""
        made = super().model_schema(schema)
        for name, text in descriptions(schema["cls"]).items():
            made["properties"][name]["description"] = text
        return made


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings below the fields that a class itself writes."""
    statements = ast.parse(inspect.getsource(sys.modules[model.__module__])).body
    for name in model.__qualname__.split("."):
        classes = (each for each in statements if isinstance(each, ast.ClassDef))
        statements = next((each.body for each in classes if each.name == name), [])
    found = {}
    for field, below in pairwise(statements):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = inspect.cleandoc(below.value.value)
    return found
