"""Figure: a measured number, and how it was found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number.

    Args:
        value: in the unit that its name says.
        samples: it is from, all points together.
        spread: the most less the least as a share of the median, the largest of its points.
        how: what was measured, in a few words.
    """

    value: float
    samples: int
    spread: float
    how: str

    @property
    def note(self) -> str:
        """What a machine file says of it behind date and device."""
        return f"{self.how}; {self.samples} samples, spread {self.spread:.1%}"
