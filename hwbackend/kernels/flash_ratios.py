"""What `against_flash` measured of each shape, and the tables of ratios."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One shape; microseconds are medians, with the least and the most.

    Args:
        device: the GPU.
        requests: in the batch.
        context: tokens of each.
        splits: FlashAttention 3's best; 0 is its own choice.
        ours_us: of `PagedDecode`.
        flash_us: of FlashAttention 3 at its best split.
        plain_us: of a plain kernel that reads as many bytes.
        apart: how far both results are from each other, by their norms.
        tried_us: FlashAttention 3's by splits.
    """

    device: str
    requests: int
    context: int
    splits: int
    ours_us: tuple[float, float, float]
    flash_us: tuple[float, float, float]
    plain_us: tuple[float, float, float]
    apart: float
    tried_us: dict[int, float]

    @property
    def ratio(self) -> float:
        """FlashAttention 3's time over ours: above 1 where ours is faster."""
        return self.flash_us[0] / self.ours_us[0]


def ratios(rows: Sequence[Row]) -> Iterator[str]:
    """The tables, a line a batch and a column a context; then what is slower, in words."""
    yield "FlashAttention 3's time over ours (above 1: ours is faster)"
    yield from _table(rows, lambda row: row.ratio)
    yield ""
    yield "our time over what a plain kernel needs to read as many bytes"
    yield from _table(rows, lambda row: row.ours_us[0] / row.plain_us[0])
    for row in rows:
        if row.ratio < 1:
            yield (
                f"slower: {row.requests} x {row.context:,}: {row.ours_us[0]:.2f} us against"
                f" {row.flash_us[0]:.2f} of {row.splits} splits; a plain kernel"
                f" {row.plain_us[0]:.2f}"
            )


def _table(rows: Sequence[Row], value: Callable[[Row], float]) -> Iterator[str]:
    by_shape = {(row.requests, row.context): row for row in rows}
    contexts = sorted({row.context for row in rows})
    yield f"{'requests':>8}" + "".join(f"{context:>9,}" for context in contexts)
    for requests in sorted({row.requests for row in rows}):
        found = [by_shape.get((requests, context)) for context in contexts]
        cells = (f"{value(row):9.3f}" if row else f"{'–':>9}" for row in found)
        yield f"{requests:>8}" + "".join(cells)
