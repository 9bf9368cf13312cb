"""Draw a closed loop: so many users, each of whom works through the rounds of one agent's session.

    python reports/sizing/users.py 256 users-256.arrow

All begin within a minute. A round's prompt holds the whole session before it, and comes once the
round before it was answered and a tool has run, so that there are never more requests than users.
"""

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.requests import Requests, write_requests
from vsim.traces.synth import draw_lengths
from vsim.traces.turns import answered_after_ns, own_chains, sums_before

ROUNDS: Final = 25
BLOCK_TOKENS: Final = 64
START_S: Final = 60.0
TOOL_S: Final = 10.0
FIRST: Final = ((0.5, 6000), (0.9, 9000), (0.99, 13000))
FURTHER: Final = ((0.5, 300), (0.9, 900), (0.99, 2400))
ANSWER: Final = ((0.5, 250), (0.9, 600), (0.99, 1200), (1.0, 2000))
SEED: Final = 1

Ints = NDArray[np.int64]


def users(count: int) -> Requests:
    """Draw `count` sessions of ROUNDS rounds."""
    draw = np.random.Generator(np.random.PCG64(SEED))
    n = count * ROUNDS
    session: Ints = np.repeat(np.arange(count), ROUNDS)
    firsts: Ints = np.repeat(np.arange(count) * ROUNDS, ROUNDS)
    is_first = firsts == np.arange(n)
    new = np.where(is_first, draw_lengths(draw, FIRST, n), draw_lengths(draw, FURTHER, n))
    output = draw_lengths(draw, ANSWER, n)
    prompt = sums_before(new + output, firsts) + new
    think = np.where(is_first, -1, draw.exponential(TOOL_S * 1e9, n).astype(np.int64))
    # an order for the file: under pacing: think_times only the first rounds come at their times
    waits = np.where(is_first, 0, np.maximum(think, 0) + np.roll(answered_after_ns(output), 1))
    start = np.sort((draw.random(count) * START_S * 1e9).astype(np.int64))
    arrival = start[session] + sums_before(waits, firsts) + waits
    order = np.argsort(arrival, kind="stable")
    row_of = np.empty(n, np.int64)
    row_of[order] = np.arange(n)
    parent = np.where(is_first, -1, row_of[np.arange(n) - 1])
    nothing = np.zeros(count, np.int64)
    offsets, ids = own_chains(session[order], prompt[order] // BLOCK_TOKENS, nothing, nothing)
    return Requests(
        id=np.arange(n),
        arrival_ns=arrival[order],
        prompt_tokens=prompt[order],
        output_tokens=output[order],
        session=session[order],
        parent=parent[order],
        think_ns=think[order],
        tenant=np.zeros(n, np.int32),
        tenant_names=("",),
        priority=np.zeros(n, np.int32),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=BLOCK_TOKENS,
        source=f"{count} users of {ROUNDS} rounds, drawn by reports/sizing/users.py",
    )


if __name__ == "__main__":
    write_requests(users(int(sys.argv[1])), sys.argv[2])
