"""`Chunks`: the steps that compute a batch's prompts, and where the KV that they read lies."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.attention_run.batch import Batch
from vsim.sim.schedules.two_tiers import Bools

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """The parts of prompts that prefill steps compute, in order; c parts in P steps.

    Attributes:
        step: int64[c], the step that computes the part, from 0 to P − 1, never falling.
        request: int64[c].
        first, end: int64[c], the part's tokens first..end − 1.
    """

    step: Int64s
    request: Int64s
    first: Int64s
    end: Int64s

    @property
    def steps(self) -> int:
        """P, the prefill steps."""
        return int(self.step[-1]) + 1

    @property
    def tokens(self) -> Int64s:
        """int64[c]: tokens of each part."""
        return self.end - self.first

    def per_step(self, values: Int64s) -> Int64s:
        """int64[P]: the sum over the parts of each step."""
        total = np.zeros(self.steps, np.int64)
        np.add.at(total, self.step, values)
        return total


def chunks(prompt_tokens: Int64s, token_budget: int, chunked: bool) -> Chunks:
    """Fill steps with prompts, first come first served, as the engine does.

    while a prompt is left:
        budget = token_budget
        for each prompt that is not done, in order, while the budget is above 0:
            compute what is left of it, cut to the budget if prompts are chunked
    """
    rows: list[tuple[int, int, int, int]] = []
    done = np.zeros(len(prompt_tokens), np.int64)
    request, step = 0, 0
    while request < len(prompt_tokens):
        budget = token_budget
        while budget > 0 and request < len(prompt_tokens):
            first = int(done[request])
            tokens = int(prompt_tokens[request]) - first
            if chunked:
                tokens = min(tokens, budget)
            rows.append((step, request, first, first + tokens))
            done[request] += tokens
            budget -= tokens
            if done[request] < prompt_tokens[request]:
                break  # the budget is spent
            request += 1
        step += 1
    columns = np.array(rows, np.int64).T
    return Chunks(*columns)


class SlowTokens:
    """How many tokens of each prompt, in every layer and head, lie in the slower tier.

    Args:
        batch: the requests.
        resident: bool[n_pages], the pages that are in HBM once the prompts are computed.
    """

    def __init__(self, batch: Batch, resident: Bools) -> None:
        reads = batch.reads
        places = int(reads.position.max()) + 1
        slow = np.zeros((len(batch), places + 1), np.int64)
        below = (reads.born < 0) & ~resident
        np.add.at(slow, (reads.request[below], reads.position[below]), 1)
        self._page_tokens = reads.page_tokens
        self._slow = slow
        self._before = np.cumsum(slow, axis=1) - slow

    def up_to(self, request: Int64s, tokens: Int64s) -> Int64s:
        """int64[c]: tokens times layers and heads, of the first `tokens` of each request."""
        page, part = np.divmod(tokens, self._page_tokens)
        whole = self._before[request, page] * self._page_tokens
        found: Int64s = whole + self._slow[request, page] * part
        return found
