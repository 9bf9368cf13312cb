"""Classes of cases, and how far off each may be: `tolerances.yaml` beside this file.

One tolerance holds for all cases of a class on one GPU. It is no more than was aimed for, or says
why.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text, Word
from vsim.sim.inputs.yaml_input import load_yaml
from vsim.traces.faults import suggestion
from vsim.traces.schema import GPU_CASE_CLASSES

AIMED: Final[Mapping[str, float]] = {"median": 3.0, "p95": 8.0}
"""Percent."""
FIGURES: Final = tuple(AIMED)
TOLERANCES: Final = Path(__file__).parent / "tolerances.yaml"


class _Section(BaseModel):
    """A part of the file: no unknown keys, no changes after it was built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CaseTolerance(_Section):
    """How far off a class may be, in percent."""

    median: float = Field(ge=0, le=1000)
    """Median over cases of the relative error."""
    p95: float = Field(ge=0, le=1000)
    """The error that 95 of 100 cases do not exceed; a value that occurred."""


class CaseClass(_Section):
    """A class of cases."""

    name: Word
    """As the cases name it."""
    gpu: str = Field(default="", max_length=100)
    """A part of the GPU's name, in any case; left out: of any GPU that no entry before names."""
    cases: int = Field(default=0, ge=0)
    """Cases of the repository's recordings that the tolerance was taken of."""
    tolerance: CaseTolerance | None = None
    """Left out: not judged."""
    above: Text = ""
    """Why a tolerance is above what was aimed for."""

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        faults: list[tuple[Place, str]] = []
        if self.name not in GPU_CASE_CLASSES:
            unknown = f"'{self.name}' is no class{suggestion(self.name, GPU_CASE_CLASSES)}"
            faults.append((("name",), unknown))
        over = self.tolerance is not None and any(
            getattr(self.tolerance, name) > aimed for name, aimed in AIMED.items()
        )
        if over and not self.above.strip():
            aimed = ", ".join(f"{name} {value:g}" for name, value in AIMED.items())
            faults.append((("above",), f"is missing: the tolerance is above {aimed}; say why"))
        if self.above and not over:
            faults.append((("above",), "explains a tolerance that is not above; remove it"))
        if faults:
            raise FieldsError(faults)
        return self


class CaseClasses(_Section):
    """All classes, in the order in which they are printed."""

    classes: tuple[CaseClass, ...] = Field(min_length=1)
    """Each once."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        keys = [(each.name, each.gpu.lower()) for each in self.classes]
        faults: list[tuple[Place, str]] = [
            (("classes", at, "name"), f"'{key[0]}' is there already; keep one of them")
            for at, key in enumerate(keys)
            if keys.index(key) != at
        ]
        if faults:
            raise FieldsError(faults)
        return self

    def of(self, name: str, device: str) -> CaseClass:
        """The first entry of a class that fits a GPU; without one, one that judges nothing."""
        fits = (c for c in self.classes if c.name == name and c.gpu.lower() in device.lower())
        return next(fits, CaseClass(name=name))


def load_case_classes(path: Path = TOLERANCES) -> CaseClasses:
    """Read classes and tolerances. Raises InputError with every fault."""
    return load_yaml(path, CaseClasses)
