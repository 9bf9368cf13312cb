"""Conversations as ShareGPT and the serving benchmarks write them: a JSON list, or one a line.

An entry is a conversation, `{"conversations": [{"from": "human", "value": …}, …]}` or
`{"messages": [{"role": "user", "content": …}, …]}`, or a single call, `{"prompt": …,
"prompt_len": 12, "output_len": 34}`. Each reply is a request whose prompt is all that came before
it; it continues the reply before it.

Tokens are those given (a message's `tokens`; a call's `prompt_len`, `output_len` and the like).
Text without them is estimated at 4 bytes of UTF-8 a token, each message rounded up. From such
text the prefix ids are made too: chained hashes over whole blocks of those tokens, so that prompts
that begin with the same text share them. Conversations start as a Poisson process; a turn
follows the answer before it, whose duration is estimated, after an exponential think time.
"""

from __future__ import annotations  # array[int] is a type to checkers only

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.arrivals import exponential_ns, poisson_ns
from vsim.traces.faults import InputError, refuse
from vsim.traces.importers.id_column import IdColumn
from vsim.traces.importers.imported import (
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
    unread_note,
)
from vsim.traces.importers.json_rows import json_values, shown
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.values import parse_count
from vsim.traces.limits import MOST_BLOCK_TOKENS, MOST_NS, MOST_TOKENS
from vsim.traces.machine_memory import memory_fault
from vsim.traces.trace_file import TraceFile
from vsim.traces.turns import answered_after_ns, exceeds

BYTES_PER_TOKEN: Final = 4
BLOCK_TOKENS: Final = 16
_REPLIES: Final = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model"})
PROMPT_COUNTS: Final = ("prompt_tokens", "prompt_len", "input_tokens", "input_len", "input_length")
_OUTPUT_COUNTS: Final = (
    "output_tokens", "output_len", "expected_output_len", "completion_tokens", "output_length",
)  # fmt: skip
_OUTPUT_TEXTS: Final = ("completion", "output", "response", "answer")
CALL_KEYS: Final = frozenset({"prompt", *PROMPT_COUNTS, *_OUTPUT_COUNTS, *_OUTPUT_TEXTS})
"""Keys of a single call."""
CHAT_KEYS: Final = frozenset({"conversations", "messages"})
"""Keys of a conversation, either of them."""
_MANY_BLOCKS: Final = 1_000_000  # of one prompt, before anybody asks for memory
_BYTES_PER_BLOCK: Final = 64
IDLE_KEYS: Final = frozenset({"id", "model", "source", "language", "lang", "title"})
_EXAMPLE: Final = '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}]}'


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who speaks, how many tokens, and its text where that is what was counted."""

    is_reply: bool
    tokens: int
    text: bytes | None


def _text_message(is_reply: bool, text: str) -> Message:
    data = text.encode("utf-8", "surrogatepass")
    return Message(is_reply, -(-len(data) // BYTES_PER_TOKEN), data)


def _content(value: object) -> str:
    """Return a message's text: a string, or the text parts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text") or "" for part in value if isinstance(part, dict)]
        if len(parts) == len(value) and all(isinstance(part, str) for part in parts):
            return "".join(parts)
    raise ValueError(f"{shown(value)} is no text of a message")


def _conversation(turns: object) -> list[Message]:
    if not isinstance(turns, list):
        raise ValueError(f"{shown(turns)} is no list of messages; write {_EXAMPLE}")
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise ValueError(f"{shown(turn)} is no message; write {_EXAMPLE}")
        role = turn.get("from", turn.get("role"))
        if not isinstance(role, str):
            raise ValueError("a message says neither `from` nor `role`")
        if "tokens" in turn:
            message = Message(role in _REPLIES, parse_count(turn["tokens"]), None)
        elif "value" in turn or "content" in turn:
            message = _text_message(
                role in _REPLIES, _content(turn.get("value", turn.get("content")))
            )
        else:
            raise ValueError("a message has neither `value`, `content` nor `tokens`")
        messages.append(message)
    return messages


def _side(
    entry: Mapping[str, Any], counts: tuple[str, ...], texts: tuple[str, ...], reply: bool
) -> Message:
    for name in counts:
        if name in entry:
            return Message(reply, parse_count(entry[name]), None)
    for name in texts:
        if name in entry:
            return _text_message(reply, _content(entry[name]))
    raise ValueError(f"says neither {counts[0]} nor {texts[0]}; an entry looks like {_EXAMPLE}")


def _messages(entry: object) -> list[Message]:
    """Return an entry's messages. Raises ValueError that says what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError(f"is no JSON object; an entry looks like {_EXAMPLE}")
    for name in ("conversations", "messages"):
        if name in entry:
            return _conversation(entry[name])
    return [
        _side(entry, PROMPT_COUNTS, ("prompt",), False),
        _side(entry, _OUTPUT_COUNTS, _OUTPUT_TEXTS, True),
    ]


@dataclass(slots=True)
class _Context:
    """A conversation so far; state: its tokens and the ids of its full blocks."""

    tokens: int = 0
    data: bytearray | None = field(default_factory=bytearray)
    ids: array[int] = field(default_factory=lambda: array("q"))
    digest: bytes = b""

    def add(self, message: Message) -> None:
        self.tokens += message.tokens
        if message.text is None or self.data is None:
            self.data = None
        else:
            missing = -len(message.text) % BYTES_PER_TOKEN
            self.data += message.text + b"\0" * missing


class _Blocks:
    """Ids of prefix blocks; state: the id of each chained hash met, and the next id."""

    def __init__(self, file: str, block_tokens: int) -> None:
        self.file = file
        self.block_tokens = block_tokens
        self.known: dict[bytes, int] = {}
        self.next = 0

    def fresh(self, count: int = 1) -> range:
        self.next += count
        return range(self.next - count, self.next)

    def extend(self, context: _Context) -> array[int]:
        """Return the ids of the context's full blocks, extending those it has."""
        there, whole = len(context.ids), context.tokens // self.block_tokens
        if whole > _MANY_BLOCKS:
            what = f"{whole:,} prefix ids of one prompt of {context.tokens:,} tokens"
            fault = memory_fault(self.file, whole * _BYTES_PER_BLOCK, what)
            if fault is not None:
                raise InputError([fault])
        if context.data is None:  # nothing says what they hold, so no other prompt can share them
            context.ids.extend(self.fresh(whole - there))
            return context.ids
        for block in range(there, whole):
            size = self.block_tokens * BYTES_PER_TOKEN
            data = bytes(context.data[block * size : (block + 1) * size])
            context.digest = blake2b(context.digest + data, digest_size=16).digest()
            identity = self.known.get(context.digest)
            if identity is None:
                (identity,) = self.fresh()
                self.known[context.digest] = identity
            context.ids.append(identity)
        return context.ids


def _joined(messages: list[Message]) -> list[Message]:
    """Join neighbouring messages of one side, and drop replies to nothing."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].is_reply == message.is_reply:
            last = joined.pop()
            text = None
            if last.text is not None and message.text is not None:
                text = last.text + b"\0" * (-len(last.text) % BYTES_PER_TOKEN) + message.text
            message = Message(message.is_reply, last.tokens + message.tokens, text)
        if joined or not message.is_reply:
            joined.append(message)
    return joined


def import_sharegpt(file: TraceFile, options: ImportOptions) -> Imported:
    """Import conversations. Raises InputError that names each wrong line or entry."""
    faults = Faults(file.name)
    block_tokens = options.block_tokens or BLOCK_TOKENS
    if block_tokens > MOST_BLOCK_TOKENS:
        faults.add(f"blocks of {block_tokens} tokens; write 1 to {MOST_BLOCK_TOKENS:,}")
        faults.settle()
    blocks = _Blocks(file.name, block_tokens)
    session: list[int] = []
    prompt: list[int] = []
    output: list[int] = []
    ids = IdColumn()
    shapes: set[tuple[str, ...]] = set()
    conversations = silent = estimated = 0
    for value in json_values(file, faults):
        try:
            messages = _messages(value.value)
        except ValueError as error:
            faults.add(str(error), line=value.line, place=value.place)
            continue
        total = sum(message.tokens for message in messages)
        if total > MOST_TOKENS:
            too_long = f"has {total:,} tokens; no model's context has more than {MOST_TOKENS:,}"
            faults.add(too_long, line=value.line, place=value.place)
            continue
        shapes.add(tuple(value.value))
        estimated += sum(message.text is not None for message in messages)
        messages = _joined(messages)
        if not any(message.is_reply for message in messages):
            silent += 1
            continue
        context = _Context()
        for message in messages:
            if message.is_reply:
                session.append(conversations)
                prompt.append(context.tokens)
                output.append(message.tokens)
                ids.add(blocks.extend(context))
            context.add(message)
        conversations += 1
    faults.settle()
    notes = []
    if silent:
        notes.append(f"{silent} conversations had no reply to a message: dropped")
    if estimated:
        notes.append(f"tokens of {estimated} messages estimated at {BYTES_PER_TOKEN} bytes a token")
    turns = len(session) > conversations
    draws = turns or conversations > 1
    if session:
        _refuse_moot(options, conversations, turns)
    if draws:
        paced = f", think times of mean {options.drawing_think_s:g} s" if turns else ""
        notes.append(
            f"{conversations} conversation arrivals drawn with seed {options.drawing_seed} at "
            f"{options.drawing_rate_per_s:g}/s{paced}"
        )
    read = CHAT_KEYS | CALL_KEYS
    unread = {name for shape in shapes for name in shape if name not in read}
    notes.extend(unread_note(unread - IDLE_KEYS))
    owner = np.asarray(session, dtype=np.int64)
    continues = np.zeros(len(owner), dtype=np.bool_)
    continues[1:] = owner[1:] == owner[:-1]
    parent = np.where(continues, np.arange(len(owner)) - 1, -1)
    arrival, think = _times(owner, parent, np.asarray(output, dtype=np.int64), options)
    requests = make_requests(
        file.name,
        arrival_ns=arrival,
        prompt_tokens=prompt,
        output_tokens=output,
        session=owner,
        parent=parent,
        think_ns=think,
        prefix_offsets=ids.offsets(),
        prefix_ids=ids.ids(notes),
        block_tokens=block_tokens,
        notes=notes,
        source=options.source or f"conversations {file.stem}",
        sort=True,
        drawn=True,
        seeded=draws,
        row_word="request",
    )
    return Imported(requests, options.licence or "not stated")


def _refuse_moot(options: ImportOptions, conversations: int, turns: bool) -> None:
    moot = {}
    if not turns:
        moot["think_s_mean"] = "no conversation of the file has a second turn"
    if conversations == 1:
        moot["session_rate_per_s"] = "the file has one conversation, which starts at 0"
        if not turns:
            moot["seed"] = "the file has one request, so that nothing is drawn"
    refuse_moot(options, moot)


def _times(
    owner: NDArray[np.int64],
    parent: NDArray[np.int64],
    output: NDArray[np.int64],
    options: ImportOptions,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw arrivals and think times of turns that stand conversation by conversation."""
    random = np.random.Generator(np.random.PCG64(options.drawing_seed))
    if len(owner) == 0:
        return owner, owner
    starts = poisson_ns(random, int(owner[-1]) + 1, options.drawing_rate_per_s)
    drawn = exponential_ns(random, options.drawing_think_s, len(owner))
    think = np.where(parent >= 0, drawn, -1)
    since = np.where(parent >= 0, drawn + answered_after_ns(output[parent]), 0)
    passed = np.cumsum(since)
    first = np.maximum.accumulate(np.where(parent < 0, np.arange(len(owner)), 0))
    if exceeds(since, first, MOST_NS).any():
        refuse("--think-mean", "makes a conversation of more than 100 years; write fewer seconds")
    return starts[owner] + passed - passed[first], think
