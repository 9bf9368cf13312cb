"""Attention stored page by page: the rows of `attention` in a quarter less room, for recordings.

What a page gets changes little from one step to the next. So a file of kind `attention` may, with
`vsim.rows` = `page`, hold a row for each page and run of steps that list it, ordered by these:

    request int64, layer int32, kv_head int32, page int32
    step int64: the first step of the run
    mass, score_*: one list each, the page's scores at that step and those after it

and one score at least, which says how many steps a run has. `read_table` makes the rows of
`attention` of it; nothing else sees such a file. A row that lists no page can't be told by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists
from vsim.traces.faults import Fault, InputError
from vsim.traces.schema import fits_scores, is_score

ROWS_KEY: Final = "rows"
BY_PAGE: Final = "page"
MOST_STEP: Final = 2**24 - 1

_HEAD: Final = {"request": pa.int64(), "layer": pa.int32(), "kv_head": pa.int32()}
_DOCS: Final = {
    "request": ("id", "the request that attends"),
    "layer": ("1", "layer, from 0"),
    "kv_head": ("1", "KV head, from 0; -1 stands for all"),
    "page": ("1", "a page read, by position in the context"),
    "step": ("1", "the first of the steps, one after the other, that list it"),
}
_SCORE_DOC: Final = ("1", "the page's score at `step` and at each step after it")
_Int64s = NDArray[np.int64]


def is_by_page(metadata: Mapping[str, str]) -> bool:
    """Say whether a table's metadata, keys without `vsim.`, names this way of storing it."""
    return metadata.get(ROWS_KEY) == BY_PAGE


def by_page(table: pa.Table) -> pa.Table:
    """Store the rows of `attention` page by page.

    Args:
        table: valid rows of `attention`, with one score or more and a page in every row.

    Raises:
        ValueError: there is no score, or a row without pages.
    """
    offsets, flat = lists(table.column("pages"))
    scores = _scores(table)
    counts = np.diff(offsets)
    if not scores or (counts == 0).any():
        raise ValueError("stored by page, attention needs a score, and a page in every row")
    # Rows are in order of their steps, so a sort of heads and pages that keeps equal ones in place
    # leaves steps rising within each; heads are sorted as rows, which are few.
    heads = [integers(table.column(name)) for name in _HEAD]
    of_row = np.lexsort((integers(table.column("step")), *heads[::-1]))
    begins = np.repeat(offsets[:-1][of_row] - _starts(counts[of_row]), counts[of_row])
    by_head = begins + np.arange(offsets[-1])
    row = np.repeat(of_row, counts[of_row])
    rank = np.repeat(_ranks(heads, of_row), counts[of_row])
    page = elements(flat)[by_head]
    within = np.argsort(rank * (int(page.max()) + 1) + page, kind="stable")
    order, row = by_head[within], row[within]
    keys = {name: head[row] for name, head in zip(_HEAD, heads, strict=True)}
    keys |= {"page": page[within].astype(np.int64), "step": integers(table.column("step"))[row]}
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = np.diff(keys["step"]) != 1
    for name in (*_HEAD, "page"):
        begins[1:] |= np.diff(keys[name]) != 0
    first = np.flatnonzero(begins)
    runs = pa.array(np.append(first, len(order)).astype(np.int32))
    types = {**_HEAD, "page": pa.int32(), "step": pa.int64()}
    list_array: Any = pa.ListArray
    columns: list[Any] = [pa.array(key[first], types[name]) for name, key in keys.items()]
    columns += [list_array.from_arrays(runs, pa.array(score[order])) for score in scores.values()]
    names = [*keys, *scores]
    fields = []
    for name, column in zip(names, columns, strict=True):
        unit, doc = _DOCS.get(name, _SCORE_DOC)
        fields.append(pa.field(name, column.type, False, {"unit": unit, "doc": doc}))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _starts(counts: _Int64s) -> _Int64s:
    return np.cumsum(counts) - counts


def _ranks(heads: Sequence[_Int64s], order: _Int64s) -> _Int64s:
    """Number the heads in an order of rows that has each head's together."""
    changes = np.zeros(len(order), dtype=np.int64)
    for head in heads:
        changes[1:] |= np.diff(head[order]) != 0
    return np.cumsum(changes)


def by_row(table: pa.Table, file: str) -> pa.Table:
    """Make the rows of `attention` of a table stored page by page, with its metadata.

    Raises:
        InputError: what was read is not as this file's docstring says; rows are those of the file.
    """
    faults = list(_form(table, file)) or list(_values(table, file))
    if faults:
        raise InputError(faults)
    scores = {name: lists(table.column(name))[1] for name in _score_names(table)}
    offsets, _ = lists(table.column(next(iter(scores))))
    keys = {name: integers(table.column(name)) for name in _DOCS}
    heads = _Heads(keys, offsets)
    pages = np.empty(offsets[-1], dtype=np.int32)
    laid = {name: np.empty(len(pages), elements(flat).dtype) for name, flat in scores.items()}
    for source, target, page in heads.places():
        pages[target] = page
        for name, flat in scores.items():
            laid[name][target] = elements(flat)[source]
    list_array: Any = pa.ListArray
    starts = pa.array(heads.offsets.astype(np.int32))
    columns: dict[str, Any] = {name: pa.array(column) for name, column in heads.columns.items()}
    for name, values in {"pages": pages, **laid}.items():
        columns[name] = list_array.from_arrays(starts, pa.array(values))
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"vsim.rows"}
    rows: pa.Table = pa.table(columns)
    return rows.replace_schema_metadata(metadata)


class _Heads:
    """Where each element of a stored file goes among the rows; one head after the other.

    A head is a request's, a layer's and a KV head's. Its elements lie together, page by page, and
    a stable sort by step makes its rows of them.

    Attributes:
        offsets: int64[rows + 1], of the rows' pages.
        columns: step, request, layer and kv_head of the rows.
    """

    def __init__(self, keys: Mapping[str, _Int64s], offsets: _Int64s) -> None:
        self._keys, self._runs = keys, offsets
        changes = np.ones(len(keys["step"]) + 1, dtype=np.bool_)
        changes[1:-1] = False
        for name in _HEAD:
            changes[1:-1] |= np.diff(keys[name]) != 0
        self._bounds = np.flatnonzero(changes)
        steps, counts, heads = [], [], []
        for head, _ in enumerate(self._bounds[:-1]):
            listed, found = _counted(self._steps(head))
            steps.append(listed)
            counts.append(found)
            heads.append(np.full(len(listed), head))
        step, count, head_of = (np.concatenate(each) for each in (steps, counts, heads))
        order = np.lexsort((head_of, step))
        self.offsets = np.concatenate([[0], np.cumsum(count[order])])
        first = self._bounds[:-1][head_of[order]]
        types = {name: kind.to_pandas_dtype() for name, kind in _HEAD.items()}
        self.columns = {
            "step": step[order],
            **{name: keys[name][first].astype(kind) for name, kind in types.items()},
        }
        starts = np.empty(len(order), dtype=np.int64)
        starts[order] = self.offsets[:-1]
        sizes = np.cumsum([len(each) for each in steps])
        self._starts, self._counts = np.split(starts, sizes[:-1]), counts

    def _lengths(self, head: int) -> tuple[slice, _Int64s]:
        """The stored rows of a head, and how many steps each has."""
        first, end = self._bounds[head : head + 2]
        return slice(first, end), np.diff(self._runs[first : end + 1])

    def _steps(self, head: int) -> _Int64s:
        """int64[elements of the head]: the step of each."""
        rows, lengths = self._lengths(head)
        begins = self._runs[rows] - self._runs[rows.start]
        return np.repeat(self._keys["step"][rows] - begins, lengths) + np.arange(lengths.sum())

    def places(self) -> Iterator[tuple[_Int64s, _Int64s, _Int64s]]:
        """For each head, its elements in the file, where among the rows each goes, its page."""
        for head, (starts, counts) in enumerate(zip(self._starts, self._counts, strict=True)):
            step = self._steps(head)
            step -= step.min()
            narrow = step.astype(np.uint16) if step.max() < 2**16 else step  # sorted by radix
            order = np.argsort(narrow, kind="stable")
            within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            rows, lengths = self._lengths(head)
            page = np.repeat(self._keys["page"][rows], lengths)[order]
            yield order + self._runs[rows.start], np.repeat(starts, counts) + within, page


def _counted(steps: _Int64s) -> tuple[_Int64s, _Int64s]:
    """Return the steps that are there, rising, and how often each is."""
    lowest = int(steps.min())
    if steps.max() - lowest > 4 * len(steps):  # far between
        return np.unique(steps, return_counts=True)
    found = np.bincount(steps - lowest)
    listed = np.flatnonzero(found)
    return listed + lowest, found[listed]


def _score_names(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name == "mass" or is_score(name)]


def _scores(table: pa.Table) -> dict[str, NDArray[Any]]:
    return {name: elements(lists(table.column(name))[1]) for name in _score_names(table)}


def _form(table: pa.Table, file: str) -> Iterator[Fault]:
    """Columns that are missing, unknown, or not of their type, or hold nulls."""
    types = {**_HEAD, "page": pa.int32(), "step": pa.int64()}
    for name in sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        yield Fault(file, "is there more than once; keep one", place=f"column {name}")
        return
    for name, kind in types.items():
        if name not in table.column_names:
            yield Fault(file, f"is missing; add it as {kind}", place=f"column {name}")
        elif table.schema.field(name).type != kind:
            found = table.schema.field(name).type
            yield Fault(file, f"is {found}; write {kind}", place=f"column {name}")
    scores = _score_names(table)
    if not scores:
        yield Fault(file, "is missing, which rows by page need; add a score", place="column mass")
    if not table.num_rows:
        yield Fault(file, "is empty; write at least one row of attention")
    for name in table.column_names:
        column, found = table.column(name), table.schema.field(name).type
        if name not in types and name not in scores:
            message = "is not known where vsim.rows is 'page'; leave it out"
            yield Fault(file, message, place=f"column {name}")
        elif name in scores and not fits_scores(found):
            message = f"is {found}; write lists of float16, float32 or uint8"
            yield Fault(file, message, place=f"column {name}")
        elif column.null_count or (name in scores and lists(column)[1].null_count):
            yield Fault(file, "holds a null; write a value", place=f"column {name}")


def _values(table: pa.Table, file: str) -> Iterator[Fault]:
    """Runs out of order, that overlap, or are of no steps; the first row of each kind."""
    keys = {name: integers(table.column(name)) for name in _DOCS}
    names = _score_names(table)
    lengths = np.diff(lists(table.column(names[0]))[0])
    for name in names:
        wrong = np.diff(lists(table.column(name))[0]) != lengths
        yield from _first(file, name, wrong, f"holds other than one score for each of {names[0]}")
    yield from _first(file, names[0], lengths == 0, "is empty; write one score or more")
    outside = (keys["step"] < 0) | (keys["step"] > MOST_STEP + 1 - lengths)
    yield from _first(file, "step", outside, f"lies outside of 0 to {MOST_STEP}")
    fresh = np.zeros(len(lengths), dtype=np.bool_)  # whether a row's page is another than before
    falls = np.zeros(len(lengths), dtype=np.bool_)
    for name in (*_HEAD, "page"):
        falls[1:] |= ~fresh[1:] & (keys[name][1:] < keys[name][:-1])
        fresh[1:] |= keys[name][1:] != keys[name][:-1]
    falls[1:] |= ~fresh[1:] & (keys["step"][1:] < keys["step"][:-1] + lengths[:-1])
    message = "is out of order or twice there; sort by request, layer, kv_head, page and step"
    yield from _first(file, "page", falls, message)
    if int(lengths.sum()) > 2**31 - 1:
        yield Fault(file, "holds more than 2^31 scores", place=f"column {names[0]}")


def _first(file: str, column: str, bad: NDArray[np.bool_], message: str) -> Iterator[Fault]:
    if bad.any():
        yield Fault(file, message, place=f"row {int(np.argmax(bad))}, column {column}")
