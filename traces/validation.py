"""Check an Arrow trace: columns, types, nulls, ranges and ordering, with row and column.

Rows are counted from 0, as Arrow counts them. Of each kind of fault in a column the first row is
named, with the number of further ones.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, flags, integers, lists, null_mask
from vsim.traces.faults import Fault, repeated, suggestion
from vsim.traces.id_rows import IdRows
from vsim.traces.limits import MOST_BLOCK_TOKENS, MOST_NS, MOST_TENANTS
from vsim.traces.prefix_chain import first_broken
from vsim.traces.request_limits import thought_too_long, tokens_message, too_many_tokens
from vsim.traces.schema import (
    BATCH_COLUMNS,
    MOST_TIME_CODE,
    SCHEMAS,
    Column,
    fits,
    fits_scores,
    is_score,
)

Mask = NDArray[np.bool_]


def faults_in(table: pa.Table, kind: str, file: str, metadata: Mapping[str, str]) -> list[Fault]:
    """Return every fault of a table that claims to be of `kind`.

    Args:
        table: the table as it was read.
        kind: a key of SCHEMAS.
        file: its name, as the faults are to give it.
        metadata: the file's metadata, keys without `vsim.`.
    """
    faults = list(_columns(table, kind, file))
    if not faults and table.num_rows == 0 and not _only_counters(kind, metadata):
        faults.append(Fault(file, f"is empty; write at least one row of {kind}"))
    if faults:
        return faults
    for column in SCHEMAS[kind]:
        if column.name in table.column_names:
            faults.extend(_values(table, column, file))
    if not faults:
        faults.extend(_RULES[kind](table, file, metadata))
    return faults


def _only_counters(kind: str, metadata: Mapping[str, str]) -> bool:
    """Whether a run of a server holds what was counted over all of its requests, and none alone."""
    return kind == "server_runs" and bool(metadata.get("counters"))


def _columns(table: pa.Table, kind: str, file: str) -> Iterator[Fault]:
    known = {column.name: column for column in SCHEMAS[kind]}
    names = table.column_names
    for name in repeated(names):
        yield Fault(file, "is there more than once; keep one", place=f"column {name}")
    for name, column in known.items():
        if name not in names:
            if not column.optional:
                yield Fault(file, f"is missing; add it as {column.type}", place=f"column {name}")
            continue
        found = table.schema.field(names.index(name)).type
        good = fits_scores(found) if name == "mass" else fits(found, column.type)
        if not good:
            yield Fault(file, f"is {found}; write {column.type}", place=f"column {name}")
    for name in names:
        if name in known:
            continue
        if kind == "attention" and is_score(name):
            found = table.schema.field(names.index(name)).type
            if not fits_scores(found):
                message = f"is {found}; write lists of float16, float32 or uint8"
                yield Fault(file, message, place=f"column {name}")
            continue
        yield Fault(file, f"is unknown{suggestion(name, known)}", place=f"column {name}")


def _rows(file: str, column: str, bad: Mask, message: Callable[[int], str]) -> Iterator[Fault]:
    """Name the first bad row of a column, and how many more there are."""
    count = int(np.count_nonzero(bad))
    if count:
        row = int(np.argmax(bad))
        more = f" (and {count - 1} more rows)" if count > 1 else ""
        yield Fault(file, message(row) + more, place=f"row {row}, column {column}")


def _row_of(offsets: NDArray[np.int64], bad: Mask) -> Mask:
    """Mark the rows that hold a bad element."""
    rows = np.zeros(len(offsets) - 1, dtype=np.bool_)
    elements = np.nonzero(bad)[0]
    rows[np.searchsorted(offsets, elements, side="right") - 1] = True
    return rows


def _values(table: pa.Table, column: Column, file: str) -> Iterator[Fault]:
    values = table.column(column.name)
    if not column.nullable and values.null_count:
        bad = null_mask(values)
        yield from _rows(file, column.name, bad, lambda row: "is null; write a value")
        return
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        yield from _elements(table, column, file)
    elif column.words:
        words = values.cast(pa.string())
        bad = ~flags(pc.is_in(words, pa.array(column.words)))
        yield from _rows(
            file,
            column.name,
            bad,
            lambda row: (
                f"{words[row].as_py()!r} is unknown{suggestion(words[row].as_py(), column.words)}"
            ),
        )
    elif column.minimum is not None:
        numbers = integers(table.column(column.name))
        low = (numbers < column.minimum) & ~null_mask(values)
        yield from _rows(
            file,
            column.name,
            low,
            lambda row: f"is {numbers[row]}; write {column.minimum} or more",
        )
        if column.maximum is not None:
            yield from _rows(
                file,
                column.name,
                numbers > column.maximum,
                lambda row: f"is {numbers[row]}; write at most {column.maximum}",
            )


def _elements(table: pa.Table, column: Column, file: str) -> Iterator[Fault]:
    offsets, flat = lists(table.column(column.name))
    if flat.null_count:
        bad = _row_of(offsets, null_mask(flat))
        yield from _rows(file, column.name, bad, lambda row: "holds a null; write a value")
    elif column.minimum is not None:
        numbers = elements(flat)
        low = numbers < column.minimum
        if low.any():
            yield from _rows(
                file,
                column.name,
                _row_of(offsets, low),
                lambda row: (
                    f"holds {numbers[offsets[row] : offsets[row + 1]].min()}; "
                    f"write {column.minimum} or more"
                ),
            )
        if column.maximum is not None and (high := numbers > column.maximum).any():
            yield from _rows(
                file,
                column.name,
                _row_of(offsets, high),
                lambda row: (
                    f"holds {numbers[offsets[row] : offsets[row + 1]].max()}; "
                    f"write at most {column.maximum}"
                ),
            )


def _falls(numbers: NDArray[np.int64], *, strictly: bool) -> Mask:
    """Mark the rows whose value is below the row's before; with `strictly`, also equal to it."""
    bad = np.zeros(len(numbers), dtype=np.bool_)
    steps = np.diff(numbers)
    bad[1:] = steps <= 0 if strictly else steps < 0
    return bad


def _order(table: pa.Table, file: str, name: str) -> Iterator[Fault]:
    numbers = integers(table.column(name))
    yield from _rows(
        file,
        name,
        _falls(numbers, strictly=False),
        lambda row: f"is {numbers[row]} after {numbers[row - 1]}; sort the rows by {name}",
    )


def _requests(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    yield from _order(table, file, "arrival_ns")
    ids = integers(table.column("id"))
    rows = IdRows(ids)
    yield from _rows(
        file,
        "id",
        rows.repeated(),
        lambda row: f"is {ids[row]}, as in a row before; write unique ids",
    )
    parents = integers(table.column("parent"))
    places = rows.of(parents)
    missing = (parents >= 0) & (places < 0)
    yield from _rows(
        file, "parent", missing, lambda row: f"is {parents[row]}, which is no row's id"
    )
    late = places >= np.arange(len(ids))
    yield from _rows(
        file,
        "parent",
        late,
        lambda row: f"is {parents[row]}, in row {places[row]}; a parent stands in an earlier row",
    )
    places[late] = -1
    yield from _within_limits(table, file, places)
    yield from _prefixes(table, file, metadata)


def _within_limits(table: pa.Table, file: str, parent: NDArray[np.int64]) -> Iterator[Fault]:
    """Check what single columns cannot show: sums over a row, and along a conversation."""
    prompt, output = (integers(table.column(name)) for name in ("prompt_tokens", "output_tokens"))
    yield from _rows(
        file,
        "prompt_tokens",
        too_many_tokens(prompt, output),
        lambda row: tokens_message(int(prompt[row]), int(output[row])),
    )
    think = integers(table.column("think_ns"))
    yield from _rows(
        file,
        "think_ns",
        thought_too_long(parent, think),
        lambda row: "with the turns before it comes to more than 100 years of thinking",
    )
    if _words(table.column("tenant")) > MOST_TENANTS:
        yield Fault(file, f"holds more than {MOST_TENANTS:,} tenants", place="column tenant")


def _words(column: Any) -> int:
    """Count the words of a column, those of a dictionary whether or not they are in use."""
    if not pa.types.is_dictionary(column.type):
        return int(pc.count_distinct(column).as_py())
    return sum(len(chunk.dictionary) for chunk in column.unify_dictionaries().chunks[:1])


def _prefixes(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    offsets, flat = lists(table.column("prefix_blocks"))
    written = metadata.get("block_tokens", "0")
    place = "vsim.block_tokens"
    if not (written.isascii() and written.isdigit() and len(written) < 9):
        shown = written if len(written) <= 40 else written[:37] + "..."
        yield Fault(file, f"{shown!r} is no whole number of tokens; write 512", place=place)
        return
    block_tokens = int(written)
    if block_tokens > MOST_BLOCK_TOKENS:
        message = f"is {block_tokens}; write at most {MOST_BLOCK_TOKENS}"
        yield Fault(file, message, place=place)
        return
    if block_tokens == 0:
        if len(flat):
            yield Fault(file, "is 0 or missing, but there are prefix_blocks", place=place)
        return
    tokens = integers(table.column("prompt_tokens"))
    most = -(-tokens // block_tokens)
    lengths = np.diff(offsets)
    yield from _rows(
        file,
        "prefix_blocks",
        lengths > most,
        lambda row: (
            f"holds {lengths[row]} ids; {tokens[row]} tokens fill at most {most[row]} "
            f"blocks of {block_tokens}"
        ),
    )
    broken = first_broken(offsets, elements(flat))
    if broken is not None:
        row, identity = broken
        message = (
            f"holds id {identity} after other blocks than in an earlier row; "
            "an id stands for its whole prefix: write ids of chained hashes"
        )
        yield Fault(file, message, place=f"row {row}, column prefix_blocks")


def _attention(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    keys = [integers(table.column(name)) for name in ("step", "request", "layer", "kv_head")]
    bad = np.zeros(table.num_rows, dtype=np.bool_)
    equal = np.ones(max(table.num_rows - 1, 0), dtype=np.bool_)
    for key in keys:
        bad[1:] |= equal & (key[1:] < key[:-1])
        equal &= key[1:] == key[:-1]
    bad[1:] |= equal
    yield from _rows(
        file,
        "step",
        bad,
        lambda row: (
            "is out of order or twice there; sort the rows by step, request, layer, "
            "kv_head and keep each once"
        ),
    )
    offsets, _ = lists(table.column("pages"))
    scores = [n for n in table.column_names if n == "mass" or is_score(n)]
    for name in scores:
        if table.column(name).null_count:
            nulls = null_mask(table.column(name))
            yield from _rows(file, name, nulls, lambda row: "is null; write one score a page")
            continue
        own, flat = lists(table.column(name))
        yield from _rows(
            file,
            name,
            np.diff(own) != np.diff(offsets),
            lambda row, own=own: (
                f"holds {own[row + 1] - own[row]} scores for "  # type: ignore[misc] # the default binds the loop's value
                f"{offsets[row + 1] - offsets[row]} pages; write one a page"
            ),
        )
        if pa.types.is_floating(flat.type):
            numbers = elements(flat)
            wrong = ~np.isfinite(numbers)
            if name == "mass":
                wrong |= numbers < 0
            yield from _rows(
                file,
                name,
                _row_of(own, wrong),
                lambda row: "holds NaN, an infinity or a negative mass; write finite scores",
            )
        elif name == "mass" and "mass_scale" not in metadata:
            yield Fault(
                file, "is missing, but mass is uint8; say its scale", place="vsim.mass_scale"
            )


def _allocations(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    yield from _order(table, file, "time_ns")
    words = table.column("op").cast(pa.string())
    needs = flags(pc.is_in(words, pa.array(["realloc", "memcpy"])))
    lacks = needs & null_mask(table.column("other_handle"))
    yield from _rows(
        file, "other_handle", lacks, lambda row: f"is null; a {words[row].as_py()} has one"
    )


def _operations(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    ids = integers(table.column("id"))
    yield from _rows(
        file,
        "id",
        _falls(ids, strictly=True),
        lambda row: f"is {ids[row]} after {ids[row - 1]}; ids rise from row to row",
    )
    times = {name: integers(table.column(name)) for name in ("submit_ns", "start_ns", "end_ns")}
    for before, after in (("submit_ns", "start_ns"), ("start_ns", "end_ns")):
        first, second = times[before], times[after]
        yield from _rows(
            file,
            after,
            second < first,
            lambda row, before=before, first=first, second=second: (  # type: ignore[misc] # the defaults bind the loop's values
                f"is {second[row]}, before {before} {first[row]}"
            ),
        )
    offsets, flat = lists(table.column("depends_on"))
    needed = elements(flat)
    owners = np.repeat(ids, np.diff(offsets))
    places = np.minimum(np.searchsorted(ids, needed), len(ids) - 1)
    yield from _rows(
        file,
        "depends_on",
        _row_of(offsets, (needed >= owners) | (ids[places] != needed)),
        lambda row: (
            f"holds {needed[offsets[row] : offsets[row + 1]].tolist()}; "
            "an operation waits for earlier ones of the file"
        ),
    )
    yield from _batches(table, file)


def _batches(table: pa.Table, file: str) -> Iterator[Fault]:
    """The batches of steps: all of their columns or none, and lists that go together."""
    lacking = [name for name in BATCH_COLUMNS if name not in table.column_names]
    if lacking:
        if len(lacking) < len(BATCH_COLUMNS):
            message = f"is missing; write all of {', '.join(BATCH_COLUMNS)}, or none"
            yield Fault(file, message, place=f"column {lacking[0]}")
        return
    lengths = {name: np.diff(lists(table.column(name))[0]) for name in BATCH_COLUMNS[:4]}
    for name in BATCH_COLUMNS[1:4]:
        found, wanted = lengths[name], lengths["rows"]
        yield from _rows(
            file,
            name,
            found != wanted,
            lambda row, found=found, wanted=wanted: (  # type: ignore[misc] # the defaults bind the loop's values
                f"has {found[row]} numbers; write one for each of {wanted[row]} rows"
            ),
        )
    offsets, flat = lists(table.column("row_pages"))
    pages = np.diff(lists(table.column("pages"))[0])
    total = np.concatenate([[0], np.cumsum(elements(flat))])[offsets]
    counted = np.diff(offsets) > 0
    wrong = counted & (np.diff(total) != pages)
    yield from _rows(
        file,
        "row_pages",
        wrong,
        lambda row: f"adds up to {total[row + 1] - total[row]}, and there are {pages[row]} pages",
    )


def _server_runs(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    repeats, ids = (integers(table.column(name)) for name in ("repeat", "id"))
    for repeat in np.unique(repeats):
        rows = np.flatnonzero(repeats == repeat)
        again = np.zeros(len(ids), dtype=np.bool_)
        again[rows] = IdRows(ids[rows]).repeated()
        yield from _rows(
            file,
            "id",
            again,
            lambda row: f"is {ids[row]}, as in a row of the same repeat; write unique ids",
        )
    for before, after in itertools.pairwise(
        ("arrival_ns", "scheduled_ns", "first_token_ns", "last_token_ns")
    ):
        first, second = integers(table.column(before)), integers(table.column(after))
        if before == "scheduled_ns":  # where it is not known, the arrival is what came before
            first = np.maximum(first, integers(table.column("arrival_ns")))
        yield from _rows(
            file,
            after,
            (second >= 0) & (second < first),
            lambda row, before=before, first=first, second=second: (  # type: ignore[misc] # the defaults bind the loop's values
                f"is {second[row]}, before {before} {first[row]}"
            ),
        )


def _server_steps(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    yield from _order(table, file, "end_ns")


def _kernel_tables(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    points = {}
    for name in ("first", "second"):
        offsets, flat = lists(table.column(name))
        values = elements(flat)
        counts = np.diff(offsets)
        empty = counts == 0
        yield from _rows(file, name, empty, lambda row: "is empty; write at least one point")
        falls = np.zeros(len(values), dtype=np.bool_)
        falls[1:] = values[1:] <= values[:-1]
        falls[offsets[:-1][~empty]] = False
        bad = _row_of(offsets, falls)
        yield from _rows(file, name, bad, lambda row: "does not rise; write rising points")
        points[name] = counts
    offsets, flat = lists(table.column("time_code"))
    counts, wanted = np.diff(offsets), points["first"] * points["second"]
    yield from _rows(
        file,
        "time_code",
        counts != wanted,
        lambda row: f"holds {counts[row]} codes for {wanted[row]} pairs of points",
    )
    codes = elements(flat)
    yield from _rows(
        file,
        "time_code",
        _row_of(offsets, codes > MOST_TIME_CODE),
        lambda row: f"holds a code above {MOST_TIME_CODE}, which is more than a day",
    )
    unmeasured = np.bincount(
        np.searchsorted(offsets, np.nonzero(codes >= 0)[0], side="right") - 1,
        minlength=table.num_rows,
    )
    yield from _rows(
        file, "time_code", unmeasured == 0, lambda row: "holds no measured time; leave it out"
    )
    keys = [
        (*words, *shape)
        for *words, shape in zip(
            *(table.column(n).to_pylist() for n in ("kernel", "precision", "variant", "shape")),
            strict=True,
        )
    ]
    seen: set[tuple[object, ...]] = set()
    again = np.zeros(len(keys), dtype=np.bool_)
    for row, key in enumerate(keys):
        again[row] = key in seen
        seen.add(key)
    yield from _rows(file, "shape", again, lambda row: "has a row before; keep one of the two")


def _gpu_cases(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    names = [str(name) for name in table.column("name").to_pylist()]
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    again = np.array([first[name] != row for row, name in enumerate(names)])
    yield from _rows(
        file,
        "name",
        again,
        lambda row: f"is {names[row][:40]!r}, as in row {first[names[row]]}; write unique names",
    )
    offsets, flat = lists(table.column("repeats_ns"))
    empty = np.diff(offsets) == 0
    yield from _rows(file, "repeats_ns", empty, lambda row: "is empty; write one repeat or more")
    yield from _rows(
        file,
        "repeats_ns",
        _row_of(offsets, elements(flat) > MOST_NS),
        lambda row: f"holds more than {MOST_NS} ns, which is 100 years",
    )


def _gpu_samples(table: pa.Table, file: str, metadata: Mapping[str, str]) -> Iterator[Fault]:
    offsets, flat = lists(table.column("samples"))
    values = elements(flat)
    empty = np.diff(offsets) == 0
    yield from _rows(file, "samples", empty, lambda row: "is empty; write at least one sample")
    odd = _row_of(offsets, ~(np.isfinite(values) & (values >= 0)))
    yield from _rows(file, "samples", odd, lambda row: "holds what is no number of 0 or more")
    sizes = [str(text) for text in table.column("sizes").to_pylist()]
    wrong = np.array([not _are_sizes(text) for text in sizes], dtype=np.bool_)
    yield from _rows(
        file, "sizes", wrong,
        lambda row: f"holds {sizes[row]!r:.60}; write whole numbers, as {{\"chunks\": 8}}",
    )  # fmt: skip
    words = [table.column(name).to_pylist() for name in ("probe", "variant", "unit")]
    keys = list(zip(*words, sizes, strict=True))
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    again = np.array([first[key] != row for row, key in enumerate(keys)], dtype=np.bool_)
    yield from _rows(file, "sizes", again, lambda row: "is a point before; keep one of the two")


def _are_sizes(text: str) -> bool:
    """Whether a text is a JSON object of whole numbers of 0 or more, keys sorted."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, dict)
        and list(found) == sorted(found)
        and all(type(value) is int and 0 <= value <= 2**62 for value in found.values())
    )


_Rule = Callable[[pa.Table, str, Mapping[str, str]], Iterator[Fault]]
_RULES: Final[dict[str, _Rule]] = {
    "requests": _requests,
    "attention": _attention,
    "allocations": _allocations,
    "operations": _operations,
    "server_runs": _server_runs,
    "server_steps": _server_steps,
    "kernel_tables": _kernel_tables,
    "gpu_cases": _gpu_cases,
    "gpu_samples": _gpu_samples,
}
