"""`Slope`: the certificate of K tiers, smoothed, and its slope in the multipliers.

The certificate's value L(λ, μ) is concave, but has a kink wherever two paths of a page cost the
same. Here each minimum over paths is −τ·log Σ_paths exp(−cost/τ), which is smooth, never above it,
and closer the smaller τ is; its slope is the expected loads and occupancies of pages that choose
path x with probability ∝ exp(−cost_x/τ), by one pass over the steps forwards and one back.
"""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.by_page import StepsByPage
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.tier_stack import TierStack
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

FAR = 30.0
"""Logarithms this far below the largest add nothing."""


class Slope:
    """The smoothed bound and its slope at (θ, m): λ = softmax(θ), μ = m · one page's time.

    Of every `sample`-th page only, with as small a share of the room and of the weights.
    """

    def __init__(
        self, reads: PageReads, stack: TierStack, start: Int32s, tau: float, sample: int
    ) -> None:
        by_page = StepsByPage.of(reads)
        # Neighbours in number are alike, so that drawing them at random would spread more.
        chosen = np.arange(reads.n_pages)[::sample]
        self._pages = (chosen, by_page.offsets, by_page.steps, reads.born, start)
        self._stack, self._steps = stack, reads.steps
        self._page_s = reads.page_bytes / np.array(stack.bytes_per_s)[stack.tier_of()]
        self._unit_s = reads.page_bytes / stack.bytes_per_s[1]
        self._tau_s = tau * self._unit_s
        share = len(chosen) / reads.n_pages
        fixed = stack.written_through(births(reads)) * self._page_s
        fixed[:, 0] += stack.weight_bytes / stack.bytes_per_s[0]
        rows = np.repeat(np.arange(reads.steps), reads.reads_per_step)
        at_birth = rows[reads.born[reads.pages] == rows]
        fixed[:, 0] += np.bincount(at_birth, minlength=reads.steps) * self._page_s[0]
        self._fixed = fixed * share
        self._room = stack.room() * share
        self._one_s = self._unit_s * share * reads.n_pages

    def split(self, x: Floats) -> tuple[Floats, Floats]:
        """λ[T, resources] and μ[T, K − 1] of a vector."""
        cells = self._steps * self._stack.resources
        theta = x[:cells].reshape(self._steps, -1)
        lam = np.exp(theta - theta.max(axis=1, keepdims=True))
        lam /= lam.sum(axis=1, keepdims=True)
        return lam, x[cells:].reshape(self._steps, -1) * self._unit_s

    def joined(self, lam: Floats, mu: Floats) -> Floats:
        """The vector of λ and μ; a share of 0 becomes a small one, since it has no logarithm."""
        return np.concatenate([np.log(np.maximum(lam, 1e-4)).ravel(), (mu / self._unit_s).ravel()])

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Minus the smoothed bound and its slope; 1 is all pages once on the channel below HBM."""
        stack = self._stack
        lam, mu = self.split(x)
        price = lam * self._page_s
        move = np.einsum("tr,fijr->ftij", price, stack.moves().astype(np.float64))
        move[:, :, :, :-1] += mu[None, :, None, :]
        read = price @ stack.reads().T
        log_sum, moved, read_at = _expected(*self._pages, move / self._tau_s, read / self._tau_s)
        value = (
            -self._tau_s * log_sum
            - float((mu @ self._room).sum())
            + float((lam * self._fixed).sum())
        )
        loads = np.einsum("ftij,fijr->tr", moved, stack.moves()) + read_at @ stack.reads()
        of_lam = loads * self._page_s + self._fixed
        of_theta = lam * (of_lam - (lam * of_lam).sum(axis=1, keepdims=True))
        occupied = moved.sum(axis=(0, 2))[:, :-1]
        of_m = (occupied - self._room) * self._unit_s
        slope = np.concatenate([of_theta.ravel(), of_m.ravel()])
        return -value / self._one_s, -slope / self._one_s


@kernel
def _expected(
    chosen: Int64s,
    offsets: Int64s,
    read_steps: Int32s,
    born: Int32s,
    start: Int32s,
    move: Floats,
    read: Floats,
) -> tuple[float, Floats, Floats]:
    """Σ_pages log Σ_paths exp(−cost), expected moves [2, T, K, K] and reads [T, K].

    `move` and `read` are costs over τ, slots in those of moves; the diagonal of moves is to stay.
    All sums of exponentials are kept as logarithms: costs may be thousands of τ.
    """
    steps, tiers = read.shape
    total = 0.0
    moved = np.zeros(move.shape)
    read_at = np.zeros((steps, tiers))
    before = np.empty((steps + 1, tiers))  # log Σ over paths up to the end of step t − 1
    after = np.empty(tiers)  # log Σ over what follows
    at_t = np.empty(tiers)
    reads = np.zeros(steps + 1, np.bool_)
    for p in chosen:
        first = born[p] + 1
        for q in range(offsets[p], offsets[p + 1]):
            reads[read_steps[q]] = True
        free = born[p] < 0 and start[p] < 0
        for i in range(tiers):
            at_home = free or i == (0 if born[p] >= 0 else start[p])
            before[first, i] = 0.0 if at_home else -np.inf
        for t in range(first, steps):
            fresh = np.int64(t > 0 and (reads[t - 1] or born[p] == t - 1))
            for j in range(tiers):
                high = -np.inf
                for i in range(tiers):
                    if i == j or not (free and t == first):
                        high = max(high, before[t, i] - move[fresh, t, i, j])
                x = 0.0
                for i in range(tiers):
                    if i == j or not (free and t == first):
                        lower = before[t, i] - move[fresh, t, i, j] - high
                        if lower == 0.0:
                            x += 1.0
                        elif lower > -FAR:
                            x += np.exp(lower)
                before[t + 1, j] = high + (np.log(x) if x > 1.0 else 0.0)
                if reads[t]:
                    before[t + 1, j] -= read[t, j]
        end = max(np.int64(steps), np.int64(first))
        high = before[end, 0]
        for i in range(1, tiers):
            high = max(high, before[end, i])
        x = 0.0
        for i in range(tiers):
            x += np.exp(before[end, i] - high)
        log_sum = high + np.log(x)
        total += log_sum
        after[:] = 0.0
        for back in range(steps - first):
            t = steps - 1 - back
            fresh = np.int64(t > 0 and (reads[t - 1] or born[p] == t - 1))
            for j in range(tiers):
                at_t[j] = after[j] - (read[t, j] if reads[t] else 0.0)
            for i in range(tiers):
                high = -np.inf
                for j in range(tiers):
                    if i == j or not (free and t == first):
                        high = max(high, at_t[j] - move[fresh, t, i, j])
                after[i] = high
                # The chance of the likeliest move from here; the others are no likelier.
                most = before[t, i] + high - log_sum
                likely = np.exp(most) if most > -FAR else 0.0
                x = 0.0
                for j in range(tiers):
                    if i == j or not (free and t == first):
                        lower = at_t[j] - move[fresh, t, i, j] - high
                        if lower > -FAR:
                            part = 1.0 if lower == 0.0 else np.exp(lower)
                            x += part
                            moved[fresh, t, i, j] += likely * part
                            if reads[t]:
                                read_at[t, j] += likely * part
                if x > 1.0:
                    after[i] += np.log(x)
        for q in range(offsets[p], offsets[p + 1]):
            reads[read_steps[q]] = False
    return total, moved, read_at
