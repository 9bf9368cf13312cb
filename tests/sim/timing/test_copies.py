"""Copies by a machine's rows: once, for each piece, and by size and number where that is known."""

import pytest
from pydantic import ValidationError

from vsim.sim.machine.copies import CopyRow

ROW = {"origin": "hbm", "target": "host", "way": "engine", "bandwidth": "50GB/s", "first": "8us",
       "each": "2us", "source": "assumption", "note": "by hand"}  # fmt: skip
PIECES = [
    {"size": "64KiB", "count": 16, "each": "2us"},
    {"size": "64KiB", "count": 256, "each": "2400ns"},
    {"size": "256KiB", "count": 16, "each": "3us"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("size_kib", "count", "each_ns"),
    [
        (64, 16, 2000), (64, 256, 2400),
        (64, 64, 2200),  # half way between 16 and 256, by their logarithms
        (64, 1, 2000), (64, 1000, 2400), (16, 16, 2000),  # beyond the ends as there
        (128, 16, 2500),  # half way between 64 and 256 KiB
        (128, 256, 2700),  # and 256 KiB has one number
        (4096, 64, 3000),
    ],
)  # fmt: skip
def test_pieces_are_interpolated_by_size_and_number(
    size_kib: int, count: int, each_ns: float
) -> None:
    row = CopyRow.model_validate({**ROW, "pieces": PIECES})
    assert row.each_ns(size_kib * 1024, count) == pytest.approx(each_ns)


def test_without_sizes_every_piece_takes_the_same() -> None:
    row = CopyRow.model_validate(ROW)
    assert {row.each_ns(size, count) for size in (1, 10**9) for count in (1, 999)} == {2000.0}


@pytest.mark.parametrize("pieces", [PIECES[::-1], [PIECES[0], PIECES[0]]])
def test_pieces_out_of_order_are_refused(pieces: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError, match="must rise by size, then by count"):
        CopyRow.model_validate({**ROW, "pieces": pieces})
