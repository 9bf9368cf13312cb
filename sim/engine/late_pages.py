"""Pages that are found late: a prompt's once its first token is seen, an answer's at its end.

SGLang puts a request's KV into its radix tree when it has looked at the step that ended the
prompt, and when the request ends; parts of a prompt before the last are there at once
(`checkpoint_kv_cache`, `release_kv_cache` of 0.5.23). So a request that is retracted leaves only
its prompt behind.
"""

from vsim.sim.compiled import borrowing_inline, wide
from vsim.sim.engine.layout import World
from vsim.sim.engine.runs import publish_run


@borrowing_inline
def publish_late(w: World, request: int) -> None:
    """A token of a request is seen: let others find its pages if that ended its prompt, or it."""
    if not w.c[0].late or not w.c[0].caching:
        return
    page_tokens = w.c[0].page_tokens
    page = wide(0)
    if not w.c[0].seals:
        if w.r[request].generated < w.r[request].output:
            return
        page = w.r[request].prompt // page_tokens
    end = min(w.r[request].computed // page_tokens, w.r[request].keys)
    if page < end:
        w.c[0].blocked = 0
        w.c[0].prefetch_idle = 0
    while page < end:
        page += publish_run(w, request, page, end)[1]
