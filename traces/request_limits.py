"""The limits of a request that no single column shows: sums over a row, and along conversations."""

import numpy as np
from numpy.typing import NDArray

from vsim.traces.limits import MOST_NS, MOST_TOKENS

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


def too_many_tokens(prompt: _Ints, output: _Ints) -> _Mask:
    """Mark rows whose prompt and answer are more than MOST_TOKENS together."""
    return (prompt > MOST_TOKENS) | (output > MOST_TOKENS - np.clip(prompt, 0, MOST_TOKENS))


def tokens_message(prompt: int, output: int) -> str:
    """Say that a request has too many tokens."""
    return (
        f"prompt {prompt} and output {output} are more than {MOST_TOKENS:,} tokens together; "
        "no model's context is that long"
    )


def thought_too_long(parent: _Ints, think_ns: _Ints) -> _Mask:
    """Mark rows whose think times, with those of the turns before them, pass MOST_NS.

    Args:
        parent: int64[n], an earlier row or -1.
        think_ns: int64[n], -1 where unknown.
    """
    thought = np.maximum(think_ns, 0).astype(np.float64)
    if thought.sum() > MOST_NS:  # else no chain can: the usual case needs no further pass
        above = parent.copy()
        while (above >= 0).any():  # each pass doubles how many turns back a sum reaches
            has = np.nonzero(above >= 0)[0]
            thought[has] += thought[above[has]]
            above[has] = above[above[has]]
    late: _Mask = (thought > MOST_NS) | (think_ns > MOST_NS)
    return late
