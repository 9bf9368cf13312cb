"""Words and texts in input files: one line of printable characters, and not without end."""

from typing import Annotated

from pydantic import AfterValidator, Field

from vsim.sim.inputs.model_faults import show

LONGEST_WORD = 1000
LONGEST_TEXT = 10_000


def _one_line(text: str) -> str:
    """Refuse line breaks and other characters that would tear a fault or a title apart."""
    if not text.isprintable():
        raise ValueError(f"{show(text)} holds a character that can't be printed; write one line")
    return text


Word = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD), AfterValidator(_one_line)]
"""A name or a path."""
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
"""A description or a note, of one line or several."""
