"""Copies and attention at once: what each takes alone, and what beside the other."""

from collections.abc import Iterator, Sequence

from vsim.hwbackend.calibration.attending import decode_load
from vsim.hwbackend.calibration.bench import PEER, Bench
from vsim.hwbackend.calibration.plan import LLAMA_3_1_8B, Plan, kv_bytes
from vsim.hwbackend.calibration.transfers import by_engine, ends, pieces
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.measuring.at_once import at_once
from vsim.hwbackend.measuring.samples import stream_us
from vsim.traces.gpu_samples import Point, Sampled

REQUESTS, CONTEXT = 64, 2048
LAUNCHES = 8
"""Of a graph, so that attention never waits for the host."""


def measure_besides(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time copies and decode attention, microseconds of one call of each."""
    loads: dict[tuple[str, int, int], dict[str, Point]] = {}
    for point in points:
        route, what = point.variant.split(" ", 1)
        loads.setdefault((route, point["bytes"], point["share"]), {})[what] = point
    for (route, size, share), wanted in loads.items():
        origin, target = ends(route)
        if PEER in (origin, target):
            bench.need_peer()
        copying = by_engine(pieces(bench, origin, target, size, 1), size)
        slow = PEER if PEER in (origin, target) else origin
        with decode_load(bench, LLAMA_3_1_8B, REQUESTS, CONTEXT, slow, share) as attending:
            attending(bench.main)
            with capture(bench.main) as graph:
                for _ in range(LAUNCHES):
                    attending(bench.main)
            with graph:
                copy_us = stream_us(copying, bench.side, plan.repeats)
                attend_us = stream_us(graph.launch, bench.main, plan.repeats)
                both = at_once(
                    (bench.main, bench.side),
                    (graph.launch, copying),
                    (attend_us.median_us, copy_us.median_us),
                )
        found = {
            "copy": both.other,
            "attention": _of_one(both.one),
            "copy alone": copy_us.all_us,
            "attention alone": _of_one(attend_us.all_us),
        }
        read = kv_bytes(LLAMA_3_1_8B, REQUESTS * CONTEXT)
        for what, point in wanted.items():
            yield Sampled(point, size if what.startswith("copy") else read, found[what])


def _of_one(taken_us: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(us / LAUNCHES for us in taken_us)
