"""Part: what all parts of a layer have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1 << 24)]
"""A width or a number of heads, experts or words: a hundred times the largest that there are."""
Several = Annotated[int, Field(ge=0, le=1 << 24)]
"""The same, or none."""


class Part(BaseModel):
    """A group of fields of a model file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
