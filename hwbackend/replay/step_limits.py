"""Limits: the largest step that a replay may have."""

from dataclasses import dataclass

from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.source import Source


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step has at most.

    Args:
        tokens: computed.
        requests: in its batch.
        context: tokens of one request.
        pages: of one request.
    """

    tokens: int
    requests: int
    context: int
    pages: int


def limits_of(source: Source, options: ReplayOptions) -> Limits:
    """Of a plan, what its steps have; of a live replay, what the engine's settings allow."""
    page_tokens = source.plan.page_tokens
    if options.mode == "live" and source.live is not None:
        engine = source.live.server.scenario.engine
        requests = source.live.requests
        longest = int((requests.prompt_tokens + requests.output_tokens).max())
        tokens = engine.token_budget if engine.chunked_prefill else longest + engine.token_budget
        tokens = max(tokens, engine.max_running_requests)
        if engine.batching == "static":
            tokens = max(tokens, longest * engine.max_running_requests)
        rows = min(engine.max_running_requests, len(requests))
        return Limits(tokens, rows, longest, -(-longest // page_tokens) + 1)
    if source.selected is not None:
        n, longest = source.selected.requests, source.selected.longest
        return Limits(n, n, longest, -(-longest // page_tokens))
    batches = [
        each.operation.batch for each in source.plan.operations if each.operation.batch is not None
    ]
    longest = max((int(batch.context_tokens.max()) for batch in batches), default=1)
    return Limits(
        tokens=max((int(batch.new_tokens.sum()) for batch in batches), default=1),
        requests=max((len(batch) for batch in batches), default=1),
        context=longest,
        pages=-(-longest // page_tokens),
    )
