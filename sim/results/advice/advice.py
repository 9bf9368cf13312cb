"""Advice: one change that could help, and what it saves at most."""

from dataclasses import dataclass

LEAST_WORTH = 0.01
"""Advice that could save less is not given."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One change.

    Args:
        text: the change in words.
        saves: share of the busy time that it saves at most.
        setting: the change as `--set` takes it; None where it is another machine or workload.
    """

    text: str
    saves: float
    setting: str | None = None
