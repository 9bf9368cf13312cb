"""How many tokens a block of prefix ids has: told by tokens and ids of the whole file."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import refuse

_Ints = NDArray[np.int64]
CANDIDATES: Final[tuple[int, ...]] = tuple(1 << power for power in range(13))
_NEARLY_ALL: Final = 0.9
_MOST: Final = 0.5


def share_fitting(tokens: _Ints, counts: _Ints, block: int) -> float:
    """Return the share of rows with ids that have one id a block, the last one whole or not."""
    there = counts > 0
    if not there.any():
        return 1.0
    tokens, counts = tokens[there], counts[there]
    return float(np.mean((counts == tokens // block) | (counts == -(-tokens // block))))


def block_tokens_of(
    file: str, tokens: _Ints, counts: _Ints, usual: int, given: int | None, notes: list[str]
) -> int:
    """Return the tokens of a block.

    Args:
        file: its name, for the refusal.
        tokens: int64[n], tokens of each prompt.
        counts: int64[n], ids of each prompt.
        usual: the format's own.
        given: what the user says, which is taken.
        notes: is told where it is not the format's own.

    Raises:
        InputError: several sizes fit nearly all ids and the format's own does not, or none does
            and the format's own not even most.
    """
    if given is not None:
        return given
    usually = share_fitting(tokens, counts, usual)
    if usually >= _NEARLY_ALL:
        return usual
    fitting = [block for block in CANDIDATES if share_fitting(tokens, counts, block) >= _NEARLY_ALL]
    example = int(np.argmax(np.where(counts > 0, counts, 0)))
    found = f"{tokens[example]:,} tokens with {counts[example]:,} ids"
    if len(fitting) == 1:
        notes.append(
            f"prefix blocks read as {fitting[0]} tokens, which fit the ids; the format's own "
            f"{usual} do not ({found})"
        )
        return fitting[0]
    if usually >= _MOST and not fitting:
        return usual  # the rows that do not fit are counted in a note, see `contradiction`
    which = f"blocks of {' or '.join(map(str, fitting))} fit" if fitting else "no block size fits"
    refuse(
        file,
        f"its ids contradict the format's blocks of {usual} tokens ({found}), and {which}; say "
        "which with `vsim trace import --block-tokens`",
        place="prefix ids",
    )


def contradiction(tokens: _Ints, counts: _Ints, block: int) -> str | None:
    """Say how many rows have other than one id a block, or None where all have."""
    share = share_fitting(tokens, counts, block)
    if share == 1.0:
        return None
    with_ids = int(np.count_nonzero(counts))
    other = with_ids - round(share * with_ids)
    return (
        f"{other:,} of {with_ids:,} requests with prefix ids have other than one id a block of "
        f"{block} tokens"
    )
