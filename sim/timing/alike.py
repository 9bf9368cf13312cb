"""Alike: tokens that choose the same experts, since their prompts begin alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Alike:
    """Tokens of prompts that begin in one of a few ways.

    Args:
        share: of its experts that a token has in common with all whose prompts begin as its own.
        openings: ways of beginning, all equally often.
    """

    share: float
    openings: int

    def choosing(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Tokens that touch as many experts as these, if each chose all of its experts for itself.

        The common share of a token's choices is made once for each opening that occurs among
        them: `openings` · (1 - (1 - 1 / `openings`)^tokens) are expected to.
        """
        count = np.asarray(tokens, dtype=np.float64)
        occurring = self.openings * (1.0 - (1.0 - 1.0 / self.openings) ** count)
        found: NDArray[np.float64] = self.share * occurring + (1.0 - self.share) * count
        return found
