"""`PageSelection`: which recorded pages a step reads, as every kind of scenario asks for it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vsim.sim.inputs.words import Word

Name = Word
Share = Annotated[float, Field(gt=0, le=1)]
Sparsity = Annotated[float, Field(ge=0, lt=1)]


def several(value: object) -> object:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class PageSelection(BaseModel):
    """Which of the pages that a trace of attention recorded a step reads.

    A scenario adds `sparsity`: one, or several to compare.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["top-share", "top-mass", "window", "dense"] = "top-share"
    """`top-share`: the pages with the highest score, a fixed share. `top-mass`: as few as reach a
    share of the mass. `window`: sinks and the newest pages. `dense`: all."""
    score: Name | None = None
    """The score that `top-share` and `top-mass` rank by: `mass` (the default) or `quest`."""
    mass_share: Share | None = None
    """Share of the mass that `top-mass` reaches."""
    sinks: int | None = Field(default=None, ge=0, lt=1 << 31)
    """First pages that `window` always reads."""
    window: int | None = Field(default=None, ge=1, lt=1 << 31)
    """Newest pages that `window` always reads."""
