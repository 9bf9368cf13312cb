"""The client: sends a table's requests when they are due and notes when each token comes.

It runs beside vLLM's front end in one event loop, as a server's handlers do.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.random import PCG64, Generator

from vsim.hwbackend.servers.tables import Row

TOKENS: Final = (1000, 127_000)  # all vocabularies hold these, and none of them is special


@dataclass(slots=True)
class Answer:
    """What the client saw of one request; filled while it runs. Times on CLOCK_MONOTONIC, ns."""

    due_ns: int = 0
    sent_ns: int = 0
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    cached: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


def drawn_tokens(count: int, *seed: int) -> list[int]:
    """Draw a text of `count` tokens."""
    values: list[int] = Generator(PCG64(seed)).integers(*TOKENS, count).tolist()
    return values


def _starts(rows: Sequence[Row], seed: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    return [
        (
            drawn_tokens(row.system_tokens, *seed, 1 << 20, row.system or 0),
            drawn_tokens(row.fresh_tokens, *seed, row.id),
        )
        for row in rows
    ]


async def play_rows(
    engine: Any, parameters: Any, rows: Sequence[Row], name: str, seed: Sequence[int]
) -> tuple[int, list[Answer]]:
    """Send the rows when they are due and wait for all answers.

    Args:
        engine: an AsyncLLM.
        parameters: makes vLLM's sampling parameters from a number of tokens to generate.
        rows: a table.
        name: the start of the requests' ids.
        seed: says which tokens the prompts have.

    Returns:
        When the table started, ns on CLOCK_MONOTONIC, and one answer a row.
    """
    starts = _starts(rows, seed)
    answers = [Answer() for _ in rows]
    start_ns = time.monotonic_ns() + 100_000_000

    async def one(row: Row) -> None:
        answer = answers[row.id]
        system, fresh = starts[row.id]
        if row.parent is None:
            answer.due_ns = start_ns + (row.arrival_ns or 0)
            answer.prompt = system + fresh
        else:
            parent = answers[row.parent]
            await parent.done.wait()
            answer.due_ns = parent.times_ns[-1] + (row.think_ns or 0)
            answer.prompt = parent.prompt + parent.tokens + fresh
        while (left_ns := answer.due_ns - time.monotonic_ns()) > 0:  # timers may come early
            await asyncio.sleep(left_ns / 1e9)
        answer.sent_ns = time.monotonic_ns()
        async for output in engine.generate(
            {"prompt_token_ids": answer.prompt}, parameters(row.output_tokens), f"{name}.{row.id}"
        ):
            now = time.monotonic_ns()
            tokens = output.outputs[0].token_ids
            answer.tokens += tokens
            answer.times_ns += [now] * len(tokens)
            if output.num_cached_tokens is not None:
                answer.cached = output.num_cached_tokens
        answer.done.set()

    await asyncio.gather(*[one(row) for row in rows])
    return start_ns, answers


def _steps(times_ns: Sequence[int], start_ns: int) -> list[int]:
    """Return the first time since the start, then the gaps: shorter to write."""
    return [t - before for before, t in zip([start_ns, *times_ns], times_ns, strict=False)]


def result_rows(
    rows: Sequence[Row],
    answers: Sequence[Answer],
    seen: Mapping[str, Mapping[str, Any]],
    name: str,
    start_ns: int,
) -> list[dict[str, Any]]:
    """Join what the client and the engine saw of each request; times since the table's start."""
    by_id = {key.rsplit("-", 1)[0]: value for key, value in seen.items()}  # vLLM adds a random end
    results = []
    for row, answer in zip(rows, answers, strict=True):
        watched = by_id[f"{name}.{row.id}"]
        results.append(
            {
                "id": row.id,
                "parent": row.parent,
                "think_ns": row.think_ns,
                "prompt": len(answer.prompt),
                "output": len(answer.tokens),
                "cached": answer.cached,
                "prefill": watched["prefill"],
                "due_ns": answer.due_ns - start_ns,
                "sent_ns": answer.sent_ns - start_ns,
                "queued_ns": [t - start_ns for t in watched["queued"]],
                "scheduled_ns": [t - start_ns for t in watched["scheduled"]],
                "preempted_ns": [t - start_ns for t in watched["preempted"]],
                "engine_ns": _steps(watched["engine"], start_ns),
                "times_ns": _steps(answer.times_ns, start_ns),
            }
        )
    return results
