"""Record a decode: token by token after the prompt, the scores of every page attended to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import MASS, AttentionTrace, Scores
from vsim.traces.faults import refuse
from vsim.traces.recorders.model import F32, AttentionRead, Model
from vsim.traces.recorders.page_scores import QuestBounds, page_count, page_mass
from vsim.traces.score_codes import LogScale, encode

Choice = Literal["text", "sample", "greedy"]
QUEST = "quest"


@dataclass(frozen=True, slots=True)
class Decoding:
    """Where decoded tokens come from.

    Args:
        choice: `text` reads the tokens that follow in the prompt file; `sample` draws from the
            model's own distribution; `greedy` takes its most likely token.
        temperature, top_p: of `sample`.
        seed: of `sample`, for numpy's PCG64.
    """

    choice: Choice = "sample"
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Keeping:
    """What of the scores is written, as shares of each row's pages; see `score_codes.encode`.

    Args:
        mass: share kept by attention mass.
        graded: share whose codes follow the mass; the rest of what is kept is ranked coarsely.
        quest: share kept by Quest's bound, ranked coarsely; 0 leaves the score out.
        step: log2 of the ratio between neighbouring codes of the mass.
    """

    mass: float = 0.6
    graded: float = 0.4
    quest: float = 0.4
    step: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """A recorded decode, in floats.

    Attributes:
        prompt: the prompt's tokens.
        output: the tokens decoded, one a step; step t reads output[t] and attends to it too.
        scores: by name, float32[T, layers, kv_heads, pages at the end], each row of pages sums to
            one over the pages that exist.
        page_tokens: tokens of a page.
    """

    prompt: list[int]
    output: list[int]
    scores: dict[str, F32]
    page_tokens: int

    @property
    def pages(self) -> NDArray[np.int64]:
        """int64[T], the pages of the context at each step."""
        context = len(self.prompt) + 1 + np.arange(len(self.output))
        return -(-context // self.page_tokens)


def record_decode(
    model: Model,
    prompt: Sequence[int],
    steps: int,
    decoding: Decoding,
    *,
    follow: Sequence[int] = (),
    page_tokens: int = 16,
    quest: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Decode:
    """Read the prompt, then decode and record.

    Args:
        model: an empty cache is not needed; it is emptied first.
        prompt: tokens.
        steps: tokens to decode.
        decoding: where they come from.
        follow: with `text`, the tokens to decode; at least `steps`.
        page_tokens: tokens of a page.
        quest: whether to record Quest's bounds as a second score.
        progress: called with the number of steps done.

    Raises:
        InputError: the model's context is too short for prompt and output.
    """
    if len(prompt) + steps > model.shape.context_tokens:
        refuse(
            "--tokens",
            f"{len(prompt)} prompt tokens and {steps} steps exceed the model's context of "
            f"{model.shape.context_tokens} tokens; lower --tokens or --prompt-tokens",
        )
    shape = model.shape
    width = page_count(len(prompt) + steps, page_tokens)
    size = (steps, shape.layers, shape.kv_heads, width)
    scores = {name: np.zeros(size, np.float32) for name in ((MASS, QUEST) if quest else (MASS,))}
    bounds = [QuestBounds(page_tokens) for _ in range(shape.layers)]

    def observe(read: AttentionRead) -> None:
        count, context = read.probabilities.shape[-2:]
        first = context - count - len(prompt)
        part = scores[MASS][first : first + count, read.layer]
        mass = page_mass(read, page_tokens).swapaxes(0, 1)
        part[..., : mass.shape[-1]] = mass
        if quest:
            bound = bounds[read.layer].mass(read).swapaxes(0, 1)
            scores[QUEST][first : first + count, read.layer, :, : bound.shape[-1]] = bound

    model.cut(0)
    logits = model.read(prompt)[-1]
    if decoding.choice == "text":
        # tokens that are known beforehand can be read side by side: each sees only those before it
        output = [int(token) for token in follow[:steps]]
        model.read(output, observe)
        progress(steps)
        return Decode(list(prompt), output, scores, page_tokens)
    generator = np.random.Generator(np.random.PCG64(decoding.seed))
    output = []
    for step in range(steps):
        output.append(_draw(logits, decoding, generator))
        logits = model.read(output[-1:], observe)[-1]
        progress(step + 1)
    return Decode(list(prompt), output, scores, page_tokens)


def _draw(logits: F32, decoding: Decoding, generator: np.random.Generator) -> int:
    """Take the next token: the most likely, or one drawn from the likeliest that make up top_p."""
    if decoding.choice == "greedy":
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / decoding.temperature
    weight = np.exp(scaled - scaled.max())
    order = np.argsort(-weight, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    kept = order[: int(np.searchsorted(share, decoding.top_p)) + 1]
    return int(generator.choice(kept, p=weight[kept] / weight[kept].sum()))


def attention_of(
    decode: Decode,
    model: Model,
    keeping: Keeping | None,
    *,
    source: str,
    licence: str,
    facts: dict[str, str],
) -> AttentionTrace:
    """Make the trace of one request from a decode; every row lists all pages of its context.

    Args:
        decode: what was recorded.
        model: what it was recorded on.
        keeping: how scores are written as codes; None keeps them as float16.
        source, licence, facts: metadata of the trace.
    """
    steps, layers, heads, width = decode.scores[MASS].shape
    pages = np.repeat(decode.pages, layers * heads)
    exists = np.arange(width)[None, :] < pages[:, None]
    offsets = np.zeros(len(pages) + 1, np.int64)
    np.cumsum(pages, out=offsets[1:])
    scores: dict[str, Scores] = {}
    scales: dict[str, LogScale] = {}
    kept: dict[str, str] = {}
    for name, values in decode.scores.items():
        if keeping is None:
            scores[name] = values.reshape(-1, width)[exists].astype(np.float16)
            continue
        share = keeping.mass if name == MASS else keeping.quest
        graded = min(keeping.graded, share) if name == MASS else 0.0
        scale = LogScale(keeping.step)
        codes = np.empty(exists.shape, np.uint8)
        for step in range(steps):  # a step at a time: ranking is several times the codes' size
            part = slice(step * layers * heads, (step + 1) * layers * heads)
            flat = values[step].reshape(-1, width)
            codes[part] = encode(flat, pages[part], scale, kept=share, graded=graded)
        scores[name] = codes[exists]
        scales[name] = scale
        kept[f"{name}_kept"] = f"{share:g}"
        kept[f"{name}_graded"] = f"{graded:g}"
    row = np.arange(len(pages))
    return AttentionTrace(
        step=row // (layers * heads),
        request=np.zeros(len(pages), np.int64),
        layer=(row // heads % layers).astype(np.int32),
        kv_head=(row % heads).astype(np.int32),
        offsets=offsets,
        pages=np.broadcast_to(np.arange(width, dtype=np.int32), exists.shape)[exists],
        scores=scores,
        scales=scales,
        page_tokens=decode.page_tokens,
        page_bytes=model.shape.page_bytes(decode.page_tokens),
        prompt_tokens=len(decode.prompt),
        source=source,
        licence=licence,
        facts={**facts, **kept},
    )
