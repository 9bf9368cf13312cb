"""SGLang's scheduler in plain Python, over a pool of tokens without a radix cache.

Written from its source (0.5.23: `get_next_batch_to_run`, `PrefillAdder`, `update_running_batch`,
`retract_decode`, `event_loop_overlap`), under its own names, and from nothing of the engine's.
"""

from collections import deque
from dataclasses import dataclass, field

from vsim.sim.profiles.estimate import Estimate
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.requests import Requests

from .plain_server import step_ns, tabulated


@dataclass
class Req:
    """A request. Mutable: how far it is."""

    row: int
    prompt: int
    max_new_tokens: int
    output_ids: int = 0  # seen
    prefix: int = 0  # tokens whose KV is there
    owned: int = 0  # tokens of the pool
    retractions: int = 0

    @property
    def fill_ids(self) -> int:
        """Tokens to be prefilled when it comes in."""
        return self.prompt + self.output_ids


@dataclass
class Batch:
    """A step: requests, and tokens that each computes behind those it has. Mutable."""

    reqs: list[Req]
    parts: list[tuple[int, int]]
    extends: bool
    chunked: Req | None = None
    retracted: set[int] = field(default_factory=set)


@dataclass
class PlainSGLang:
    """One server. Mutable: a run."""

    requests: Requests
    cost: StepCost
    estimate: Estimate
    pool: int
    page: int
    chunk: int
    most: int
    overlap: bool

    def __post_init__(self) -> None:
        self.cost = tabulated(self.cost)
        self.waiting: deque[Req] = deque()
        self.running: list[Req] = []
        self.full = False
        self.last: Batch | None = None
        self.queued: list[Batch] = []  # launched, their results not processed
        self.chunked: Req | None = None
        self.ratio = self.estimate.first_ratio
        self.free = self.pool // self.page * self.page
        self.steps: list[tuple[int, int, int]] = []
        n = len(self.requests)
        self.first, self.end = [-1] * n, [-1] * n
        self.retractions = [0] * n

    # pool

    def pages(self, tokens: int) -> int:
        return -(-tokens // self.page) * self.page

    def allocate(self, req: Req, tokens: int) -> None:
        more = self.pages(tokens) - req.owned
        assert more <= self.free, "out of memory"
        self.free -= max(more, 0)
        req.owned += max(more, 0)

    def release(self, req: Req) -> None:
        self.free += req.owned
        req.owned = 0

    # admission

    def left(self, req: Req) -> int:
        return min(req.max_new_tokens - req.output_ids, self.estimate.clip_tokens)

    def prefill(self) -> Batch | None:
        """`_get_new_batch_prefill_raw`."""
        if not self.running:
            self.full = False
        if (self.full or not self.waiting) and self.chunked is None:
            return None
        if len(self.running) >= self.most and self.chunked is None:
            self.full = True
            return None
        ratio = 1.0 if self.estimate.ignore_eos else self.ratio
        offset = ratio * sum(self.left(req) for req in self.running)
        rem_chunk = self.chunk
        batch = Batch([], [], extends=True)

        def add(req: Req, tokens: int) -> None:
            nonlocal offset, rem_chunk
            batch.reqs.append(req)
            batch.parts.append((req.prefix, tokens))
            self.allocate(req, req.prefix + tokens)
            done = req.prefix + tokens == req.fill_ids
            clipped = min(req.max_new_tokens, self.estimate.clip_tokens)
            offset += self.page + (clipped if done else 0)
            rem_chunk -= self.pages(tokens)
            batch.chunked = None if done else req

        if self.chunked is not None:
            room = int(self.free - offset)
            limit = min(rem_chunk, room) if room > 0 else rem_chunk
            add(self.chunked, min(self.chunked.fill_ids - self.chunked.prefix, limit))
        while self.waiting and rem_chunk > 0:
            if len(self.running) + len(batch.reqs) >= self.most:
                self.full = True
            if self.full:
                break
            req = self.waiting[0]
            total = req.fill_ids + self.left(req) + self.page
            if not total < self.free - offset:
                self.full = bool(batch.reqs or self.running)
                break
            self.waiting.popleft()
            tokens = req.fill_ids
            if self.pages(tokens) > rem_chunk:
                tokens = rem_chunk // self.page * self.page
            add(req, tokens)
            if self.free - offset <= 0:
                self.full = bool(batch.reqs or self.running)
                break
        self.chunked = batch.chunked
        return batch if batch.reqs else None

    # decode

    def lacks(self, reqs: list[Req]) -> bool:
        """`check_decode_mem`: pages for the next token of each."""
        need = sum(self.pages(req.prefix + 1) - req.owned for req in reqs)
        return need > self.free

    def decode(self) -> Batch | None:
        """`update_running_batch`."""
        before = len(self.running)
        pending = self.queued[-1] if self.queued else None
        finishing = [
            req
            for req in self.running
            if pending is not None
            and any(each is req for each in pending.reqs)
            and pending.chunked is not req
            and req.output_ids + 1 >= self.requests.output_tokens[req.row]
        ]
        self.running = [r for r in self.running if not any(r is each for each in finishing)]
        if not self.running:
            self.full = False
            return None
        if self.lacks(self.running):
            if finishing:
                self.full = False
                return None
            self.retract()
        else:
            self.ratio = max(self.ratio - self.estimate.decay, self.estimate.least_ratio)
        if len(self.running) < before:
            self.full = False
        batch = Batch(list(self.running), [], extends=False)
        for req in self.running:
            batch.parts.append((req.prefix, 1))
            self.allocate(req, req.prefix + 1)
        return batch

    def retract(self) -> None:
        """`retract_decode`."""
        kept = list(self.running)
        kept.sort(key=lambda req: (req.output_ids, -req.prompt), reverse=True)
        first = True
        while first or self.lacks(kept):
            if len(kept) == 1:
                break
            first = False
            req = kept.pop()
            self.release(req)
            req.prefix = 0
            self.retractions[req.row] += 1
            for batch in self.queued:
                batch.retracted.add(id(req))
            self.waiting.append(req)
        self.running = [r for r in self.running if any(r is each for each in kept)]
        done = sum(r.output_ids for r in self.running)
        done += self.estimate.retract_steps * len(self.running)
        asked = sum(r.max_new_tokens for r in self.running) + 1
        self.ratio = min(1.0, done / asked)

    # the loop

    def next_batch(self) -> Batch | None:
        """`get_next_batch_to_run`."""
        if self.last is not None and self.last.extends:
            merged = [r for r in self.last.reqs if r is not self.last.chunked]
            merged = [r for r in merged if r.output_ids < self.requests.output_tokens[r.row]]
            if len(merged) < len(self.last.reqs):
                self.full = False
            if merged and not self.running:
                self.full = False  # the flag is the batch's, and that one is new
            self.running += merged
        batch = self.prefill()
        return batch if batch is not None else self.decode()

    def process(self, batch: Batch, now: int) -> None:
        """`process_batch_result`."""
        for req in batch.reqs:
            if req is batch.chunked or id(req) in batch.retracted:
                continue
            req.output_ids += 1
            if self.first[req.row] < 0:
                self.first[req.row] = now
            if req.output_ids == self.requests.output_tokens[req.row]:
                self.end[req.row] = now
                self.release(req)
        alive = [r for r in self.running if r.output_ids < self.requests.output_tokens[r.row]]
        if len(alive) < len(self.running):
            self.full = False
        self.running = alive

    def serve(self) -> None:
        """Serve the trace: `event_loop_normal`, or `event_loop_overlap`."""
        arrivals = deque(range(len(self.requests)))
        now = 0  # when the host looks; the GPU is free at `gpu`
        gpu = 0
        while (
            arrivals
            or self.waiting
            or self.running
            or self.queued
            or (self.last is not None and self.last.extends)
        ):
            while arrivals and self.requests.arrival_ns[arrivals[0]] <= now:
                row = arrivals.popleft()
                asked = max(int(self.requests.output_tokens[row]), self.estimate.most_new_tokens)
                req = Req(row, int(self.requests.prompt_tokens[row]), asked)
                longest = req.prompt + int(self.requests.output_tokens[row])
                if self.pages(longest) <= self.pool // self.page * self.page:
                    self.waiting.append(req)
            batch = self.next_batch()
            self.last = batch
            if batch is not None:
                begin = max(gpu, now)
                sampled = len(batch.reqs) - (batch.chunked is not None)
                gpu = begin + step_ns(self.cost, batch.parts, sampled)
                self.steps.append((begin, gpu, sum(n for _, n in batch.parts)))
                for req, (_, tokens) in zip(batch.reqs, batch.parts, strict=True):
                    req.prefix += tokens
                self.queued.append(batch)
            if self.queued and (len(self.queued) > 1 or batch is None or not self.overlap):
                done = self.queued.pop(0)
                now = max(now, gpu if not self.queued else self.steps[-1][0])
                self.process(done, now)
            elif batch is None:
                if not (self.running or self.waiting or self.chunked):
                    self.ratio = self.estimate.first_ratio
                if arrivals:
                    now = max(now, int(self.requests.arrival_ns[arrivals[0]]))
