"""`KernelTables`: how long a GPU's kernels took as a serving stack calls them, from an Arrow file.

A curve is one kernel in one precision at one shape: times over one axis or two. What shapes and
axes mean is said by the kernel's file in `vsim.sim.timing`:

| kernel | shape | first axis | second axis |
|---|---|---|---|
| products | n, k | m | – |
| decode_attention | heads, KV heads, head's size, window (0: all) | requests | context tokens |
| prefill_attention | heads, KV heads, head's size, window (0: all) | prompts | tokens of each |
| decode_latents | heads, numbers of a latent, of these a value's | requests | context tokens |
| prefill_latents | heads, a key's size, a value's size | prompts | tokens of each |
| latent_products | heads, inputs, outputs | tokens | – |
| experts | hidden, intermediate, experts a token, experts, tensor, expert parallel | tokens | – |
| all_reduce and the like | GPUs | bytes | – |
| expert_dispatch, expert_combine | GPUs, hidden, experts a token, experts | tokens of one GPU | – |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import coded, elements, lists
from vsim.traces.arrow_io import metadata_of, read_table
from vsim.traces.faults import refuse
from vsim.traces.schema import TIME_CODES_PER_OCTAVE, schema_of

KIND = "kernel_tables"

_SHAPE_LENGTHS = {
    "products": 2,
    "decode_attention": 4,
    "prefill_attention": 4,
    "experts": 6,
    "expert_dispatch": 4,
    "expert_combine": 4,
    "decode_latents": 3,
    "prefill_latents": 3,
    "latent_products": 3,
}  # the rest have the number of GPUs alone

_WINDOWED = ("decode_attention", "prefill_attention")  # whose last number may be 0: no window
_MOST = 2**40  # of any size; keeps products of them far from where arithmetic ends
_MOST_CELLS = 20_000_000  # of one kernel's curves on common axes

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
Key = tuple[str, str, str]
"""Kernel, precision and variant."""
KEY_COLUMNS = ("kernel", "precision", "variant")


@dataclass(frozen=True, slots=True)
class Curves:
    """Times of one kernel in one precision and variant, for S shapes over axes of A and B points.

    Args:
        kernel: what was timed.
        precision: of the weights; of attention, of the KV.
        variant: which of several ways; see the kernel's file.
        shapes: int64[S, d].
        first: float64[A], rising.
        second: float64[B], rising; [0] where there is one axis.
        log_ns: float64[S, A, B], logarithm of nanoseconds; NaN where nothing was measured.
        stand_in: int64[S, A·B], the cell, counted through A and B, whose efficiency is taken for
            each cell: itself, or the nearest measured one, of the same `second` where there is one.
        floor_ns: the least time measured, of all shapes.
    """

    kernel: str
    precision: str
    variant: str
    shapes: _Ints
    first: _Floats
    second: _Floats
    log_ns: _Floats
    stand_in: _Ints
    floor_ns: float

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.kernel, self.precision, self.variant

    @property
    def rows(self) -> int:
        """Times that were measured."""
        return int(np.count_nonzero(~np.isnan(self.log_ns)))

    def of_shapes(self, chosen: NDArray[np.bool_] | _Ints) -> "Curves":
        """The same of some shapes only, the floor included."""
        return curves(*self.key, self.shapes[chosen], self.first, self.second, self.log_ns[chosen])

    def at_points(self, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "Curves":
        """The same at some points of the axes only; shapes that have none of these are dropped."""
        log_ns = self.log_ns[:, first][:, :, second]
        some = ~np.isnan(log_ns).all(axis=(1, 2))
        return curves(
            *self.key, self.shapes[some], self.first[first], self.second[second], log_ns[some]
        )


def curves(
    kernel: str,
    precision: str,
    variant: str,
    shapes: _Ints,
    first: _Floats,
    second: _Floats,
    log_ns: _Floats,
) -> Curves:
    """Make curves of which every shape has at least one time; see `Curves`."""
    made = Curves(
        kernel,
        precision,
        variant,
        np.array(shapes, dtype=np.int64),
        np.array(first, dtype=np.float64),
        np.array(second, dtype=np.float64),
        np.array(log_ns, dtype=np.float64),
        _stand_ins(~np.isnan(log_ns)),
        float(np.exp(np.nanmin(log_ns))),
    )
    for array in (made.shapes, made.first, made.second, made.log_ns, made.stand_in):
        array.setflags(write=False)
    return made


@dataclass(frozen=True, slots=True)
class KernelTables:
    """Curves of one GPU under one serving stack, by kernel, precision and variant.

    Args:
        file: the file it is from, as faults name it.
        metadata: where it is from: `stack`, `device`, `versions`, `source`, `licence`,
            `collected` and `left_out`.
        curves: by key.
    """

    file: str
    metadata: Mapping[str, str]
    curves: Mapping[Key, Curves]

    @property
    def stack(self) -> str:
        """The serving stack: vllm, sglang, trtllm, or vsim for this project's own kernels."""
        return self.metadata.get("stack", "unknown")

    def find(self, kernel: str, precisions: Sequence[str], variants: Sequence[str]) -> Curves:
        """Find the first curves that there are: of the first precision in any variant, and so on.

        Raises:
            KeyError: there are none of this kernel in any of these precisions and variants.
        """
        for precision in precisions:
            for variant in variants:
                found = self.curves.get((kernel, precision, variant))
                if found is not None:
                    return found
        raise KeyError(kernel)

    def has(self, kernel: str) -> bool:
        """Whether there are curves of this kernel in any precision and variant."""
        return any(key[0] == kernel for key in self.curves)

    def with_curves(self, changed: Curves) -> "KernelTables":
        """The same with some curves in place of those of the same key."""
        return replace(self, curves=MappingProxyType({**self.curves, changed.key: changed}))


def kernel_tables(file: str, metadata: Mapping[str, str], found: Sequence[Curves]) -> KernelTables:
    """Make tables of curves; see `KernelTables`."""
    by_key = {each.key: each for each in found}
    return KernelTables(file, MappingProxyType(dict(metadata)), MappingProxyType(by_key))


def read_kernel_tables(path: str | Path) -> KernelTables:
    """Read tables from an Arrow file of kind `kernel_tables`.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds what no table can.
    """
    file = str(path)
    table = read_table(file, KIND)
    keys: dict[Key, list[int]] = {}
    for row, key in enumerate(zip(*(_words(table, n) for n in KEY_COLUMNS), strict=True)):
        keys.setdefault(key, []).append(row)
    columns = {n: _Rows.of(table, n) for n in ("shape", "first", "second", "time_code")}
    found = []
    for key, rows in keys.items():
        chosen = {name: column.of_rows(rows) for name, column in columns.items()}
        _check_shapes(key, rows, chosen["shape"], file)
        cells = len(rows)
        for name in ("first", "second"):
            cells *= len(np.unique(chosen[name].values))
        if cells > _MOST_CELLS:
            message = f"has {cells:,} cells of {' '.join(key).strip()}; write the same axes"
            refuse(file, message, place="column first")
        found.append(_gathered(key, chosen))
    return kernel_tables(file, metadata_of(table), found)


def arrow_table(tables: KernelTables) -> pa.Table:
    """The same as an Arrow table, times rounded to codes; rows in order of key and shape."""
    rows: dict[str, list[Any]] = {name: [] for name in schema_of(KIND).names}
    for key in sorted(tables.curves):
        each = tables.curves[key]
        order = np.lexsort(each.shapes.T[::-1])
        for shape, log_ns in zip(each.shapes[order], each.log_ns[order], strict=True):
            measured = ~np.isnan(log_ns)
            first, second = measured.any(axis=1), measured.any(axis=0)
            kept = log_ns[first][:, second]
            code = np.rint(kept / np.log(2) * TIME_CODES_PER_OCTAVE)
            for name, value in zip(KEY_COLUMNS, key, strict=True):
                rows[name].append(value)
            rows["shape"].append(shape.tolist())
            rows["first"].append(each.first[first].astype(np.int64).tolist())
            rows["second"].append(each.second[second].astype(np.int64).tolist())
            rows["time_code"].append(
                np.where(np.isnan(code), -1, code).astype(np.int16).ravel().tolist()
            )
    return pa.table(rows, schema=schema_of(KIND))


def _words(table: pa.Table, name: str) -> list[str]:
    codes, words = coded(table.column(name))
    return [str(words[code]) for code in codes.tolist()]


@dataclass(frozen=True, slots=True)
class _Rows:
    """A column of lists.

    Args:
        counts: int64[n], numbers in each row.
        values: int64[sum of these], row after row.
    """

    counts: _Ints
    values: _Ints

    @classmethod
    def of(cls, table: pa.Table, name: str) -> "_Rows":
        """A table's column."""
        offsets, flat = lists(table.column(name))
        return cls(np.diff(offsets), elements(flat).astype(np.int64))

    @property
    def first(self) -> _Ints:
        """int64[n], where each row begins."""
        return np.cumsum(self.counts) - self.counts

    @property
    def row(self) -> _Ints:
        """Which row each number is in."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def within(self) -> _Ints:
        """Which number of its row each is."""
        return np.arange(len(self.values)) - np.repeat(self.first, self.counts)

    def of_rows(self, rows: Sequence[int]) -> "_Rows":
        """Some rows alone."""
        counts = self.counts[rows]
        own = _Rows(counts, np.zeros(counts.sum(), np.int64))
        return _Rows(counts, self.values[np.repeat(self.first[rows], counts) + own.within])


def _check_shapes(key: Key, rows: Sequence[int], shapes: _Rows, file: str) -> None:
    """Refuse the first of a kernel's rows whose shape it can't have."""
    wanted = _SHAPE_LENGTHS.get(key[0], 1)
    sizes = shapes.within < (3 if key[0] in _WINDOWED else wanted)
    wrong = (sizes & (shapes.values <= 0)) | (shapes.values > _MOST)
    bad = (np.bincount(shapes.row[wrong], minlength=len(rows)) > 0) | (shapes.counts != wanted)
    if bad.any():
        at = int(np.argmax(bad))
        numbers = shapes.values[shapes.row == at].tolist()[:9]
        message = f"holds {numbers}; write {wanted} numbers above zero"
        refuse(file, message, place=f"row {rows[at]}, column shape")


def _gathered(key: Key, columns: Mapping[str, _Rows]) -> Curves:
    """Put rows, whose shapes are of one length, on common axes."""
    shape, one, other, code = (columns[n] for n in ("shape", "first", "second", "time_code"))
    first, at_first = np.unique(one.values, return_inverse=True)
    second, at_second = np.unique(other.values, return_inverse=True)
    log_ns = np.full((len(shape.counts), len(first), len(second)), np.nan)
    row, width = code.row, other.counts[code.row]
    cells = (
        row,
        at_first[one.first[row] + code.within // width],
        at_second[other.first[row] + code.within % width],
    )
    times = code.values.astype(np.float64)
    log_ns[cells] = np.where(times < 0, np.nan, times / TIME_CODES_PER_OCTAVE * np.log(2))
    shapes = shape.values.reshape(len(shape.counts), -1)
    return curves(*key, shapes, first.astype(float), second.astype(float), log_ns)


def _stand_ins(measured: NDArray[np.bool_]) -> _Ints:
    """Of each cell, the one that stands in: from below along `first`, then above, then sideways."""
    shapes, a, b = measured.shape
    cells = np.where(measured, np.arange(a * b).reshape(a, b), -1)
    for along in (1, 2):
        moved = np.moveaxis(cells, along, 0)
        steps = len(moved)
        for order in (range(1, steps), range(steps - 2, -1, -1)):
            for at in order:
                before = moved[at - 1 if order.step > 0 else at + 1]
                moved[at] = np.where(moved[at] < 0, before, moved[at])
    return cells.reshape(shapes, a * b)
