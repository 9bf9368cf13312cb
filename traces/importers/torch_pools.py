"""name_pools: the pool of each event of PyTorch's caching allocator, by segments that were seen.

Up to PyTorch 2.11 an event does not say whether it is of a private pool (a captured graph's, or one
of `use_mem_pool`); the segments of a snapshot do. A segment is of one pool as long as it is there,
and a block is of its segment's.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vsim.traces.importers.torch_events import COMMON


@dataclass(slots=True)
class _Holder:
    """What was taken from the driver at once; state: its pool, as soon as it was seen."""

    pool: Any = None


@dataclass(slots=True)
class _Ranges:
    """Address ranges that are there; state: their starts in order, their ends and holders."""

    starts: list[int] = field(default_factory=list)
    by_start: dict[int, tuple[int, _Holder]] = field(default_factory=dict)

    def put(self, start: int, end: int, holder: _Holder) -> None:
        if start not in self.by_start:
            insort(self.starts, start)
        self.by_start[start] = (end, holder)

    def at(self, address: int) -> _Holder | None:
        place = bisect_right(self.starts, address) - 1
        if place < 0:
            return None
        end, holder = self.by_start[self.starts[place]]
        return holder if address < end else None

    def take(self, start: int, end: int) -> None:
        """Take a range out; what of others lies beside it stays."""
        at = max(bisect_right(self.starts, start) - 1, 0)
        while at < len(self.starts) and self.starts[at] < end:
            low = self.starts[at]
            high, holder = self.by_start[low]
            if high <= start:
                at += 1
                continue
            del self.starts[at], self.by_start[low]
            if low < start:
                self.put(low, start, holder)
                at += 1
            if high > end:
                self.put(end, high, holder)


def name_pools(
    rows: Sequence[Any], looks: Sequence[tuple[int, Sequence[Any]]]
) -> Sequence[dict[str, Any]]:
    """Give each event of one GPU a `pool_id`, as later versions of PyTorch write it.

    What is no event, and what lies in no segment that a look saw, is of the common pools or stays
    as it is: whoever reads the events afterwards says what is wrong with them.

    Args:
        rows: events, as `torch.cuda.memory._snapshot` lists them.
        looks: segments of that GPU as they were at a moment, each with how many events came before
            it, in this order.
    """
    ranges, found = _Ranges(), []
    following = iter(looks)
    look = next(following, None)
    for number, row in enumerate(rows):
        while look is not None and look[0] <= number:
            _see(ranges, look[1])
            look = next(following, None)
        action, start, size = _parts(row)
        if action in ("segment_alloc", "segment_map"):
            ranges.put(start, start + size, _Holder())
        found.append(ranges.at(start))
        if action in ("segment_free", "segment_unmap"):
            ranges.take(start, start + size)
    while look is not None:
        _see(ranges, look[1])
        look = next(following, None)
    return [
        {**row, "pool_id": holder.pool} if holder is not None and holder.pool is not None else row
        for row, holder in zip(rows, found, strict=True)
    ]


def _see(ranges: _Ranges, segments: Sequence[Any]) -> None:
    for start, end, pool in _pools(segments):
        place = max(bisect_right(ranges.starts, start) - 1, 0)
        for low in ranges.starts[place:]:
            if low >= end:
                break
            holder = ranges.by_start[low][1]
            if low >= start and holder.pool is None:
                holder.pool = pool


def _pools(segments: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    for segment in segments:
        if isinstance(segment, Mapping):
            start, size = segment.get("address"), segment.get("total_size")
            if type(start) is int and type(size) is int:
                yield start, start + size, segment.get("segment_pool_id", COMMON)


def _parts(row: Any) -> tuple[str, int, int]:
    """An event's action, address and size; nothing where they are not there."""
    if isinstance(row, Mapping):
        action, start, size = row.get("action"), row.get("addr"), row.get("size")
        if type(action) is str and type(start) is int and type(size) is int and size > 0:
            return action, start, size
    return "", -1, 0
