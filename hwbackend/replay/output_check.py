"""Attention's output held against a dense reference over the very pages that a step named."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.attention.reference import (
    attention,
    floats_of_bf16,
    keys_and_values,
    relative_error,
)
from vsim.hwbackend.cuda.buffers import download
from vsim.hwbackend.cuda.streams import Stream

TOLERATED: Final = 0.02
"""Of bf16 outputs against 64 bits, relative to the output's norm: its last bit is 0.4 %."""
MOST_PAGES: Final = 1024
"""Of a row that is looked at."""
Int64s = NDArray[np.int64]


class WrongOutputError(RuntimeError):
    """Attention's output is not that of the pages that it should have read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One token's attention in one layer.

    Args:
        query: address of its query heads, bf16.
        output: address of what attention wrote for them.
        pages: addresses of its pages' first bytes, of the layer.
        tokens: that it attends to.
        name: what it is, for the message.
    """

    query: int
    output: int
    pages: Int64s
    tokens: int
    name: str


def check_row(row: Row, layout: PageLayout, heads: int, stream: Stream) -> None:
    """Work a row out again in 64 bits.

    Args:
        row: what to look at.
        layout: of a page; of several layers, `pages` begin where the layer does.
        heads: query heads.
        stream: that the step ran on.

    Raises:
        WrongOutputError: the output is another.
    """
    pages = [
        download(np.empty(layout.layer_stride, np.uint8), address, stream)
        for address in row.pages.tolist()
    ]
    keys, values = keys_and_values(pages, layout, row.tokens)
    query, found = (
        floats_of_bf16(download(np.empty((1, heads, layout.head_dim), np.uint16), at, stream))
        for at in (row.query, row.output)
    )
    error = relative_error(found, attention(query, keys, values))
    if not error <= TOLERATED:  # also where it is no number
        raise WrongOutputError(
            f"attention of {row.name} over {row.tokens:,} tokens differs from a dense reference "
            f"by {100 * error:.2g}%"
        )
