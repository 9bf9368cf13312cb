"""`ModelWork`: a decoder's whole step: its dense parts, and attention over pages where they are."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout, UnsupportedAttentionError
from vsim.hwbackend.attention.prefill import PagedPrefill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.gpu import DenseGpu
from vsim.hwbackend.dense.model_step import MOST_TOKENS, ModelStep, StepLimits
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.replay.output_check import MOST_PAGES, Row, check_row
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.sim.engine.backend import StepBatch
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.traces.faults import refuse

_SEED = 1
_WORKSPACES_BYTES = 256 << 20
"""Of products and attention, plans and tables; rounded up."""


class ModelWorkMaker:
    """Makes the work of a source's model. Raises InputError for one without kernels here.

    Args:
        source: what is replayed; of a model over several GPUs, each has such a part of it.
    """

    def __init__(self, source: Source) -> None:
        model = source.server.model if source.server is not None else load_model(source.model)
        self._shape = DenseShape.of(model, source.gpus)
        self._layout = _page_layout(model, self._shape, source)

    def bytes(self, limits: Limits) -> int:
        """See WorkMaker."""
        return dense_bytes(self._shape, limits)

    def make(self, context: Context, room: PageRoom, limits: Limits, rank: int = 0) -> "ModelWork":
        """See WorkMaker; `rank` says which of the GPUs that share the model."""
        return ModelWork(context, room, limits, self._shape, self._layout, rank)


def dense_bytes(shape: DenseShape, limits: Limits) -> int:
    """What weights and buffers of a model's steps take. Raises InputError for too many tokens."""
    if limits.tokens > MOST_TOKENS:
        message = f"{limits.tokens:,} tokens in a step; a GPU replays {MOST_TOKENS:,} at most"
        refuse("GPU", f"{message}: write a smaller engine.token_budget")
    weights = shape.layers * shape.layer_bytes + shape.other_bytes
    width = 3 * shape.hidden + shape.qkv.n + 2 * shape.query_width
    width += shape.gate_up.n + shape.down.k
    if shape.routed is not None:
        width *= shape.routed.per_token
    rows = limits.tokens * width + limits.requests * (shape.hidden + shape.head.n)
    angles = 4 * (limits.context + 1) * shape.head_dim
    return weights + BF16_BYTES * rows + angles + _WORKSPACES_BYTES


def _page_layout(model: Model, shape: DenseShape, source: Source) -> PageLayout:
    """Of what a GPU has of a page: the keys and values of its heads."""
    if model.sliding_window is not None:
        refuse(model.name, "has layers that see a window, which a GPU does not replay yet",
               place="sliding_window")  # fmt: skip
    try:
        layout = PageLayout(
            source.plan.page_tokens, shape.gpu_kv_heads, model.head_dim, model.layers
        )
    except UnsupportedAttentionError as error:
        refuse("GPU", str(error), place="engine.page_tokens")
    page_bytes = layout.page_bytes * shape.tensor
    if page_bytes != source.plan.page_bytes:
        found = f"{page_bytes:,} bytes on a GPU and {source.plan.page_bytes:,} in the plan"
        refuse(source.file, f"a page has {found}; name the model that it was made for")
    return layout


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The step that is launched next.

    Args:
        tokens: that it computes, those of decodes first.
        sampled: output tokens.
        decodes: requests that compute one token.
        chunks: whether any computes several.
    """

    tokens: int
    sampled: int
    decodes: int
    chunks: bool


class ModelWork:
    """Launches whole steps of a model on one GPU. Holds weights and buffers until `close`.

    Words are drawn at random: only the time matters. A number of tokens that was never computed
    before is computed once outside of any time that counts, so that its kernels are loaded.

    Args:
        context: the GPU.
        room: the pages.
        limits: the largest step.
        shape: of the model.
        layout: of a page.
        rank: which of the GPUs that share the model; its steps are then launched part by part.
    """

    def __init__(
        self,
        context: Context,
        room: PageRoom,
        limits: Limits,
        shape: DenseShape,
        layout: PageLayout,
        rank: int = 0,
    ) -> None:
        self._room, self._shape, self._layout = room, shape, layout
        self._heads = shape.heads // shape.tensor
        self._draw = np.random.Generator(np.random.PCG64(_SEED))
        self._seen: set[tuple[int, int]] = set()
        self.loaded = Loaded(0, 0, 0, False)
        self._batch: StepBatch | None = None
        self.target = KvTarget(room.base, layout.layer_stride, layout.head_stride, layout.v_offset)
        with ExitStack() as held:
            dense = held.enter_context(DenseGpu(context, shape))
            self.step: ModelStep = made_step(dense, room, limits, rank)
            size = room.slot_bytes
            decode = PagedDecode(context, layout, self._heads, slot_bytes=size)
            self._decode = held.enter_context(decode)
            prefill = PagedPrefill(context, layout, self._heads, slot_bytes=size)
            self._prefill = held.enter_context(prefill)
            self._held = held.pop_all()

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        """See StepWork."""
        if self.load(stream, batch):
            self.launch(stream)
        stream.synchronize()

    def load(self, stream: Stream, batch: StepBatch) -> bool:
        """Upload what the next step needs.

        Returns:
            Whether a step of so many tokens was never launched, so that its kernels are not loaded.
        """
        self._batch = batch = decodes_first(batch)
        decodes = int((batch.new_tokens == 1).sum())
        positions, places = self._tokens(batch)
        ends = np.cumsum(batch.new_tokens)
        sampled = (ends - 1)[batch.samples]
        tokens = len(positions)
        words = self._draw.integers(0, self._shape.vocabulary, tokens)
        self.step.load(stream, words, positions, places, sampled)
        if self._shape.routed is not None:
            routed = self._shape.routed
            self.step.route(
                stream,
                [
                    Routing.drawn(self._draw, tokens, routed.experts, routed.per_token)
                    for _ in range(self.step.layers)
                ],
            )
        if decodes:
            self._decode.bind(self._decode.plan(_pages(batch, 0, decodes)), stream)
        if decodes < len(batch):
            pages = _pages(batch, decodes, len(batch))
            new = batch.new_tokens[decodes:].astype(np.int32)
            self._prefill.bind(self._prefill.plan(pages, new), stream)
        self.loaded = Loaded(tokens, len(sampled), decodes, decodes < len(batch))
        is_new = (tokens, len(sampled)) not in self._seen
        self._seen.add((tokens, len(sampled)))
        return is_new

    def launch(self, stream: Stream) -> None:
        """See StepWork."""
        loaded = self.loaded
        self.step.launch(
            stream,
            loaded.tokens,
            loaded.sampled,
            lambda layer: self.attend(stream, layer),
            self.target,
        )

    def verify(self, stream: Stream) -> int:
        """See StepWork: of the first and the last request, the newest token in the last layer."""
        batch, layout, step = self._batch, self._layout, self.step
        if batch is None:
            return 0
        ends = np.cumsum(batch.new_tokens)
        row_bytes = self._shape.query_width * BF16_BYTES
        layer = self._room.base + (layout.layers - 1) * layout.layer_stride
        looked = 0
        for i in {0, len(batch) - 1}:
            pages = batch.indices[batch.indptr[i] : batch.indptr[i + 1]].astype(np.int64)
            if len(pages) > MOST_PAGES:
                continue
            at = int(ends[i] - 1) * row_bytes
            row = Row(
                query=step.queries + at,
                output=step.attended + at,
                pages=layer + pages * self._room.slot_bytes,
                tokens=int(batch.context_tokens[i]),
                name=f"request {int(batch.rows[i])}",
            )
            check_row(row, layout, self._heads, stream)
            looked += 1
        return looked

    def close(self) -> None:
        """See StepWork."""
        self._held.close()

    def attend(self, stream: Stream, layer: int) -> None:
        """Launch the attention of one layer of the step loaded."""
        loaded, step, base = self.loaded, self.step, self._room.base
        if loaded.decodes:
            self._decode.launch(stream, step.queries, step.attended, base, layer)
        if loaded.chunks:
            behind = loaded.decodes * self._shape.query_width * BF16_BYTES
            self._prefill.launch(stream, step.queries + behind, step.attended + behind, base, layer)

    def _tokens(self, batch: StepBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each new token's position in its request, and where its keys go, from the base."""
        new = batch.new_tokens
        request = np.repeat(np.arange(len(batch)), new)
        within = np.arange(int(new.sum())) - np.repeat(np.cumsum(new) - new, new)
        positions = (batch.context_tokens - new)[request] + within
        page, token = np.divmod(positions, self._layout.page_tokens)
        units = batch.indices[batch.indptr[request] + page].astype(np.int64)
        return positions, units * self._room.slot_bytes + token * self._layout.token_stride


def made_step(dense: DenseGpu, room: PageRoom, limits: Limits, rank: int = 0) -> ModelStep:
    """Make a model's step of at most such sizes, and fill all pages with numbers.

    Zeros would be computed with less power, so at other clocks.
    """
    with Stream() as stream:
        step = dense.model_step(
            stream, StepLimits(limits.tokens, limits.requests, limits.context + 1), rank=rank
        )
        for seed, (address, size_bytes) in enumerate(room.extents()):
            dense.kernels.fill_normal(stream, address, size_bytes, seed)
        stream.synchronize()
    return step


def decodes_first(batch: StepBatch) -> StepBatch:
    """Put requests that compute one token before those that compute several, each in order."""
    order = np.argsort(batch.new_tokens > 1, kind="stable")
    pages = np.split(batch.indices, batch.indptr[1:-1])
    counts = np.diff(batch.indptr)[order]
    return replace(
        batch,
        rows=batch.rows[order],
        new_tokens=batch.new_tokens[order],
        context_tokens=batch.context_tokens[order],
        samples=batch.samples[order],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        indices=np.concatenate([pages[i] for i in order]) if len(batch) else batch.indices,
        last_page_len=batch.last_page_len[order],
    )


def _pages(batch: StepBatch, first: int, end: int) -> DecodeBatch:
    """The pages of some of a batch's requests."""
    indptr = batch.indptr[first : end + 1]
    return DecodeBatch.of(
        indptr - indptr[0],
        batch.indices[indptr[0] : indptr[-1]],
        batch.last_page_len[first:end],
    )
