"""`Batch`: traces of attention as one batch of requests, and the pages that its steps read."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vsim.sim.machine.precision import Precision
from vsim.sim.model.model import Model
from vsim.sim.placement.load import selections
from vsim.sim.placement.reshape import first_steps, side_by_side, with_whole_context
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.scenario import SelectionSettings
from vsim.sim.scenario.applicability import refuse_all
from vsim.sim.scenario.scenario import OneSelection, Workload
from vsim.sim.scenario.workload import queued_requests
from vsim.traces.attention import AttentionTrace, read_attention
from vsim.traces.faults import Fault, InputError
from vsim.traces.page_reads import PageReads
from vsim.traces.requests import Requests
from vsim.traces.selection import Selection, select_with_mass

_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8", "int4")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n requests that decode T steps side by side.

    Attributes:
        reads: the pages of each decode step, those of all requests; a page's bytes are those of
            its tokens at the run's KV precision.
        seen: attention mass for policies that follow it, or None.
        prompt_tokens: int64[n].
        columns: pages that stand side by side at one place of a context: layers times KV heads,
            or layers where the trace keeps all heads together.
    """

    reads: PageReads
    seen: Seen | None
    prompt_tokens: np.ndarray[tuple[int], np.dtype[np.int64]]
    columns: int

    @property
    def steps(self) -> int:
        """Decode steps."""
        return self.reads.steps

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def requests(self) -> Requests:
        """The requests as a trace: all arrive at 0, and the prompt gives the first output token."""
        output_tokens = np.full(len(self), self.steps + 1, np.int64)
        return queued_requests(self.prompt_tokens, output_tokens, self.reads.source)


def load_batch(workload: Workload, model: Model, kv: Precision, base: Path) -> Batch:
    """Read the traces that a workload names, select pages and put the requests side by side.

    Args:
        workload: with `attention`.
        model: what serves them.
        kv: precision of its KV cache.
        base: the folder that relative paths start at.

    Raises:
        InputError: a trace is not there, is broken, is of several requests or of another model,
            or lacks what the selection needs; or the traces do not fit one another.
    """
    selection = page_selection(workload.selection)
    paths = [base / name for name in workload.attention or ()]
    refuse_all(
        (("workload", "attention", i), f"there is no file {path}; write the path of a trace")
        for i, path in enumerate(paths)
        if not path.exists()
    )
    found = [_part(path, model, selection, workload.steps) for path in paths]
    faults = [fault for part in found if isinstance(part, InputError) for fault in part.faults]
    if faults:
        raise InputError(faults)
    parts = [part for part in found if isinstance(part, _Part)]
    if len({(part.reads.page_tokens, part.columns) for part in parts}) > 1:
        message = "the traces' pages differ in tokens or heads; decode traces of one kind together"
        raise InputError([Fault("scenario", message, place="workload.attention")])
    columns = parts[0].columns
    page_bytes = parts[0].reads.page_tokens * model.kv_bytes_per_token(kv) // columns
    reads, seen = side_by_side(
        [replace(part.reads, page_bytes=page_bytes) for part in parts],
        [part.seen for part in parts],
    )
    reads, seen = _first_steps(reads, seen, workload.steps)
    prompts = np.array([part.prompt_tokens for part in parts], np.int64)
    return Batch(reads, seen, prompts, columns)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One trace of a batch."""

    reads: PageReads
    seen: Seen | None
    prompt_tokens: int
    columns: int


def _part(path: Path, model: Model, selection: Selection, steps: int | None) -> _Part | InputError:
    """Read one trace; its faults are returned, so that those of all traces are shown at once."""
    try:
        trace = read_attention(path)
        columns = _check(trace, model, str(path))
        reads, seen = _reads(_cut(trace, steps), selection, str(path))
    except InputError as error:
        return error
    return _Part(reads, seen, trace.prompt_tokens, columns)


def _cut(trace: AttentionTrace, steps: int | None) -> AttentionTrace:
    """Leave out the rows of later steps, unless the last steps or pages of the run go with them."""
    if steps is None or steps >= trace.steps:
        return trace
    cut = trace.first_steps(steps)
    newest = (trace.prompt_tokens + steps - 1) // trace.page_tokens
    whole = len(cut) > 0 and cut.steps == steps and int(cut.pages.max(initial=-1)) == newest
    return cut if whole else trace


def _first_steps(
    reads: PageReads, seen: Seen | None, steps: int | None
) -> tuple[PageReads, Seen | None]:
    if steps is not None:
        if steps > reads.steps:
            message = f"{steps} is more than the {reads.steps} recorded; remove it"
            raise InputError([Fault("scenario", message, place="workload.steps")])
        reads, seen = first_steps(reads, seen, steps)
    if reads.reads == 0:
        message = "selects no page in any step; select more"
        raise InputError([Fault("scenario", message, place="workload.selection")])
    return reads, seen


def page_selection(settings: OneSelection) -> Selection:
    """Make a selection of its settings. Raises InputError for those that do not go together."""
    written = {key: getattr(settings, key) for key in settings.model_fields_set}
    if written.get("sparsity") is not None:
        written["sparsity"] = (written["sparsity"],)
    try:
        ((_, selection),) = selections(SelectionSettings(**written))
    except InputError as error:
        raise InputError(
            replace(fault, place=f"workload.{fault.place}") for fault in error.faults
        ) from None
    return selection


def _reads(trace: AttentionTrace, selection: Selection, file: str) -> tuple[PageReads, Seen | None]:
    """One request's reads over all pages of its context."""
    try:
        selected = select_with_mass(trace, selection)
    except InputError as error:  # it names the trace by what it was recorded from
        raise InputError(replace(fault, file=file) for fault in error.faults) from None
    seen = None
    if len(selected.pages) > 0:
        seen = Seen(selected.offsets, selected.pages, selected.relative)
    reads, seen = with_whole_context(selected.reads, seen)
    born = trace.born(reads.position)  # also of pages that the recording leaves out
    reads = replace(
        reads,
        born=born,
        prompt_pages=int((born < 0).sum()),
        request=np.zeros_like(reads.request),
    )
    return reads, seen


def _check(trace: AttentionTrace, model: Model, file: str) -> int:
    """Return the page columns of a trace, or refuse one that is not of this model."""
    if (trace.request != trace.request[0]).any():
        count = len(np.unique(trace.request))
        message = f"holds {count} requests; a run takes traces of one request each"
        raise InputError([Fault(file, message)])
    newest = (trace.prompt_tokens + trace.steps - 1) // trace.page_tokens
    if int(trace.pages.max(initial=-1)) != newest:
        message = (
            f"does not hold page {newest}, the newest of its context at the last step; "
            "record each step's newest page"
        )
        raise InputError([Fault(file, message)])
    heads = np.unique(np.stack([trace.layer, trace.kv_head]), axis=1)
    together = bool((heads[1] == -1).all())
    kv_heads = 1 if together else model.kv_heads
    first = -1 if together else 0
    wanted = np.stack(
        [
            np.repeat(np.arange(model.layers), kv_heads),
            np.tile(np.arange(first, first + kv_heads), model.layers),
        ]
    )
    fits = heads.shape == wanted.shape and bool((heads == wanted).all())
    bytes_of = {kv: _page_bytes(model, kv, kv_heads, trace.page_tokens) for kv in _PRECISIONS}
    if not fits or trace.page_bytes not in bytes_of.values():
        raise InputError([Fault(file, _of_another_model(trace, model, heads, bytes_of["bf16"]))])
    return model.layers * kv_heads


def _page_bytes(model: Model, kv: Precision, kv_heads: int, page_tokens: int) -> int:
    return page_tokens * model.kv_bytes_per_token_layer(kv) // kv_heads


def _of_another_model(
    trace: AttentionTrace, model: Model, heads: np.ndarray[tuple[int, int], np.dtype[np.int32]],
    page_bytes: int,
) -> str:  # fmt: skip
    recorded = trace.facts.get("model")
    of = f" of {recorded}" if recorded else ""
    found = _shape(len(np.unique(heads[0])), len(np.unique(heads[1])), trace.page_bytes)
    wanted = _shape(model.layers, model.kv_heads, page_bytes)
    return f"is a recording{of} with {found}; {model.name} has {wanted}: name the recorded model"


def _shape(layers: int, kv_heads: int, page_bytes: int) -> str:
    parts = _count(layers, "layer"), _count(kv_heads, "KV head")
    return f"{', '.join(parts)} and pages of {page_bytes:,} B"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
