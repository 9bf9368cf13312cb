"""`SelectedWork`: steps of recorded attention, in which each layer and head reads its own pages."""

from contextlib import ExitStack

import numpy as np

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout, UnsupportedAttentionError
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.gpu import DenseGpu
from vsim.hwbackend.dense.model_step import ModelStep
from vsim.hwbackend.dense.shape import DenseShape
from vsim.hwbackend.dense.small_kernels import KvTarget
from vsim.hwbackend.replay.model_work import dense_bytes, made_step
from vsim.hwbackend.replay.output_check import Row, check_row
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.source import Selected, Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.sim.engine.backend import StepBatch
from vsim.traces.faults import refuse

_SEED = 1


class SelectedWorkMaker:
    """Makes the work of recorded attention. Raises InputError for what has no kernels here.

    Args:
        source: what is replayed.
        selected: how its pages are numbered.
    """

    def __init__(self, source: Source, selected: Selected) -> None:
        assert source.server is not None
        model = source.server.model
        self._shape = DenseShape.of(model)
        self._selected = selected
        if model.layers != selected.layers:
            found = f"{selected.layers} of {model.layers} layers"
            refuse(source.file, f"recorded {found}; a GPU replays recordings of all")
        try:
            self._page = PageLayout(
                source.plan.page_tokens, model.kv_heads // selected.heads, model.head_dim
            )
            self._written = PageLayout(
                source.plan.page_tokens, model.kv_heads, model.head_dim, model.layers
            )
        except UnsupportedAttentionError as error:
            refuse("GPU", str(error), place="workload.attention")
        if self._page.page_bytes != source.plan.page_bytes:
            sizes = f"{source.plan.page_bytes:,} bytes, and bf16 takes {self._page.page_bytes:,}"
            refuse("GPU", f"pages have {sizes}", place="workload.attention")

    def bytes(self, limits: Limits) -> int:
        """See WorkMaker."""
        written = self._selected.requests * self._written.page_bytes
        return dense_bytes(self._shape, limits) + written

    def make(self, context: Context, room: PageRoom, limits: Limits) -> "SelectedWork":
        """See WorkMaker."""
        return SelectedWork(
            context, room, limits, self._shape, self._selected, self._page, self._written
        )


class SelectedWork:
    """Launches decode steps of recorded attention on one GPU. Holds memory until `close`.

    A page holds one layer, and one head or all. New tokens' keys and values go to room of their
    own, a page of all layers a request: where the trace puts them does not change the time.

    Args:
        context: the GPU.
        room: the pages.
        limits: the largest step.
        shape: of the model.
        selected: how pages are numbered.
        page: of one page.
        written: of a page of all layers and heads.
    """

    def __init__(
        self,
        context: Context,
        room: PageRoom,
        limits: Limits,
        shape: DenseShape,
        selected: Selected,
        page: PageLayout,
        written: PageLayout,
    ) -> None:
        self._room, self._shape, self._selected, self._written = room, shape, selected, written
        self._draw = np.random.Generator(np.random.PCG64(_SEED))
        self._warm = False
        self._page = page
        self._layers: list[DecodeBatch] = []
        heads = shape.heads // selected.heads
        with ExitStack() as held:
            dense = held.enter_context(DenseGpu(context, shape))
            self._step: ModelStep = made_step(dense, room, limits)
            base = dense.memory.take(selected.requests * written.page_bytes)
            self._target = KvTarget(
                base, written.layer_stride, written.head_stride, written.v_offset
            )
            self._decodes = [
                held.enter_context(PagedDecode(context, page, heads, slot_bytes=room.slot_bytes))
                for _ in range(selected.layers)
            ]
            self._held = held.pop_all()

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        """See StepWork."""
        n = self._selected.requests
        words = self._draw.integers(0, self._shape.vocabulary, n)
        positions = np.full(n, self._selected.longest - 1)
        places = np.arange(n) * self._written.page_bytes
        self._step.load(stream, words, positions, places, np.arange(n))
        self._layers = by_layer(batch, self._selected)
        for layer, pages in enumerate(self._layers):
            self._decodes[layer].bind(self._decodes[layer].plan(pages), stream)
        if not self._warm:  # kernels are loaded outside of any time that counts
            self._warm = True
            self.launch(stream)
        stream.synchronize()

    def launch(self, stream: Stream) -> None:
        """See StepWork."""
        n, step, base = self._selected.requests, self._step, self._room.base
        step.launch(
            stream,
            n,
            n,
            lambda layer: self._decodes[layer].launch(stream, step.queries, step.attended, base),
            self._target,
        )

    def verify(self, stream: Stream) -> int:
        """See StepWork: every row of the last layer."""
        page, size = self._page, self._room.slot_bytes
        heads = self._shape.heads // self._selected.heads
        row_bytes = heads * page.row_bytes
        last = self._layers[-1] if self._layers else None
        if last is None:
            return 0
        for row in range(last.requests):
            pages = last.indices[last.indptr[row] : last.indptr[row + 1]].astype(np.int64)
            at = row * row_bytes
            check_row(
                Row(
                    query=self._step.queries + at,
                    output=self._step.attended + at,
                    pages=self._room.base + pages * size,
                    tokens=len(pages) * page.page_tokens,
                    name=f"row {row} of the last layer",
                ),
                page,
                heads,
                stream,
            )
        return last.requests

    def close(self) -> None:
        """See StepWork."""
        self._held.close()


def by_layer(batch: StepBatch, selected: Selected) -> list[DecodeBatch]:
    """Cut a step's rows into those of each layer; a layer that reads nothing has none."""
    first = np.arange(selected.layers + 1) * selected.requests * selected.heads
    ends = np.searchsorted(batch.rows, first)
    found = []
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        indptr = batch.indptr[begin : end + 1]
        found.append(
            DecodeBatch.of(
                indptr - indptr[0],
                batch.indices[indptr[0] : indptr[-1]],
                batch.last_page_len[begin:end],
            )
        )
    return found
