"""How selections move in a recording, and the parameters of a generator that moves alike.

Each head is described by the selection of its top 20 % of pages:

- drift: the overlap of the selections of two steps, by the steps between them. It is turned into
  the correlation of two normal variables that exceed one threshold together as often
  (tetrachoric correlation), which a sum of decaying exponentials and a constant fits.
- neighbours: the same for two pages that lie side by side, at one step.
- place: how much more often the first pages (sinks) and the newest ones (locality) are selected,
  as a shift of the threshold.
- zipf: the exponent of attention mass against rank.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import MASS, AttentionTrace
from vsim.traces.faults import refuse
from vsim.traces.page_reads import PageReads
from vsim.traces.selection import TopShare, select
from vsim.traces.writing import FreshFile, marked

PROFILES = "head_profiles"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# Correlations from one step to the next of the parts that a page's score is made of; beside them
# there is a part that never changes and one that is new at every step.
DECAYS = (0.6, 0.93, 0.99)
# Distance from the newest page, in pages: bins [1, 2), [2, 3), [3, 5) …
NEAR = (1, 2, 3, 5, 9, 17, 33)
SINKS = 4
_DENSITY = 0.2
_LEAST_LISTED = 15  # of a row: a fifth of them, less the first, has a slope
_RARE = 1e-3  # a share below this cannot be told from none


@dataclass(frozen=True, slots=True)
class HeadProfile:
    """One head's parameters; shifts are in standard deviations of a page's score.

    Attributes:
        layer, kv_head: the head that was fitted.
        constant: variance of the part of a page's score that never changes.
        decaying: variances of the parts that decay as DECAYS say; the rest is new at every step.
        neighbour: correlation of the scores of two pages side by side.
        near: shift of pages at the distances NEAR from the newest.
        sinks: shift of each of the first pages.
        zipf: mass falls with rank to this power.
    """

    layer: int
    kv_head: int
    constant: float
    decaying: tuple[float, ...]
    neighbour: float
    near: tuple[float, ...]
    sinks: tuple[float, ...]
    zipf: float


def selected_sets(reads: PageReads) -> tuple[Bools, NDArray[np.int64]]:
    """Lay out reads as bool[T, heads, pages of a head]; also the layer and KV head of each."""
    key = reads.layer.astype(np.int64) << 16 | (reads.kv_head.astype(np.int64) + 1)
    heads, head = np.unique(key, return_inverse=True)
    sets = np.zeros((reads.steps, len(heads), int(reads.position.max()) + 1), np.bool_)
    step = np.repeat(np.arange(reads.steps), reads.reads_per_step)
    sets[step, head[reads.pages], reads.position[reads.pages]] = True
    return sets, np.stack([heads >> 16, (heads & 0xFFFF) - 1], axis=1)


def middle(sets: Bools, prompt_pages: int) -> Bools:
    """Leave out the sinks, the pages that are near at any step, and those not yet written."""
    return sets[:, :, SINKS : prompt_pages - NEAR[-1]]


def overlap(sets: Bools, lag: int) -> Floats:
    """Share of a step's selection that is selected again `lag` steps later, by head."""
    both = (sets[:-lag] & sets[lag:]).sum(axis=(0, 2))
    return np.asarray(both / np.maximum(1, sets[:-lag].sum(axis=(0, 2))), np.float64)


def tetrachoric(share: Floats, joint: Floats) -> Floats:
    """Correlation of two standard normals that both exceed the quantile of `share` with `joint`.

    With t the quantile, P(both) = share − 2 T(t, sqrt((1 − r)/(1 + r))), T of Owen; inverted by
    interpolation, between 0 and 1.
    """
    from scipy.special import ndtri, owens_t

    grid = np.linspace(0, 1, 1001)
    angle = np.sqrt((1 - grid) / (1 + grid))
    found = np.empty_like(share)
    for index in np.ndindex(share.shape):
        p = float(np.clip(share[index], _RARE, 1 - _RARE))
        both = p - 2 * owens_t(ndtri(1 - p), angle)
        found[index] = np.interp(joint[index], both, grid)
    return found


def drift(sets: Bools) -> Floats:
    """Tetrachoric correlation of a page's selection over LAGS: float64[heads, lags]."""
    share = sets.mean(axis=(0, 2))
    columns = [tetrachoric(share, overlap(sets, lag) * share) for lag in LAGS if lag < len(sets)]
    return np.stack(columns, axis=1)


def neighbours(sets: Bools) -> Floats:
    """Tetrachoric correlation of two pages side by side at one step, by head."""
    joint = (sets[:, :, 1:] & sets[:, :, :-1]).mean(axis=(0, 2))
    return tetrachoric(sets.mean(axis=(0, 2)), joint)


def place_shift(sets: Bools, pages: NDArray[np.int64], prompt_pages: int) -> tuple[Floats, Floats]:
    """Shift of the newest and of the first pages: [heads, len(NEAR)] and [heads, SINKS].

    Args:
        sets: bool[T, heads, pages].
        pages: int64[T], the pages that exist at each step.
        prompt_pages: pages of the prompt.
    """
    from scipy.special import ndtri

    def quantile(share: Floats) -> Floats:
        return np.asarray(ndtri(np.clip(share, _RARE, 1 - _RARE)), np.float64)

    base = quantile(middle(sets, prompt_pages).mean(axis=(0, 2)))
    step = np.arange(len(sets))
    near = []
    for first, last in zip(NEAR, (*NEAR[1:], 2 * NEAR[-1]), strict=True):
        shares = [
            sets[step, :, pages - 1 - distance].mean(axis=0) for distance in range(first, last)
        ]
        near.append(quantile(np.mean(shares, axis=0)) - base)
    sinks = quantile(sets[:, :, :SINKS].mean(axis=0)) - base[:, None]
    return np.stack(near, axis=1), sinks


def zipf_exponents(trace: AttentionTrace) -> Floats:
    """Fit log mass = c − zipf · log rank by least squares, ranks 1 % to 20 % of a row's pages."""
    mass = trace.mass()
    rows = len(trace)
    heads = rows // trace.steps
    slopes = np.zeros((trace.steps, heads))
    for row in range(rows):
        ordered = np.sort(mass[trace.offsets[row] : trace.offsets[row + 1]])[::-1]
        rank = np.arange(max(1, len(ordered) // 100), len(ordered) // 5)
        x = np.log2(rank + 1.0)
        y = np.log2(np.maximum(ordered[rank], 1e-30))
        x -= x.mean()
        slopes[row // heads, row % heads] = -(x @ y) / (x @ x)
    return np.asarray(slopes.mean(axis=0), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class HeadStatistics:
    """What a fit needs to know of one trace, by head.

    Attributes:
        heads: int64[heads, 2], layer and KV head.
        drift: float64[heads, lags], correlations over LAGS as far as the trace is long.
        neighbour: float64[heads].
        near, sinks: shifts, float64[heads, len(NEAR)] and float64[heads, SINKS].
        zipf: float64[heads].
    """

    heads: NDArray[np.int64]
    drift: Floats
    neighbour: Floats
    near: Floats
    sinks: Floats
    zipf: Floats


def short_of_a_fit(trace: AttentionTrace) -> str | None:
    """Say what a trace lacks that a fit needs, or None."""
    pages = trace.prompt_tokens // trace.page_tokens + 1
    needed = 2 * NEAR[-1] + SINKS
    if MASS not in trace.scores:
        return "has no mass; record it with attention mass"
    if (trace.request != trace.request[0]).any():
        return "holds several requests; fit to traces of one request each"
    if pages < needed:
        return f"has {pages} pages at its first step; record a prompt of {needed} pages or more"
    if trace.steps < 2 or len(trace) % trace.steps:
        return f"has {len(trace)} rows in {trace.steps} steps; record as many heads in each of two"
    if int(trace.row_pages.min()) < _LEAST_LISTED:
        few = int(trace.row_pages.min())
        return f"lists {few} pages in a row; keep {_LEAST_LISTED} or more"
    return None


def statistics(trace: AttentionTrace) -> HeadStatistics:
    """Measure a trace's selections of the top 20 % of pages."""
    sets, heads = selected_sets(select(trace, TopShare(1 - _DENSITY)))
    prompt_pages = -(-trace.prompt_tokens // trace.page_tokens)
    inner = middle(sets, prompt_pages)
    pages = (trace.prompt_tokens + np.arange(trace.steps)) // trace.page_tokens + 1
    near, sinks = place_shift(sets, pages, prompt_pages)
    return HeadStatistics(
        heads, drift(inner), neighbours(inner), near, sinks, zipf_exponents(trace)
    )


def fit(found: Sequence[HeadStatistics]) -> list[HeadProfile]:
    """Fit one profile a head to the mean of what was found in traces of one model."""
    from scipy.optimize import nnls

    lags_known = min(one.drift.shape[1] for one in found)
    curve = np.mean([one.drift[:, :lags_known] for one in found], axis=0)
    side = np.mean([one.neighbour for one in found], axis=0)
    near = np.mean([one.near for one in found], axis=0)
    first = np.mean([one.sinks for one in found], axis=0)
    slope = np.mean([one.zipf for one in found], axis=0)
    lags = np.array(LAGS[:lags_known], np.float64)
    basis = np.column_stack([np.ones_like(lags), *(decay**lags for decay in DECAYS)])
    profiles = []
    for number, (layer, kv_head) in enumerate(found[0].heads):
        weights, _ = nnls(basis, curve[number])
        weights = weights / max(1.0, weights.sum())
        profiles.append(
            HeadProfile(
                layer=int(layer),
                kv_head=int(kv_head),
                constant=round(float(weights[0]), 4),
                decaying=tuple(round(float(w), 4) for w in weights[1:]),
                neighbour=round(float(min(side[number], 0.98)), 4),
                near=tuple(round(float(x), 3) for x in near[number]),
                sinks=tuple(round(float(x), 3) for x in first[number]),
                zipf=round(float(slope[number]), 3),
            )
        )
    return profiles


def write_profiles(profiles: Sequence[HeadProfile], file: FreshFile, source: str) -> None:
    """Write profiles as JSON, a line a head, into a file of kind PROFILES; it is not published."""
    lines = ",\n".join(json.dumps(asdict(profile)) for profile in profiles)
    head = json.dumps(marked(PROFILES, {"source": source}))
    file.write(f'{head[:-1]}, "heads": [\n{lines}\n]}}\n')


def _profile(head: dict[str, Any]) -> HeadProfile:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in head.items()}
    profile = HeadProfile(**fields)
    variances = (profile.constant, *profile.decaying)
    numbers = (*variances, profile.neighbour, *profile.near, *profile.sinks, profile.zipf)
    places = (profile.layer, profile.kv_head)
    good = (
        len(profile.decaying) == len(DECAYS)
        and len(profile.near) == len(NEAR)
        and all(abs(x) <= 100 for x in numbers)  # NaN is not
        and min(variances) >= 0
        and sum(variances) <= 1 + 1e-3
        and profile.neighbour < 1
        and all(isinstance(n, int) and -1 <= n < 2**15 for n in places)
    )
    if not good:
        raise ValueError(f"head {places} is none that a fit writes")
    return profile


def read_profiles(path: Path | None = None) -> list[HeadProfile]:
    """Read profiles, by default those fitted to the committed recordings.

    Raises:
        InputError: the file is no JSON of profiles.
    """
    path = path or Path(__file__).with_name("attention_profiles.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["heads"]
        if not found:
            raise ValueError("the list of heads is empty")
        return [_profile(head) for head in found]
    except OSError as error:
        refuse(str(path), f"cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        refuse(str(path), f"holds no head profiles ({error}); write them with `vsim record fit`")
