"""Room by estimate: what running requests may generate, what a new one needs beside it.

SGLang keeps no pages for a request that runs. It admits one if its prompt and all that it may
generate fit beside a share of what the running ones may still generate: the new-token ratio, which
falls with every decode step and is worked out anew when that was too bold (`NewTokenRatioTracker`
and `PrefillAdder` of 0.5.23). `x.offset_tokens` holds, during one pass of admission, what running
requests and those admitted so far may take and do not hold yet.
"""

import math

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.layout import World
from vsim.sim.engine.pages import pages_of, pages_within_reach


@borrowing_inline
def asked_tokens(w: World, request: int) -> int:
    """How many tokens a request asks for at most: what it generates, or more; as many as fit."""
    page_tokens = w.c[0].page_tokens
    asked = max(w.r[request].output, w.c[0].most_new_tokens)
    pages = w.t[0].capacity - pages_of(w, wide(w.r[request].prompt)) - 1
    return int(min(asked, pages * page_tokens - 1))


@borrowing_inline
def clipped(w: World, tokens: int) -> int:
    """What is counted of tokens that a request may generate."""
    return int(min(max(tokens, 0), w.c[0].clip_tokens))


@borrowing_kernel
def begin_estimate(w: World, decoders: int) -> None:
    """Before a pass: what the first `decoders` running requests may still generate, in part.

    A token that the scheduler has not seen yet counts as one to come, also where it is the last.
    """
    left = 0
    for i in range(decoders):
        request = w.run[i]
        left += clipped(w, asked_tokens(w, request) - w.r[request].generated)
    if w.c[0].step_open:
        for i in range(w.c[0].emitted):
            request = w.emit[i]
            left += 1
            if w.r[request].generated == w.r[request].output:
                left += clipped(w, asked_tokens(w, request) - w.r[request].generated)
    ratio = 1.0 if w.c[0].ignore_eos else w.x[0].token_ratio
    w.x[0].offset_tokens = ratio * left


@borrowing_inline
def count_admitted(w: World, request: int, ends: bool) -> None:
    """A request was given its pages for this step; `ends`: its prompt is computed then.

    A page more is counted, and all that it may generate, without the ratio.
    """
    w.x[0].offset_tokens += w.c[0].page_tokens
    if ends:
        w.x[0].offset_tokens += clipped(w, asked_tokens(w, request))


@borrowing_inline
def tokens_within_reach(w: World) -> float:
    """Tokens of room that nobody may take, as far as the estimate goes; may be negative."""
    return float(pages_within_reach(w) * w.c[0].page_tokens - w.x[0].offset_tokens)


@borrowing_inline
def estimated_pages(w: World, request: int, found: int, found_tokens: int) -> int:
    """Pages that must be within reach, without those that it finds, before a request comes in.

    All that there are will do: it then runs alone.
    """
    extend = w.r[request].tokens - found_tokens
    left = clipped(w, asked_tokens(w, request) - w.r[request].generated)
    total = extend + left + w.c[0].page_tokens
    pages = math.floor((total + w.x[0].offset_tokens) / w.c[0].page_tokens)
    return int(min(pages + 1, w.t[0].capacity - found))


@borrowing_inline
def decay_ratio(w: World) -> None:
    """A decode step is planned, and nobody had to give way."""
    w.x[0].token_ratio = max(w.x[0].token_ratio - w.x[0].ratio_step, w.x[0].ratio_least)


@borrowing_kernel
def ratio_after_retraction(w: World, unseen: int) -> None:
    """The ratio that is left: what was generated and some steps more, of all that was asked for.

    `unseen` counts those of the batch with a token that the scheduler has not seen yet.
    """
    generated = -unseen
    asked = 1
    for i in range(w.c[0].running):
        request = w.run[i]
        if request != w.c[0].chunked_request:
            generated += w.r[request].generated + w.c[0].retract_steps
            asked += asked_tokens(w, request)
    w.x[0].token_ratio = min(generated / asked, 1.0)
