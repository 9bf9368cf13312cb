"""Two loads at once: what a call of each takes beside the other."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.measuring.samples import Work

_LEAST: Final = 3  # samples of each load that lie wholly beside the other


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Microseconds of each call of two loads.

    Args:
        one: of those of the first that ran wholly while the second did.
        other: of those of the second that ran wholly while the first did.
    """

    one: tuple[float, ...]
    other: tuple[float, ...]


def at_once(
    streams: tuple[Stream, Stream], works: tuple[Work, Work], alone_us: tuple[float, float]
) -> AtOnce:
    """Run two loads on two streams for the same while, and keep what overlapped.

    Args:
        streams: one for each.
        works: each puts one call on a stream.
        alone_us: what a call of each takes alone: so many of each are put there that both last
            about as long.

    Raises:
        ValueError: fewer than three calls of one lay wholly beside the other.
    """
    longest = max(alone_us)
    counts = [min(256, max(8, round(12 * longest / max(us, 1e-3)))) for us in alone_us]
    with ExitStack() as held:
        base = held.enter_context(Event(timing=True))
        marks = [
            [
                (held.enter_context(Event(timing=True)), held.enter_context(Event(timing=True)))
                for _ in range(count)
            ]
            for count in counts
        ]
        base.record(streams[0])
        streams[1].wait(base)
        # In turns, as many of each a turn as end at about the same time: neither stream runs dry.
        for turn in range(max(counts)):
            for stream, work, mine, count in zip(streams, works, marks, counts, strict=True):
                first, last = turn * count // max(counts), (turn + 1) * count // max(counts)
                for start, end in mine[first:last]:
                    start.record(stream)
                    work(stream)
                    end.record(stream)
        for stream in streams:
            stream.synchronize()
        spans = [
            [(start.us_since(base), end.us_since(base)) for start, end in mine] for mine in marks
        ]
    return overlapping(spans[0], spans[1])


def overlapping(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> AtOnce:
    """Keep the calls of each load that ran wholly while the other did.

    Args:
        one: begin and end of each call, in order.
        other: the same of the other load.
    """
    begin = max(one[0][0], other[0][0])
    end = min(one[-1][1], other[-1][1])
    kept = [tuple(b - a for a, b in spans if a >= begin and b <= end) for spans in (one, other)]
    if min(map(len, kept)) < _LEAST:
        raise ValueError(f"{len(kept[0])} and {len(kept[1])} calls lay beside each other")
    return AtOnce(kept[0], kept[1])
