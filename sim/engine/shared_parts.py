"""Parts of a page that a request shares with a page in HBM, where blocks are finer than pages."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.layout import INBOUND, World


@borrowing_inline
def partial_page(w: World, request: int, hit: int) -> int:
    """HBM slot of a page that begins with this request's next part, or -1 (for copy-on-write)."""
    first = w.r[request].part_offset + hit * w.c[0].part_ratio
    if first >= w.r[request].part_offset + w.r[request].parts:
        return -1
    key = w.part_page[w.parts[first]]
    if key < 0:
        return -1
    slot = w.at[key]
    if slot < 0 or w.flags[slot] & INBOUND:
        return -1
    return int(slot)


@borrowing_kernel
def shared_parts(w: World, request: int, hit: int) -> int:
    """How many parts of the next page some page in HBM already holds; one token is left over."""
    ratio = w.c[0].part_ratio
    first = w.r[request].part_offset + hit * ratio
    end = w.r[request].part_offset + w.r[request].parts
    key = w.part_page[w.parts[first]]
    wanted = (w.r[request].tokens - 1 - hit * w.c[0].page_tokens) // w.c[0].part_tokens
    wanted = min(wanted, ratio - 1)
    n = 0
    while n < wanted and first + n < end:
        other = w.part_page[w.parts[first + n]]
        if other < 0 or (other != key and w.at[other] < 0):
            break
        n += 1
    return n
