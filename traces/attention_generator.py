"""Draw attention over contexts that no small model reaches, by heads fitted to a real one.

A page's score in a head is a sum of normal parts: one that never changes, some that decay at their
own pace (AR(1) from step to step), one that is new at every step. Each part is correlated between
neighbouring pages. The first pages and the newest ones are shifted. A step's selection is the
pages with the highest scores, and mass falls with rank as Zipf's law says. Heads are independent.

What is assumed when a context is longer than those recorded: a head selects a share of its pages,
not a number of them, and drift, neighbours, Zipf's exponent and the reach of locality in pages
stay what they were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import LARGEST_COUNTS, MASS, AttentionTrace
from vsim.traces.attention_fit import DECAYS, NEAR, HeadProfile, read_profiles
from vsim.traces.faults import Fault
from vsim.traces.machine_memory import memory_fault
from vsim.traces.score_codes import LogScale

F32 = NDArray[np.float32]

MOST_TOKENS = LARGEST_COUNTS["prompt_tokens"]
"""Of a context: places in it are 32 bits wide."""
MOST_OF_PAGE = {name: LARGEST_COUNTS[name] for name in ("page_tokens", "page_bytes")}
MOST_HEADS = 2**15
"""KV heads over all layers: a page's head is 16 bits wide."""
MOST_ENTRIES = 2**31 - 1
"""Pages that all rows of a trace list: offsets of an Arrow list are 32 bits wide."""
_BYTES_OF_ENTRY = 24
"""Peak of drawing and writing a trace, an entry: measured 7 and some 12, rounded up."""
_BYTES_OF_PAGE = 128
"""Beside it, a page of a head: its scores' parts while it is drawn."""


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """What to draw.

    Args:
        prompt_tokens: tokens in the cache before the first step.
        steps: tokens decoded.
        heads: KV heads to draw; the fitted heads are taken in turn, spread over all layers.
        seed: of numpy's PCG64.
        kept: share of a row's pages that is written, by mass; selections can read no more.
        variation: 1 drifts as recorded; 0 never changes; 2 drifts twice as fast.
        page_tokens: tokens of a page.
        page_bytes: bytes of K and V of one page in one layer and KV head.
    """

    prompt_tokens: int
    steps: int
    heads: int = 90
    seed: int = 0
    kept: float = 0.4
    variation: float = 1.0
    page_tokens: int = 16
    page_bytes: int = 4096

    def __post_init__(self) -> None:
        if min(self.prompt_tokens, self.steps, self.heads, self.page_tokens, self.page_bytes) < 1:
            raise ValueError("prompt_tokens, steps, heads, page_tokens and page_bytes must be ≥ 1")
        for name, most in MOST_OF_PAGE.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}; write at most {most}")
        if self.heads > MOST_HEADS:
            raise ValueError(f"heads is {self.heads}; write at most {MOST_HEADS}")
        if self.prompt_tokens + self.steps > MOST_TOKENS:
            tokens = self.prompt_tokens + self.steps
            raise ValueError(f"prompt_tokens and steps are {tokens} in all; at most {MOST_TOKENS}")
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept is {self.kept}; write a share such as 0.4")
        if not 0 <= self.variation <= 10:
            raise ValueError(f"variation is {self.variation}; write a number from 0 to 10")

    @property
    def pages(self) -> int:
        """Pages of a head at the end."""
        return (self.prompt_tokens + self.steps - 1) // self.page_tokens + 1

    @property
    def entries(self) -> int:
        """About how many pages all rows list: as many as the mean of the first and the last row."""
        first = self.prompt_tokens // self.page_tokens + 1
        return int(self.heads * self.steps * (self.kept * (first + self.pages) / 2 + 1))

    def fault(self, file: str) -> Fault | None:
        """What speaks against drawing this trace and writing it to a file, if anything does."""
        if self.entries > MOST_ENTRIES:
            message = f"lists about {self.entries:,} pages in all rows; at most {MOST_ENTRIES:,}"
            return Fault(file, f"{message}: write fewer tokens, heads or steps")
        needed = self.entries * _BYTES_OF_ENTRY + self.pages * _BYTES_OF_PAGE
        return memory_fault(file, needed, f"{self.entries:,} pages in all rows")


def generate(spec: GeneratorSpec, profiles: Sequence[HeadProfile] | None = None) -> AttentionTrace:
    """Draw a trace of one request; each row lists the pages kept, with their mass as codes.

    Args:
        spec: what to draw.
        profiles: heads; by default those fitted to the committed recordings.
    """
    known = list(profiles) if profiles is not None else read_profiles()
    spread = len(known) / min(spec.heads, len(known))
    chosen = [known[int(i * spread) % len(known)] for i in range(spec.heads)]
    pages = (spec.prompt_tokens + np.arange(spec.steps)) // spec.page_tokens + 1
    kept = np.maximum(1, np.ceil(spec.kept * pages - 1e-9).astype(np.int64))
    scale = LogScale(0.5)
    # one head at a time over all steps, then put in the order of the rows: step, layer, head
    lengths = np.repeat(kept, spec.heads)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    listed = np.empty(int(offsets[-1]), np.int32)
    codes = np.empty(int(offsets[-1]), np.uint8)
    seeds = np.random.SeedSequence(spec.seed).spawn(spec.heads)
    for number, (profile, seed) in enumerate(zip(chosen, seeds, strict=True)):
        generator = np.random.Generator(np.random.PCG64(seed))
        weight = np.arange(1, pages[-1] + 1, dtype=np.float64) ** -profile.zipf
        total = np.cumsum(weight)
        scores = _Scores(profile, int(pages[-1]), spec.variation, generator)
        for step, row_scores in enumerate(scores.steps(pages)):
            top, rank = _heaviest(row_scores, int(kept[step]))
            row = step * spec.heads + number
            listed[offsets[row] : offsets[row + 1]] = top
            mass = (weight[rank] / total[pages[step] - 1]).astype(np.float32)
            codes[offsets[row] : offsets[row + 1]] = scale.nearest(mass)
    number_of = np.arange(len(lengths))
    per_layer = max(p.kv_head for p in known) + 1
    return AttentionTrace(
        step=number_of // spec.heads,
        request=np.zeros(len(lengths), np.int64),
        layer=(number_of % spec.heads // per_layer).astype(np.int32),
        kv_head=(number_of % spec.heads % per_layer).astype(np.int32),
        offsets=offsets,
        pages=listed,
        scores={MASS: codes},
        scales={MASS: scale},
        page_tokens=spec.page_tokens,
        page_bytes=spec.page_bytes,
        prompt_tokens=spec.prompt_tokens,
        source=f"generated from fitted heads: {spec}",
        licence="Apache-2.0",
        facts={f"{MASS}_kept": f"{spec.kept:g}"},
    )


class _Scores:
    """The scores of one head's pages, step after step. Mutable: the parts that decay."""

    def __init__(
        self, profile: HeadProfile, width: int, variation: float, generator: np.random.Generator
    ) -> None:
        self._profile = profile
        self._width = width
        self._generator = generator
        parts = (profile.constant, *profile.decaying)
        fresh = max(0.0, 1 - sum(parts))
        faster = min(1.0, fresh * variation)
        rest = (1 - faster) / max(1e-9, 1 - fresh)
        self._weights = [np.float32(np.sqrt(part * rest)) for part in parts]
        self._fresh = np.float32(np.sqrt(faster))
        self._decays = [np.float32(decay**variation) for decay in DECAYS]
        self._constant = self._draw(1)[0] * self._weights[0]
        self._parts = [self._draw(1)[0] for _ in DECAYS]
        distance = np.log2(np.arange(1, 2 * NEAR[-1]))
        self._shift = np.interp(distance, np.log2(NEAR), profile.near).astype(np.float32)

    def _draw(self, steps: int) -> F32:
        """Draw normal values [steps, pages], correlated between neighbours."""
        from scipy.signal import lfilter

        fresh = self._generator.standard_normal((steps, self._width), dtype=np.float32)
        r = np.float32(self._profile.neighbour)
        if r > 0:
            fresh[:, 1:] *= np.sqrt(1 - r * r)
            recursion = np.array([1, -r], np.float32)
            fresh = np.asarray(
                lfilter(np.ones(1, np.float32), recursion, fresh, axis=1), np.float32
            )
        return fresh

    def _block(self, steps: int) -> F32:
        """Advance by some steps; return the scores before any shift, [steps, pages]."""
        from scipy.signal import lfilter

        total: F32 = np.broadcast_to(self._constant, (steps, self._width)).copy()
        for number, decay in enumerate(self._decays):
            weight = self._weights[number + 1]
            if weight == 0:
                continue
            if decay == 1:
                total += weight * self._parts[number]
                continue
            gain = np.array([np.sqrt(1 - decay * decay)], np.float32)
            recursion = np.array([1, -decay], np.float32)
            before = (decay * self._parts[number])[None, :]
            part, _ = lfilter(gain, recursion, self._draw(steps), axis=0, zi=before)
            self._parts[number] = part[-1]
            total += weight * part
        if self._fresh > 0:
            total += self._fresh * self._draw(steps)
        return total

    def steps(self, pages: NDArray[np.int64]) -> Iterator[F32]:
        """Yield the scores of the pages that exist at each step, the newest always first."""
        block = max(1, (1 << 20) // self._width)
        for first in range(0, len(pages), block):
            counts = pages[first : first + block]
            for row, count in zip(self._block(len(counts)), counts, strict=True):
                scores = row[:count]
                reach = min(int(count) - 1, len(self._shift))
                scores[count - 1 - reach : count - 1] += self._shift[:reach][::-1]
                sinks = np.array(self._profile.sinks[: count - 1], np.float32)
                scores[: len(sinks)] += sinks
                scores[count - 1] = np.inf
                yield scores


def _heaviest(scores: F32, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pages with the highest scores, ascending, and the rank of each."""
    top = np.argpartition(-scores, count - 1)[:count]
    top = top[np.argsort(-scores[top], kind="stable")]
    rank = np.argsort(top)
    return top[rank], rank
