"""The least time over all placements, to sixty digits, where there are few enough to try them."""

import math
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product

from hypothesis import strategies as st

from vsim.sim.placement.synthetic import reads_of_sets
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.traces.page_reads import PageReads

FINE = Context(prec=60, Emin=-(10**17), Emax=10**17)


def norm_of(times: list[Fraction], norm: float) -> Fraction:
    """‖times‖_p to sixty digits, by a way of its own."""
    if math.isinf(norm):
        return max(times)
    high = max(times)
    if norm == 1 or high == 0:
        return sum(times, Fraction(0))
    total = Decimal(0)
    for time in times:
        if time > 0:
            share = FINE.divide(
                Decimal((time / high).numerator), Decimal((time / high).denominator)
            )
            total = FINE.add(total, FINE.exp(FINE.multiply(FINE.ln(share), Decimal(norm))))
    root = FINE.exp(FINE.divide(FINE.ln(total), Decimal(norm)))
    return high * Fraction(root)


@st.composite
def tiny_reads(
    draw: st.DrawFn, max_pages: int, max_steps: int, page_bytes: st.SearchStrategy[int]
) -> PageReads:
    """A few pages over a few steps, each born before them or in one of them."""
    n, steps = draw(st.integers(1, max_pages)), draw(st.integers(1, max_steps))
    born = [draw(st.sampled_from([-1, -1, *range(steps)])) for _ in range(n)]
    return reads_of_sets(
        [{p for p in range(n) if born[p] <= t and draw(st.booleans())} for t in range(steps)],
        born,
        draw(page_bytes),
    )


def least_stack_time(reads: PageReads, stack: TierStack, start: list[int]) -> Fraction:
    """The least time over all placements of all pages at all steps, to sixty digits."""
    last = stack.tiers - 1
    sets = [
        set(reads.pages[a:b].tolist())
        for a, b in zip(reads.offsets, reads.offsets[1:], strict=False)
    ]
    page_s = [Fraction(reads.page_bytes) / Fraction(b) for b in stack.bytes_per_s]
    options = []
    for b in reads.born.tolist():
        later = product(range(stack.tiers), repeat=reads.steps - 1 - b)
        options.append([(None,) * (b + 1) + path for path in later])
    best: Fraction | None = None
    for paths in product(*options):
        time = Fraction(0)
        for t in range(reads.steps):
            held = [sum(path[t] == i for path in paths) for i in range(last)]
            if any(n > (k or 0) for n, k in zip(held, stack.pages, strict=False)):
                break
            load = [Fraction(0)] * stack.resources
            load[0] = Fraction(stack.weight_bytes) / Fraction(stack.bytes_per_s[0])
            for p, path in enumerate(paths):
                here = path[t]
                if here is None:
                    if reads.born[p] == t:
                        load[0] += page_s[0] if p in sets[t] else 0
                        load[stack.down(last)] += 0 if stack.exclusive else page_s[last]
                    continue
                born_just = reads.born[p] == t - 1 and reads.born[p] >= 0
                came = path[t - 1] if t > 0 else (here if start[p] == FREE else start[p])
                before = 0 if born_just or came is None else came
                if p in sets[t]:
                    load[stack.up(here)] += page_s[here]
                if before != here and (stack.exclusive or here != last):
                    on_gpu = born_just or (t > 0 and p in sets[t - 1])
                    if before > 0 and (stack.exclusive or not on_gpu):
                        load[stack.up(before)] += page_s[before]
                    if here > 0:
                        load[stack.down(here)] += page_s[here]
            of_tier = [max(load[stack.up(i)], load[stack.down(i)]) for i in range(1, last + 1)]
            time += norm_of([load[0], *of_tier], stack.norm)
        else:
            best = time if best is None else min(best, time)
    assert best is not None
    return best
