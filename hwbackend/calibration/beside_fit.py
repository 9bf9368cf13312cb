"""What loads take from each other beside each other: copies, attention, and a step's products."""

from collections.abc import Iterator

from vsim.hwbackend.calibration.figures import Figure
from vsim.hwbackend.calibration.plan import WHOLE
from vsim.traces.gpu_samples import GpuSamples, Sampled

_SLOWED = 1.02  # a copy beside attention, for the two to be at odds over HBM


def _over_hbm(samples: GpuSamples) -> Iterator[tuple[str, dict[str, Sampled]]]:
    """Each route's copy and attention over HBM alone, alone and beside each other."""
    for route in ("peer-hbm", "hbm-peer", "host-hbm", "hbm-host"):
        rows = {
            row.point.variant.split(" ", 1)[1]: row
            for row in samples.of("beside")
            if row.point.variant.split()[0] == route and not row.point["share"]
        }
        if {"copy", "attention", "copy alone", "attention alone"} <= set(rows):
            yield route, rows


def _at_odds(samples: GpuSamples) -> dict[str, tuple[float, Sampled, Sampled]]:
    """Of routes whose copies attention slows, its rate from HBM over theirs, and the two rows."""
    return {
        route: (rows["attention"].bytes_per_s / rows["copy"].bytes_per_s, rows["copy"],
                rows["attention"])
        for route, rows in _over_hbm(samples)
        if rows["copy"].median > _SLOWED * rows["copy alone"].median
    }  # fmt: skip


def hbm_weight(samples: GpuSamples) -> dict[str, Figure]:
    """The weight of attention's flow from HBM against the copies that it slows most.

    As max-min shares have it, both then have what HBM gives in proportion to their weights. None
    where no copy was slowed by 2 %.
    """
    found = _at_odds(samples)
    if not found:
        return {}
    route = max(found, key=lambda each: found[each][0])
    rate, copied, attended = found[route]
    return {
        "hbm weight": Figure(
            rate,
            len(copied.samples) + len(attended.samples),
            max(copied.spread, attended.spread),
            f"attention over HBM beside copies, {route}",
        )
    }


def copy_weights(samples: GpuSamples) -> dict[str, float]:
    """The weight of copies by engine beside attention, by route; the least is 1.

    The one that attention slows most has 1. One that it does not slow reached what it did at least
    by its weight, unless a link of its own bound it before that.
    """
    slowed = _at_odds(samples)
    if not slowed:
        return {}
    most = max(rate for rate, _, _ in slowed.values())
    return {
        route: max(most * rows["copy"].bytes_per_s / rows["attention"].bytes_per_s, 1.0)
        for route, rows in _over_hbm(samples)
    }


def hbm_costs(samples: GpuSamples) -> dict[str, float]:
    """What a copied byte takes of HBM, in bytes that attention reads less beside it."""
    found = {}
    for route, rows in _over_hbm(samples):
        lost = rows["attention alone"].bytes_per_s - rows["attention"].bytes_per_s
        found[route] = max(lost / rows["copy"].bytes_per_s, 1.0)
    return found


def beside_steps(samples: GpuSamples) -> dict[str, float]:
    """How many times as long pages take beside a step's products as alone, by route."""
    found: dict[str, dict[str, float]] = {}
    for row in samples.of("paging"):
        route, what = row.point.variant.split(" ", 1)
        found.setdefault(route, {})[what] = row.median
    return {
        route: max(taken["beside"] / taken["alone"], 1.0)
        for route, taken in found.items() if {"beside", "alone"} <= set(taken)
    }  # fmt: skip


_BUSY = 0.8  # of a link, for two loads on it to say how it is shared


def link_weight(samples: GpuSamples) -> dict[str, Figure]:
    """An attend's weight against copies on a link that both keep busy.

    The rate at which attention reads its slow pages over the copy's, where together they reach what
    the link gives one of them alone.
    """
    for route in ("peer-hbm", "host-hbm"):
        by: dict[int, dict[str, Sampled]] = {}
        for row in samples.of("beside"):
            found, what = row.point.variant.split(" ", 1)
            if found == route and row.point["share"]:
                by.setdefault(row.point["share"], {})[what] = row
        for share, rows in sorted(by.items(), reverse=True):
            if not {"copy", "attention", "copy alone"} <= set(rows):
                continue
            attend = rows["attention"].bytes_per_s * share / WHOLE
            copied = rows["copy"].bytes_per_s
            if attend + copied >= _BUSY * rows["copy alone"].bytes_per_s:
                each = [rows["attention"], rows["copy"]]
                return {
                    "copy weight": Figure(
                        attend / copied,
                        sum(len(row.samples) for row in each),
                        max(row.spread for row in each),
                        f"attention with {share / WHOLE:.0%} of its pages beside copies, {route}",
                    )
                }
    return {}
