"""What a step's batch computes and attends to, in sums of whole numbers."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.group_tables import low_bytes, note_requests_pages
from vsim.sim.engine.layout import World
from vsim.sim.engine.pages import tier_of


@borrowing_inline
def windowed_pairs(computed: int, tokens: int, window: int) -> int:
    """Query-key pairs of `tokens` new tokens behind `computed`, each seeing `window` at most."""
    if computed + tokens <= window:
        return tokens * computed + tokens * (tokens + 1) // 2
    if computed >= window:
        return tokens * window
    below = window - computed
    return below * computed + below * (below + 1) // 2 + (tokens - below) * window


@borrowing_inline
def chunked_pairs(computed: int, tokens: int, width: int) -> int:
    """Query-key pairs of `tokens` new tokens behind `computed` that see their own chunk only."""
    end = computed + tokens
    return pairs_from_start(end, width) - pairs_from_start(computed, width)


@borrowing_inline
def pairs_from_start(tokens: int, width: int) -> int:
    """The same of a prompt from nothing."""
    rest = tokens % width
    return tokens // width * (width * (width + 1) // 2) + rest * (rest + 1) // 2


@borrowing_inline
def clear_sums(w: World) -> None:
    """Nothing is computed yet."""
    w.c[0].decodes = 0
    w.c[0].decode_context = 0
    w.c[0].decode_lower = 0
    w.c[0].chunk_tokens = 0
    w.c[0].chunk_pairs = 0
    w.c[0].chunk_context = 0
    w.c[0].chunk_lower = 0
    w.c[0].decode_lower_bytes = 0
    w.c[0].chunk_lower_bytes = 0
    w.c[0].near_decode_context = 0
    w.c[0].near_chunk_pairs = 0
    w.c[0].near_chunk_context = 0
    w.c[0].batch_requests = 0
    for tier in range(1, w.c[0].tiers):
        w.t[tier].attend_tokens = 0
        w.t[tier].attend_bytes = 0


@borrowing_inline
def add_attention(w: World, done: int, n: int) -> None:
    """Add what `n` tokens behind `done` attend to."""
    window = w.c[0].window_tokens
    w.c[0].batch_requests += 1
    if n == 1:
        w.c[0].decodes += 1
        w.c[0].decode_context += done + 1
        if window > 0 and w.c[0].chunked_window:
            w.c[0].near_decode_context += done % window + 1
        elif window > 0:
            w.c[0].near_decode_context += min(done + 1, window)
    else:
        w.c[0].chunk_tokens += n
        w.c[0].chunk_pairs += n * done + n * (n + 1) // 2
        w.c[0].chunk_context += done + n
        if window > 0 and w.c[0].chunked_window:
            w.c[0].near_chunk_pairs += chunked_pairs(done, n, window)
            w.c[0].near_chunk_context += done + n - done // window * window
        elif window > 0:
            w.c[0].near_chunk_pairs += windowed_pairs(done, n, window)
            w.c[0].near_chunk_context += min(done + n, window + n - 1)


@borrowing_inline
def add_low_bytes(w: World, request: int, computed: int, decodes: bool) -> None:
    """Add what a request attends to under HBM, of several groups."""
    for tier in range(1, w.c[0].tiers):
        read = low_bytes(w, request, wide(tier), computed)
        w.t[tier].attend_bytes += read
        if decodes:
            w.c[0].decode_lower_bytes += read
        else:
            w.c[0].chunk_lower_bytes += read


@borrowing_kernel
def sum_step(w: World) -> bool:
    """Add up what the batch computes and reads; False when that is nothing."""
    prefill = 0
    sampled = 0
    held = 0
    used = 0
    tiers = w.c[0].tiers
    lower = w.c[0].lower_attends
    clear_sums(w)
    for i in range(w.c[0].running):
        request = w.run[i]
        n = w.share[i]
        held += w.r[request].held
        used += w.r[request].computed + n
        if n == 0:
            continue
        done = w.r[request].computed
        if w.r[request].generated == 0 or n > 1:
            prefill += n
        if done + n == w.r[request].tokens:
            sampled += 1
        add_attention(w, done, n)
        if lower and w.c[0].grouped:
            add_low_bytes(w, request, wide(done + n), n == 1)
        elif lower:
            row = w.r[request].row
            for tier in range(1, tiers):
                pages = w.low[row * tiers + tier]
                if pages > 0:
                    read = pages * w.c[0].page_tokens
                    last = w.table[row * w.c[0].row_pages + w.r[request].held - 1]
                    if tier_of(w, last) == tier:
                        read -= w.r[request].held * w.c[0].page_tokens - (done + n)
                    w.t[tier].attend_tokens += read
                    if n == 1:
                        w.c[0].decode_lower += read
                    else:
                        w.c[0].chunk_lower += read
    tokens = w.c[0].decodes + w.c[0].chunk_tokens
    if tokens == 0:
        return False
    w.c[0].step_tokens = tokens
    w.c[0].step_prefill = prefill
    w.c[0].step_sampled = sampled
    w.c[0].step_context = w.c[0].decode_context + w.c[0].chunk_context
    w.c[0].held_tokens = held * w.c[0].page_tokens
    w.c[0].used_tokens = used
    note_requests_pages(w, prefill > 0)
    return True


@borrowing_kernel
def sum_decodes(w: World) -> None:
    """The same for a batch in which every request computes one token, behind pages that it has.

    No page that is partly filled lies under HBM.
    """
    tiers = w.c[0].tiers
    clear_sums(w)
    for i in range(w.c[0].running):
        request = w.run[i]
        add_attention(w, wide(w.r[request].computed), wide(1))
        if w.c[0].lower_attends and w.c[0].grouped:
            add_low_bytes(w, request, wide(w.r[request].computed + 1), True)
        elif w.c[0].lower_attends:
            row = w.r[request].row
            for tier in range(1, tiers):
                read = w.low[row * tiers + tier] * w.c[0].page_tokens
                w.t[tier].attend_tokens += read
                w.c[0].decode_lower += read
