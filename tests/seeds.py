"""How much a test draws: a part of it each time, all of it where `VSIM_ALL_SEEDS` is set."""

import os
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

ALL: Final = bool(os.environ.get("VSIM_ALL_SEEDS"))


def some(seeds: Sequence[T], every: int) -> Sequence[T]:
    """Each `every`-th of them."""
    return seeds if ALL else seeds[::every]


def examples(most: int, share: int = 5) -> int:
    """How many examples hypothesis draws: a `share`-th of them."""
    return most if ALL else max(most // share, 1)
