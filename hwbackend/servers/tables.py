"""The request tables that real servers are played: lengths, arrivals and who shares a prefix.

A table is drawn from its seed alone, so that the machine with the GPU and the one that writes the
recordings make the same one. A prompt is its parent's prompt and answer, as the server generated
it, or a system prompt, followed by fresh tokens of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator

BLOCK_TOKENS: Final = 16
LENGTHS_ALONE: Final = (128, 512, 1024, 2048, 4096, 8192, 16384, 32000)
LENGTHS_MIDDLE: Final = (256, 384, 640, 768, 1536)  # about the largest CUDA graph, 512
SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a table.

    Args:
        id: its place in the table, from 0.
        arrival_ns: since the table's start; None where it follows its parent's last token.
        parent: id of the request that it continues, an earlier row.
        think_ns: from the parent's last token to this arrival.
        system: which system prompt it starts with; None for none and for one with a parent.
        system_tokens: tokens of that, 0 for none.
        fresh_tokens: tokens that no other prompt has.
        output_tokens: tokens to generate.
    """

    id: int
    arrival_ns: int | None
    fresh_tokens: int
    output_tokens: int
    parent: int | None = None
    think_ns: int | None = None
    system: int | None = None
    system_tokens: int = 0


def prompt_tokens(rows: Sequence[Row]) -> list[int]:
    """Return each prompt's length, earlier turns included."""
    lengths: list[int] = []
    for row in rows:
        before = row.system_tokens
        if row.parent is not None:
            before = lengths[row.parent] + rows[row.parent].output_tokens
        lengths.append(before + row.fresh_tokens)
    return lengths


def prefix_blocks(rows: Sequence[Row]) -> list[list[int]]:
    """Return the ids of each prompt's full blocks: equal ids mean equal tokens from the start.

    A session only appends, so its first request and the place of a block name it; those that lie
    wholly in a system prompt belong to that.
    """
    roots: list[Row] = []
    blocks = []
    for row, length in zip(rows, prompt_tokens(rows), strict=True):
        root = row if row.parent is None else roots[row.parent]
        roots.append(root)
        shared = root.system_tokens // BLOCK_TOKENS
        own = (root.id + 1) << 20
        system = (root.system or 0) << 12
        blocks.append(
            [system + k if k < shared else own + k for k in range(length // BLOCK_TOKENS)]
        )
    return blocks


def needs_blocks(table: str, rows: Sequence[Row]) -> bool:
    """Tell whether ids of blocks say anything: prompts start alike, or come back preempted."""
    shares = any(row.system is not None or row.parent is not None for row in rows)
    return shares or table.startswith("growing")


def _integer(rng: Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high, endpoint=True))


def _lognormal(rng: Generator, median: float, sigma: float, low: int, high: int) -> int:
    return int(min(max(rng.lognormal(math.log(median), sigma), low), high))


def _poisson(rng: Generator, rate_per_s: float, count: int) -> list[int]:
    gaps = rng.exponential(SECOND_NS / rate_per_s, count)
    return [int(t) for t in np.cumsum(gaps) - gaps[0]]


def alone(repeats: int = 5, lengths: Sequence[int] = LENGTHS_ALONE, seed: int = 11) -> list[Row]:
    """Draw prompts that find the server idle, each length `repeats` times in random order."""
    rng = Generator(PCG64(seed))
    rows: list[Row] = []
    arrival_s = 0.0
    for _ in range(repeats):
        for length in rng.permutation(lengths):
            rows.append(Row(len(rows), int(arrival_s * SECOND_NS), int(length), 24))
            arrival_s += 0.3 + length / 16_000  # room for the slowest model recorded
    return rows


def chat(rate_per_s: float, seconds: float, seed: int) -> list[Row]:
    """Draw single questions: Poisson arrivals, lognormal lengths, nothing shared."""
    rng = Generator(PCG64(seed))
    arrivals = _poisson(rng, rate_per_s, round(rate_per_s * seconds))
    return [
        Row(i, t, _lognormal(rng, 420, 1.0, 16, 6000), _lognormal(rng, 160, 0.7, 8, 700))
        for i, t in enumerate(arrivals)
    ]


def burst(count: int, seed: int) -> list[Row]:
    """Draw requests that all arrive at once."""
    rng = Generator(PCG64(seed))
    return [Row(i, 0, _integer(rng, 256, 1024), _integer(rng, 64, 256)) for i in range(count)]


def long_prompts(rate_per_s: float, count: int, seed: int) -> list[Row]:
    """Draw documents of 4,000 to 30,000 tokens with short answers."""
    rng = Generator(PCG64(seed))
    return [
        Row(i, t, int(4000 * 7.5 ** rng.random()), _integer(rng, 32, 128))
        for i, t in enumerate(_poisson(rng, rate_per_s, count))
    ]


def growing(rate_per_s: float, count: int, seed: int) -> list[Row]:
    """Draw short prompts with long answers, which outgrow a small KV cache."""
    rng = Generator(PCG64(seed))
    return [
        Row(i, t, _integer(rng, 200, 800), _integer(rng, 300, 700))
        for i, t in enumerate(_poisson(rng, rate_per_s, count))
    ]


def sessions(count: int, rate_per_s: float, turns: int, seed: int) -> list[Row]:
    """Draw conversations of `turns` turns under four system prompts.

    Rows are in order of turn, then session: a parent comes before its child.
    """
    rng = Generator(PCG64(seed))
    systems = [_integer(rng, 600, 2400) for _ in range(4)]
    rows = []
    for i, arrival_ns in enumerate(_poisson(rng, rate_per_s, count)):
        system = _integer(rng, 0, 3)
        rows.append(
            Row(
                i,
                arrival_ns,
                _lognormal(rng, 400, 0.8, 50, 2000),
                _integer(rng, 40, 200),
                system=system,
                system_tokens=systems[system],
            )
        )
    for i in range(count, count * turns):
        think_ns = int(rng.exponential(2.5 * SECOND_NS))
        fresh, output = _lognormal(rng, 120, 0.8, 20, 600), _integer(rng, 40, 200)
        rows.append(Row(i, None, fresh, output, parent=i - count, think_ns=think_ns))
    return rows


def traced() -> list[Row]:
    """Draw a few steps of each kind, to have their kernels traced.

    One, 16 and 160 sequences that decode, and prompts alone; in this order, apart from each other.
    """
    groups = [(0, 1, 700, 10), (1, 16, 700, 10), (3, 160, 300, 10)]
    groups += [(6 + i, 1, prompt, 3) for i, prompt in enumerate((256, 512, 640, 1024, 2048, 8192))]
    rows: list[Row] = []
    for second, count, prompt, output in groups:
        for _ in range(count):
            rows.append(Row(len(rows), second * SECOND_NS, prompt, output))
    return rows


def warm() -> list[Row]:
    """Draw a short table with every shape of the others in it."""
    rng = Generator(PCG64(2))
    prompts = [*LENGTHS_ALONE, 24, 48, 300, 700, 1500, 3000, 6000]
    rows = [Row(i, i * SECOND_NS // 5, prompt, 16) for i, prompt in enumerate(prompts)]
    many_ns = 5 * SECOND_NS
    many = range(len(rows), len(rows) + 160)
    rows += [Row(i, many_ns, _integer(rng, 16, 900), _integer(rng, 8, 64)) for i in many]
    return rows


def tables() -> Mapping[str, list[Row]]:
    """Draw all tables, by name."""
    return MappingProxyType(
        {
            "warm": warm(),
            "traced": traced(),
            "alone": alone(),
            "alone_short": alone(2, (128, 1024, 4096, 16384), seed=12),
            "alone_middle": alone(5, LENGTHS_MIDDLE, seed=13),
            "chat_4": chat(4, 20, seed=21),
            "chat_8": chat(8, 20, seed=22),
            "chat_16": chat(16, 16, seed=23),
            "chat_24": chat(24, 12, seed=25),
            "chat_32": chat(32, 12, seed=24),
            "burst": burst(160, seed=31),
            "long": long_prompts(1.2, 24, seed=41),
            "sessions": sessions(60, 5, 5, seed=51),
            "growing_16": growing(16, 120, seed=61),
            "growing_28": growing(28, 140, seed=63),
            "growing_40": growing(40, 160, seed=62),
        }
    )
