"""Generated workloads: requests drawn from a SynthSpec and its seed."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.arrivals import exponential_ns, gamma_ns, onoff_ns, poisson_ns
from vsim.traces.faults import Fault, InputError
from vsim.traces.limits import MOST_NS, MOST_TOKENS
from vsim.traces.machine_memory import memory_fault
from vsim.traces.request_check import check_requests
from vsim.traces.requests import Requests
from vsim.traces.synth_spec import MOST_TOKENS as MOST_LENGTH
from vsim.traces.synth_spec import Arrivals as Arrivals
from vsim.traces.synth_spec import Lengths as Lengths
from vsim.traces.synth_spec import Sessions as Sessions
from vsim.traces.synth_spec import SynthSpec as SynthSpec
from vsim.traces.synth_spec import Tenant as Tenant
from vsim.traces.turns import answered_after_ns, exceeds, firsts_of, own_chains, sums_before

_Ints = NDArray[np.int64]

FILE: Final = "synth"
"""What faults name that drawing finds; their place is a field of the specification."""
_BYTES_PER_TURN: Final = 300  # columns and what is kept while they are made
_BYTES_PER_BLOCK: Final = 64
FARTHEST_SCORE: Final = 4.0  # no draw lies further out than 1 in 31,600 on either side


def draw_lengths(random: np.random.Generator, points: Lengths, count: int) -> _Ints:
    """Draw lengths whose quantiles go through `points`.

    The logarithm of the length is linear in the normal score between two points and goes on with
    the outer slopes beyond them, to the score of FARTHEST_SCORE; lengths at the quantiles 0 and 1
    cut it off, and the longest that a point may have. A single point stands for a constant.
    """
    inner = [(quantile, tokens) for quantile, tokens in points if 0 < quantile < 1]
    scores = np.asarray([NormalDist().inv_cdf(quantile) for quantile, _ in inner])
    logs = np.log([float(tokens) for _, tokens in inner])
    drawn = np.clip(random.standard_normal(count), -FARTHEST_SCORE, FARTHEST_SCORE)
    if len(inner) == 1:
        values = np.full(count, logs[0])
    else:
        segment = np.clip(np.searchsorted(scores, drawn) - 1, 0, len(inner) - 2)
        slopes = np.diff(logs) / np.diff(scores)
        values = logs[segment] + slopes[segment] * (drawn - scores[segment])
    least = points[0][1] if points[0][0] == 0 else 1
    most = points[-1][1] if points[-1][0] == 1 else MOST_LENGTH
    whole: _Ints = np.clip(np.rint(np.exp(values)), least, most).astype(np.int64)
    return whole


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turns drawn, session after session: columns int64[n] and the sessions' starts."""

    starts_ns: _Ints
    session: _Ints
    first: _Ints
    prompt: _Ints
    output: _Ints
    think_ns: _Ints
    arrival_ns: _Ints
    group: _Ints
    tenant: _Ints
    in_time: NDArray[np.bool_]


def _starts(random: np.random.Generator, spec: SynthSpec, sessions: int) -> _Ints:
    arrivals = spec.arrivals
    rate = arrivals.rate_per_s / spec.sessions.turns_mean
    try:
        return _drawn_starts(random, arrivals, rate, sessions)
    except InputError as error:
        raise InputError(
            Fault(FILE, fault.message, place=f"arrivals.{fault.place}") for fault in error.faults
        ) from None


def _drawn_starts(
    random: np.random.Generator, arrivals: Arrivals, rate: float, sessions: int
) -> _Ints:
    if arrivals.process == "gamma":
        assert arrivals.cv is not None  # the specification has checked it
        return gamma_ns(random, sessions, rate, arrivals.cv)
    if arrivals.process == "onoff":
        assert arrivals.on_s is not None  # checked as well
        assert arrivals.off_s is not None
        return onoff_ns(random, sessions, rate, arrivals.on_s, arrivals.off_s)
    return poisson_ns(random, sessions, rate)


def _weighted(random: np.random.Generator, weights: NDArray[np.float64], count: int) -> _Ints:
    shares = np.cumsum(weights / weights.sum())
    drawn = np.searchsorted(shares, random.random(count), "right")
    return np.minimum(drawn, len(weights) - 1).astype(np.int64)


def _draw(spec: SynthSpec, sessions: int) -> _Turns:
    """Draw whole sessions; each column has a generator of its own."""
    seeds = np.random.SeedSequence(spec.seed).spawn(8)
    streams = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
    shape = spec.sessions
    starts = _starts(streams[0], spec, sessions)
    turns = np.ones(sessions, dtype=np.int64)
    if shape.turns_mean > 1:
        turns = streams[1].geometric(1 / shape.turns_mean, sessions).astype(np.int64)
    first = firsts_of(turns)
    n = len(first)
    is_first = first == np.arange(n)
    session = np.repeat(np.arange(sessions, dtype=np.int64), turns)
    new = draw_lengths(streams[2], spec.prompt_tokens, n)
    if shape.follow_up_tokens is not None:
        new = np.where(is_first, new, draw_lengths(streams[3], shape.follow_up_tokens, n))
    output = draw_lengths(streams[4], spec.output_tokens, n)
    system = shape.system_prompt_tokens or 0
    before = sums_before(new + output, first)
    prompt = system + before + new
    think = np.full(n, -1, dtype=np.int64)
    if shape.think_s_mean is not None:
        drawn = exponential_ns(streams[5], shape.think_s_mean, n)
        think = np.where(is_first, -1, drawn)
    waits = np.where(is_first, 0, np.maximum(think, 0) + np.roll(answered_after_ns(output), 1))
    # A sum beyond int64 wraps; the turns that it would give a time are marked and left out.
    arrival = starts[session] + sums_before(waits, first) + waits
    late = exceeds(waits, first, MOST_NS) | (arrival > MOST_NS)
    group = np.zeros(sessions, dtype=np.int64)
    if shape.system_prompts > 1:
        ranks = np.arange(1, shape.system_prompts + 1, dtype=np.float64)
        group = _weighted(streams[6], ranks ** -(shape.zipf or 0.0), sessions)
    tenant = np.zeros(sessions, dtype=np.int64)
    if spec.tenants:
        shares = np.asarray([tenant.share or 1.0 for tenant in spec.tenants])
        tenant = _weighted(streams[7], shares, sessions)
    return _Turns(starts, session, first, prompt, output, think, arrival, group, tenant, ~late)


def _fitting(turns: _Turns, most: int | None) -> NDArray[np.bool_]:
    """Mark the turns up to the first of each session that would exceed `most` tokens, or the time.

    A first turn that has too many tokens is kept, to be shortened by `_assembled`. Where the
    specification names no limit, that of a trace ends a session.
    """
    n = len(turns.session)
    # Prompts only grow within a session, and times too: what follows is over as well.
    over = turns.prompt + turns.output > (MOST_TOKENS if most is None else most)
    fits: NDArray[np.bool_] = (~over | (turns.first == np.arange(n))) & turns.in_time
    return fits


def synthesise(spec: SynthSpec) -> Requests:
    """Draw the requests of a specification.

    Sessions start by the arrival process; a further turn arrives after the answer before it, whose
    duration is estimated (see `turns.answered_after_ns`), and a think time. The first
    `spec.requests` requests by arrival are kept; since sessions start one after the other, the
    rate of further turns builds up to its mean over the first sessions' length.
    """
    sessions = max(16, int(spec.requests / spec.sessions.turns_mean * 1.05))
    while True:
        drawn = min(sessions, spec.requests)
        _refuse_rows(spec, drawn)
        turns = _draw(spec, drawn)
        fits = _fitting(turns, spec.sessions.most_tokens)
        # Later sessions can only bring requests after the last start, so these are the first.
        settled = int(np.count_nonzero(fits & (turns.arrival_ns <= turns.starts_ns[-1])))
        if settled >= spec.requests or sessions >= spec.requests:
            break
        sessions *= 2
    rows = np.nonzero(fits)[0]
    rows = rows[np.argsort(turns.arrival_ns[rows], kind="stable")][: spec.requests]
    requests = _assembled(spec, turns, rows)
    check_requests(requests, FILE)
    return requests


def _refuse_rows(spec: SynthSpec, sessions: int) -> None:
    """Refuse sessions whose turns would not fit this machine's memory."""
    turns = int(sessions * spec.sessions.turns_mean)
    what = f"{sessions:,} sessions of {spec.sessions.turns_mean:g} turns"
    place = "sessions.turns_mean" if spec.sessions.turns_mean > 1 else "requests"
    _refuse(memory_fault(FILE, turns * _BYTES_PER_TURN, what, place))


def _refuse_blocks(spec: SynthSpec, blocks: int) -> None:
    """Refuse prefix ids that would not fit this machine's memory."""
    what = f"{blocks:,} prefix ids of {spec.block_tokens:,} tokens each"
    _refuse(memory_fault(FILE, blocks * _BYTES_PER_BLOCK, what, "block_tokens"))


def _refuse(fault: Fault | None) -> None:
    if fault is not None:
        raise InputError([fault])


def _assembled(spec: SynthSpec, turns: _Turns, rows: _Ints) -> Requests:
    """Make requests of the turns `rows`, in that order."""
    n = len(rows)
    session = turns.session[rows]
    prompt, output = turns.prompt[rows], turns.output[rows]
    system = spec.sessions.system_prompt_tokens or 0
    most = spec.sessions.most_tokens
    if most is not None:
        output = np.minimum(output, most - system - 1)
        prompt = np.minimum(prompt, most - output)
    is_first = turns.first[rows] == rows
    row_of = np.full(len(turns.session), -1, dtype=np.int64)
    row_of[rows] = np.arange(n)
    parent = np.where(is_first, -1, row_of[np.maximum(rows - 1, 0)])
    offsets, ids = np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if spec.block_tokens:
        shared = np.full(len(turns.group), system // spec.block_tokens, dtype=np.int64)
        _refuse_blocks(spec, int((prompt // spec.block_tokens).sum()))
        offsets, ids = own_chains(session, prompt // spec.block_tokens, shared, turns.group)
    tenant = turns.tenant[session]
    priorities = np.asarray([t.priority for t in spec.tenants] or [0], dtype=np.int32)
    return Requests(
        id=np.arange(n, dtype=np.int64),
        arrival_ns=turns.arrival_ns[rows],
        prompt_tokens=prompt,
        output_tokens=output,
        session=session if spec.sessions.turns_mean > 1 else np.full(n, -1, dtype=np.int64),
        parent=parent,
        think_ns=turns.think_ns[rows],
        tenant=tenant.astype(np.int32),
        tenant_names=tuple(t.name for t in spec.tenants) or ("",),
        priority=priorities[tenant],
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=spec.block_tokens,
        source=f"vsim trace synth {spec.model_dump_json(exclude_defaults=True)}",
    )
