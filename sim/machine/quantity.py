"""Quantity: a number of a machine file, with its source."""

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import show
from vsim.sim.inputs.words import Text

T = TypeVar("T")

Source = Literal["datasheet", "measurement", "assumption"]


class Part(BaseModel):
    """A part of a machine file: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quantity(Part, Generic[T]):
    """A number with its source: `{value: 80GiB, source: datasheet, note: …}`."""

    value: T = Field(description="The number, in the unit of its field.")
    source: Source = Field(description="Where it is from.")
    note: Text = Field(
        "",
        description="A measurement's date, device and driver; the reason of an assumption; "
        "a datasheet's name.",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_source(cls, data: Any) -> Any:
        if isinstance(data, dict | Quantity):
            return data
        written = data if isinstance(data, str) else show(data)
        raise ValueError(
            f"{show(data)} has no source; write it as {{value: {written}, source: datasheet}}"
            " (or measurement or assumption, with a note)"
        )

    @model_validator(mode="after")
    def _has_note(self) -> Self:
        if self.source != "datasheet" and not self.note.strip():
            wanted = "when and on what" if self.source == "measurement" else "why"
            raise ValueError(
                f"source {self.source} has no note; write `note: …` that says {wanted}"
            )
        return self
