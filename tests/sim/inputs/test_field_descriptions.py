"""What fields mean is found where it is written: in `Field`, or in the docstring below."""

import pytest
from pydantic import BaseModel, Field

from vsim.sim.inputs.field_descriptions import DescribedSchema, descriptions
from vsim.sim.scenario.scenario import Scenario


class Base(BaseModel):
    first: int
    """Of the base,
    over two lines."""
    second: int
    """Of the base."""
    third: int = Field(description="Of the field.")
    """Not shown: the field says what it is."""
    fourth: int


class Derived(Base):
    """A class's own docstring is none of a field."""

    second: int
    third: int
    """Of the derived."""


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            Base,
            {"first": "Of the base,\nover two lines.", "second": "Of the base.",
             "third": "Of the field."},
        ),
        (Derived, {"first": "Of the base,\nover two lines.", "third": "Of the derived."}),
    ],
)  # fmt: skip
def test_descriptions_are_of_the_class_that_writes_the_field(
    model: type[BaseModel], expected: dict[str, str]
) -> None:
    assert descriptions(model) == expected


def test_a_schema_shows_them_at_every_depth() -> None:
    schema = Scenario.model_json_schema(schema_generator=DescribedSchema)
    assert schema["properties"]["tiers"]["description"] == descriptions(Scenario)["tiers"]
    for section in schema["$defs"].values():
        for name, shown in section.get("properties", {}).items():
            assert shown.get("description"), name
