"""`emit`: the tokens of a step come out, and requests end.

An engine that schedules synchronously sees a step's tokens when the step ends. One that pipelines
schedules and launches a step before it looks at the one before. So `commit` notes who has a token,
and `emit` gives it a time: at once, or when the next step is launched.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.late_pages import publish_late
from vsim.sim.engine.layout import DONE, World
from vsim.sim.engine.runs import release_owed, release_pages


@borrowing_inline
def close_step(w: World, at: int, common: int) -> None:
    """Complete the row that `open_step` began: its tokens came out at this time."""
    n = w.c[0].steps
    w.step[n].start = max(w.step[n].start, w.c[0].previous_end)
    w.step[n].end = at
    w.step[n].common = common
    w.c[0].steps = n + 1
    w.c[0].step_open = 0
    w.c[0].previous_end = at
    w.c[0].emitted = 0


@borrowing_inline
def log_gap(w: World, gap: int) -> None:
    """Note a gap between two tokens of a request that is not a step's own length."""
    x = w.c[0].exceptions
    w.gap[x] = gap
    w.c[0].exceptions = x + 1


@borrowing_kernel
def emit(w: World, at: int) -> None:
    """The tokens that the last step computed come out now.

    A client sees a request's first token later than the others, and so the second sooner after it.
    """
    previous = w.c[0].previous_end
    common = 0
    ended = 0
    for i in range(w.c[0].emitted):
        request = w.emit[i]
        if w.r[request].first < 0:
            w.r[request].first = at
        elif w.x[0].first_ns > 0 and w.r[request].last == w.r[request].first:
            log_gap(w, max(at - w.r[request].last - int(w.x[0].first_ns), 0))
        elif w.r[request].last == previous:
            common += 1
        else:
            log_gap(w, at - w.r[request].last)
        w.r[request].last = at
        publish_late(w, wide(request))
        if w.r[request].generated == w.r[request].output:
            ended += 1
            finish(w, request, at)
            if not w.c[0].static:
                release_pages(w, request)
    if w.c[0].owed > 0:
        release_owed(w)
        w.c[0].blocked = 0
    close_step(w, at, common)
    if ended > 0:
        w.c[0].finishing = 0
        w.c[0].full = 0
        w.c[0].blocked = 0
        w.c[0].prefetch_idle = 0
        if w.c[0].static:
            end_batch(w)


@borrowing_kernel
def finish(w: World, request: int, at: int) -> None:
    """A request's last token is out; turns that think from now on are released."""
    w.r[request].state = DONE
    w.c[0].completed += 1
    if not w.c[0].think:
        return
    child = w.turn[request].child
    at = max(at, w.r[request].first + int(w.x[0].first_ns))
    at += int(w.x[0].client_ns + w.x[0].prompt_token_ns * w.r[request].prompt)
    while child >= 0:
        n = w.c[0].released
        w.release[2 * n] = child
        w.release[2 * n + 1] = at + max(w.turn[child].think, 1)
        w.c[0].released = n + 1
        child = w.turn[child].sibling


@borrowing_kernel
def end_batch(w: World) -> None:
    """A static batch gives up its pages only when its last request has ended."""
    for i in range(w.c[0].running):
        if w.r[w.run[i]].state != DONE:
            return
    for i in range(w.c[0].running):
        w.g[w.r[w.run[i]].group].running -= 1
        release_pages(w, w.run[i])
    w.c[0].running = 0
