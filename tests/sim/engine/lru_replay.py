"""An LRU cache of pages in plain Python, as the engine uses one when requests come one at a time.

A request takes slots for all its pages: those it finds, which it holds while it runs, and those it
computes. Pages that it fills stay behind for others, also those that nobody will ask for; its last,
partial page is free when it ends. Release begins with the deepest page, so that of a prompt's pages
the first ones stay longest.
"""

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from vsim.traces.requests import Requests

_APART_NS = 10**13  # longer than any request takes


def one_at_a_time(requests: Requests) -> Requests:
    """The same requests, each long after the end of the one before, and no conversations."""
    n = len(requests)
    none = np.full(n, -1, np.int64)
    arrival = np.arange(n, dtype=np.int64) * _APART_NS
    return replace(requests, arrival_ns=arrival, session=none, parent=none, think_ns=none)


def replay_lru(requests: Requests, capacity: int) -> list[int]:
    """Pages that each request finds, a page being a trace's block; -1 if it can never fit."""
    unit = requests.block_tokens
    cache: OrderedDict[int, None] = OrderedDict()  # idle pages, the next to evict first
    found: list[int] = []
    for row in range(len(requests)):
        prompt, output = int(requests.prompt_tokens[row]), int(requests.output_tokens[row])
        first, end = requests.prefix_offsets[row : row + 2].tolist()
        chain = requests.prefix_ids[first:end].tolist()[: prompt // unit]
        if -(-(prompt + output) // unit) > capacity:
            found.append(-1)
            continue
        full = (prompt + output - 1) // unit
        chain += [-1 - row * 10**6 - page for page in range(len(chain), full)]  # nobody else's
        hits = 0
        while hits < min(len(chain), (prompt - 1) // unit) and chain[hits] in cache:
            hits += 1
        found.append(hits)
        for key in chain[:hits]:
            del cache[key]  # in use: no longer to be evicted

        def make_room(pages: int) -> None:
            while len(cache) + pages > capacity:
                cache.popitem(last=False)

        make_room(-(-prompt // unit))
        # the last page of a prompt may be cached and yet computed again: it then stays its own
        kept = chain[:hits] + [key for key in chain[hits:] if key not in cache]
        make_room(-(-(prompt + output - 1) // unit))  # the last output token is never computed
        for key in reversed(kept):
            cache[key] = None
    return found
