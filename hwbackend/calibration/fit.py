"""Fit: samples to the numbers of a machine. Pure: the same samples give the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from vsim.hwbackend.calibration.beside_fit import (
    beside_steps,
    copy_weights,
    hbm_costs,
    hbm_weight,
    link_weight,
)
from vsim.hwbackend.calibration.clearing_fit import ClearingFit, fit_clearing
from vsim.hwbackend.calibration.figures import Figure
from vsim.hwbackend.calibration.mixes import FormScore, Mixes, choose_form, score_forms
from vsim.hwbackend.calibration.plan import VMM_CALLS, WHOLE
from vsim.hwbackend.measuring.facts import MachineFacts
from vsim.traces.gpu_samples import GpuSamples, Sampled

SLOW_PLACES = ("peer", "host")


@dataclass(frozen=True, slots=True)
class CopyFit:
    """Copies on a route: n of b bytes take first + n · (each + b / bandwidth).

    Args:
        bytes_per_s: of each piece.
        first_us: once.
        each_us: for each piece.
        pieces_us: the same by a piece's bytes and by how many, of more than one.
        worst: largest error of a point, as a share; those of many pieces are met by `pieces_us`.
        points: how many were fitted.
        samples: of all points.
    """

    bytes_per_s: float
    first_us: float
    each_us: float
    pieces_us: Mapping[tuple[int, int], float]
    worst: float
    points: int
    samples: int


@dataclass(frozen=True, slots=True)
class VmmFit:
    """What each call cost a chunk, microseconds.

    Args:
        us: by call; of a reserve, of the range.
        samples: of each call, the fewest.
        spread: the largest.
    """

    us: Mapping[str, float]
    samples: int
    spread: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """All that samples say of a machine. What they do not hold is not there.

    Args:
        facts: of the machine.
        figures: by name: `hbm read`, `host-hbm copy`, … ; bytes/s, µs, W, MHz or shares.
        copies: by route and way.
        vmm: by place, chunk and number of chunks.
        clearing: of HBM; None where nothing waits for it.
        hbm_costs: of copies by engine, by route: HBM's time that a byte takes beside attention,
            over what a byte that attention reads takes; 1 at least.
        weights: of copies by engine, by route, against attention's over HBM.
        beside_steps: of copies of pages by engine, by route: how many times as long they take
            beside products that keep HBM busy as alone; 1 at least.
        attends: forms of an attend over HBM and slow places, and how each predicts shares left
            out; the first is the one chosen. None where no mixes were measured.
    """

    facts: MachineFacts
    figures: Mapping[str, Figure] = field(default_factory=dict)
    copies: Mapping[tuple[str, str], CopyFit] = field(default_factory=dict)
    vmm: Mapping[tuple[str, int, int], VmmFit] = field(default_factory=dict)
    clearing: ClearingFit | None = None
    hbm_costs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    beside_steps: Mapping[str, float] = field(default_factory=dict)
    attends: tuple[FormScore, ...] = ()


def fit(samples: GpuSamples) -> Fitted:
    """Fit everything."""
    copies = {
        (route, way): made
        for route, way in sorted(_routes(samples))
        if (made := fit_copies(samples.of("copy", f"{route} {way}"))) is not None
    }
    return Fitted(
        MachineFacts.from_json(samples.facts),
        {
            **_memory(samples),
            **_copy_figures(samples),
            **_rest(samples),
            **link_weight(samples),
            **hbm_weight(samples),
        },
        copies,
        fit_vmm(samples.of("vmm")),
        fit_clearing(samples),
        hbm_costs(samples),
        copy_weights(samples),
        beside_steps(samples),
        fit_attends(samples),
    )


def fit_attends(samples: GpuSamples) -> tuple[FormScore, ...]:
    """Score all forms, the chosen one first; none where no mixes were measured."""
    places = {
        place: mixes for place in SLOW_PLACES if (mixes := mixes_of(samples, place)) is not None
    }
    if not places:
        return ()
    scores = score_forms(places)
    chosen = choose_form(scores)
    return (chosen, *(score for score in scores if score is not chosen))


def fit_copies(rows: Sequence[Sampled]) -> CopyFit | None:
    """Fit a route's copies. None where fewer than three points were measured.

    The bandwidth is that of the piece that is largest, less what the smallest takes alone; what
    comes once and what each piece takes then follow by least squares of relative errors. What each
    of many pieces of a size takes is what is left of their time.
    """
    if len(rows) < 3:
        return None
    count = np.array([row.point["count"] for row in rows], dtype=np.float64)
    size = np.array([row.point["bytes"] for row in rows], dtype=np.float64)
    taken = np.array([row.median for row in rows])
    moved = size * count
    large, small = int(np.lexsort((-count, size))[-1]), int(np.argmin(moved))
    if moved[large] <= moved[small] or taken[large] <= taken[small]:
        return None
    byte = float((taken[large] - taken[small]) / (moved[large] - moved[small]))
    columns = np.stack([np.ones(len(rows)), count], axis=1) / taken[:, None]
    left = np.maximum(taken - moved * byte, 0.0) / taken
    (first, each), _ = nnls(columns, left)
    beside = np.maximum((taken - first - moved * byte) / count, 0.0)
    pieces_us = {
        (int(one), int(many)): float(us)
        for one, many, us in zip(size, count, beside, strict=True) if many > 1
    }  # fmt: skip
    per_piece = np.where(count > 1, beside, each)
    errors = np.abs((first + count * per_piece + moved * byte) / taken - 1)
    samples = sum(len(row.samples) for row in rows)
    return CopyFit(
        1e6 / byte, float(first), float(each), pieces_us, float(errors.max()), len(rows), samples
    )


def fit_vmm(rows: Sequence[Sampled]) -> dict[tuple[str, int, int], VmmFit]:
    """Gather the medians of the calls on each kind of chunks that have all calls.

    A map only notes an address, whatever the chunk's size; the backend does it together with the
    access. So of chunks of one number and place all maps cost what those of the smallest do, whose
    access is least, and what is beyond that is the access's: page tables, memory cleared first.
    """
    found: dict[tuple[str, int, int], dict[str, Sampled]] = {}
    for row in rows:
        place, name = row.point.variant.split()
        found.setdefault((place, row.point["chunk"], row.point["chunks"]), {})[name] = row
    complete = {
        key: calls
        for key, calls in found.items()
        if set(calls)
        >= set(VMM_CALLS) - {"set_access_again", "grow", "round"}  # older samples have none
    }
    of_smallest = {
        (place, chunks): calls["map"].median
        for (place, _, chunks), calls in sorted(complete.items(), key=lambda each: -each[0][1])
    }
    fits = {}
    for key, calls in complete.items():
        us: dict[str, float] = {n: calls[n].median for n in VMM_CALLS if n in calls}
        mapped = of_smallest[key[0], key[2]]
        us["set_access"] = max(us["set_access"] + us["map"] - mapped, 0.0)
        us["map"] = mapped
        fits[key] = VmmFit(
            us,
            min(len(call.samples) for call in calls.values()),
            max(call.spread for call in calls.values()),
        )
    return fits


def mixes_of(samples: GpuSamples, place: str) -> Mixes | None:
    """Mixes with one slow place; None where there are too few.

    HBM's part of a mix takes as much less than all of it as it has fewer pages, but for what any
    launch takes, which is the least time of a decode.
    """
    rows = samples.of("mixed_attention", place)
    alone = {
        (row.point["batch"], row.point["context"]): row.median
        for row in rows
        if row.point["share"] == 0
    }
    decodes = [row.median for row in samples.of("decode_attention")]
    floor = min(decodes, default=0.0)
    kept = [row for row in rows if (row.point["batch"], row.point["context"]) in alone]
    share = np.array([row.point["share"] / WHOLE for row in kept])
    if len(np.unique(share)) < 4:
        return None
    whole = np.array([alone[row.point["batch"], row.point["context"]] for row in kept])
    size = np.array([row.bytes for row in kept], dtype=np.float64)
    least = min(floor, float(whole.min()) / 2)
    hbm = np.where(share < 1, least + (whole - least) * (1 - share), 0.0)
    return Mixes(share, hbm, share * size, np.array([row.median for row in kept]))


def _routes(samples: GpuSamples) -> set[tuple[str, str]]:
    """Routes and ways on which pieces were copied."""
    pairs = {tuple(row.point.variant.split(" ", 1)) for row in samples.of("copy")}
    return {(route, way) for route, way in pairs if way in ("engine", "kernel")}


def _figure(row: Sampled, value: float, how: str) -> Figure:
    return Figure(value, len(row.samples), row.spread, how)


def _largest(rows: Sequence[Sampled]) -> Sampled | None:
    """The row that moves most."""
    return max(rows, key=lambda row: row.bytes, default=None)


def _memory(samples: GpuSamples) -> dict[str, Figure]:
    """Ceilings and latencies of memories."""
    found = {}
    for place in ("hbm", *SLOW_PLACES):
        rows = [row for row in samples.of("read", place) if row.point["sixteenths"] == 16]
        if (row := _largest(rows)) is not None:
            how = f"a kernel of 16-byte loads over {row.bytes >> 20} MiB"
            found[f"{place} read"] = _figure(row, row.bytes_per_s, how)
        if (row := _largest(samples.of("latency", place))) is not None:
            how = "one thread that follows pointers"
            found[f"{place} latency"] = _figure(row, row.median, how)
    if (row := _largest(samples.of("write", "hbm"))) is not None:
        how = f"a kernel of 16-byte stores over {row.bytes >> 20} MiB"
        found["hbm write"] = _figure(row, row.bytes_per_s, how)
    return found


def _copy_figures(samples: GpuSamples) -> dict[str, Figure]:
    """Bandwidths of the largest single copy of each route, alone and both ways at once."""
    found = {}
    for variant in sorted({row.point.variant for row in samples.of("copy")}):
        route, way = variant.split(" ", 1)
        if way == "kernel":
            continue
        rows = [row for row in samples.of("copy", variant) if row.point["count"] == 1]
        if (row := _largest(rows)) is not None:
            size = f"{row.point['bytes'] >> 20} MiB"
            how = f"copies of {size} both ways at once" if way == "both ways" else f"copy of {size}"
            name = f"{route} both" if way == "both ways" else f"{route} copy"
            found[name] = _figure(row, row.bytes_per_s, how)
    return found


_LARGE_WEIGHTS = 2**24  # numbers of a matrix, for its products to reach what the GPU can do


def _rest(samples: GpuSamples) -> dict[str, Figure]:
    """Launches, power, clock, and what attention and products reach."""
    found = {}
    for row in samples.of("launch"):
        if row.point.get("kernels", 1) in (1, 256) and not (
            row.point.variant == "graph" and row.point["kernels"] != 1
        ):
            found[f"launch {row.point.variant}"] = _figure(
                row, row.median, "an empty kernel, called from Python"
            )
    for probe in ("power", "clock"):
        for row in samples.of(probe):
            how = f"looks at the board, {row.point.variant}"
            found[f"{probe} {row.point.variant}"] = _figure(row, row.median, how)
    decodes = [row for row in samples.of("decode_attention") if row.point["head_dim"] == 128]
    if decodes:
        row = max(decodes, key=lambda each: each.bytes_per_s)
        how = f"decode attention, {row.point['batch']} × {row.point['context']:,} tokens"
        found["attention read"] = _figure(row, row.bytes_per_s, how)
    products = [
        row
        for row in samples.of("products")
        if row.point["m"] >= 1024 and row.point["n"] * row.point["k"] >= _LARGE_WEIGHTS
    ]
    if products:
        rates = [_flops_per_s(row) for row in products]
        how = f"{len(products)} bf16 products of 1,024 tokens and more, the median"
        found["product flops"] = Figure(
            float(np.median(rates)),
            sum(len(row.samples) for row in products),
            max(row.spread for row in products),
            how,
        )
    return found


def _flops_per_s(row: Sampled) -> float:
    return 2e6 * row.point["m"] * row.point["n"] * row.point["k"] / row.median
