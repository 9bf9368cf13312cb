"""Kernel times of one GPU in `aiconfigurator-core`: Parquet files by kernel, stack and version.

Units: `latency` is in milliseconds, but for `moe_a2a`, where it is in microseconds; `message_size`
of collectives counts numbers and not bytes (268,435,456 of `half` take as long as 536,870,912 of
`int8`). Each precision is taken from the newest version of the stack whose rows can be trusted:

- *launched by the host*: products whose least time is over ten times that of bf16's; they show
  what the launch took, and a server launches from CUDA graphs. So are vllm's fp8_block products: at
  least 55 us on an H200, where the same library takes 3.3 us under sglang. The least time of all
  stacks stands in, at the shapes that the others measured: a launch, or a kernel chosen badly, only
  adds to a time.
- *not tuned*: experts in fewer bits that take over 1.5 times as long as bf16's in the median over
  the shapes and tokens that both have; a server tunes its kernels as it starts. So are vllm 0.24's
  fp8 experts on Hopper, whose times fall to a third as tokens rise.

Times that a cache made are raised (`from_cache`). Experts without a gate (Nemotron's) are left out:
a bound of three matrices is not theirs. All of it is counted in the table's metadata.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vsim.sim.calibration.from_cache import raised
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.kernel_tables import Curves, curves
from vsim.sim.timing.roofline import Peaks
from vsim.traces.faults import refuse

STACKS: tuple[Stack, ...] = ("vllm", "sglang", "trtllm")

Columns = Mapping[str, NDArray[Any]]
_PRODUCTS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "sq": "int8",
             "int4_wo": "int4"}  # fmt: skip
_EXPERTS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "int4_wo": "int4",
            "w4a16_mxfp4": "mxfp4"}  # fmt: skip
KV_WORDS = {"bfloat16": "bf16", "fp8": "fp8", "int8": "int8"}
_DISTRIBUTIONS = {"balanced": "balanced", "power_law_1.2": "power_law_1.2"}
_HOST_LAUNCH_RATIO = 10
UNTUNED_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one GPU under one stack.

    Args:
        stack: the serving stack.
        device: the GPU's name, as its driver says it.
        curves: all of them, at all points.
        versions: of the stack, by kernel, as written in the metadata.
        collected: the newest date that the files name; None where they name none.
        left_out: what was not taken, and why.
        files: the files read, relative to the package.
    """

    stack: Stack
    device: str
    curves: tuple[Curves, ...]
    versions: str
    collected: str | None
    left_out: tuple[str, ...]
    files: tuple[str, ...]


class MeasuredFiles:
    """Reads one GPU's files under one stack; stateful: it notes what it read and left out."""

    def __init__(self, data: Path, stack: Stack) -> None:
        self.stack = stack
        self._data = data
        self._versions: dict[str, set[str]] = {}
        self._left_out: list[str] = []
        self._files: list[Path] = []
        self._device = "?"
        self._collected: set[str] = set()

    def measured(self, found: Sequence[Curves]) -> Measured:
        """Put together what was read."""
        versions = ", ".join(
            f"{kernel} {' and '.join(sorted(each))}" for kernel, each in self._versions.items()
        )
        files = sorted({path.relative_to(self._data.parents[1]).as_posix() for path in self._files})
        return Measured(
            self.stack, self._device, tuple(found), versions,
            max(self._collected, default=None), tuple(self._left_out), tuple(files),
        )  # fmt: skip

    def from_memory(self, each: Curves, peaks: Peaks) -> Curves:
        """Raise what a cache made too fast."""
        changed, count = raised(each, peaks)
        if count:
            self._left_out.append(
                f"{' '.join(filter(None, each.key))}: {count} of {each.rows} times that a cache"
                " made faster than the memory, raised to its best"
            )
        return changed

    def products(self) -> Iterator[Curves]:
        """Products, by precision."""
        least = np.inf
        taken: set[str] = set()
        for path in self.versions_of("gemm", self.stack, "gemm_perf"):
            columns = read_columns(path)
            for name, precision in _PRODUCTS.items():
                rows = columns["gemm_dtype"] == name
                if precision in taken or not rows.any():
                    continue
                taken.add(precision)
                found = self._products(path, columns, rows, precision)
                if precision == "bf16":
                    least = found.floor_ns
                if found.floor_ns > _HOST_LAUNCH_RATIO * least:
                    self.leave_out(
                        f"products in {precision} of {self.stack} {path.parent.name} that the host"
                        f" launched, in {found.floor_ns / 1e3:.0f} us at least",
                        rows,
                    )
                    others = list(self._of_other_stacks(name, precision))
                    if not others:
                        continue
                    found = _least_of(found, others)
                yield found

    def _of_other_stacks(self, name: str, precision: str) -> Iterator[Curves]:
        for stack in STACKS:
            for path in self.versions_of("gemm", stack, "gemm_perf")[:1]:
                columns = read_columns(path)
                rows = columns["gemm_dtype"] == name
                if stack != self.stack and rows.any():
                    yield self._products(path, columns, rows, precision)

    def _products(
        self, path: Path, columns: Columns, rows: NDArray[np.bool_], precision: str
    ) -> Curves:
        part = taken_rows(columns, rows)
        return self.gathered("products", precision, "", part, ("n", "k"), "m", None, path)

    def attention(self) -> Iterator[Curves]:
        """Attention of decoding requests and of prompts, by precision and window."""
        for kernel, file, second in (
            ("decode_attention", "generation_attention_perf", "context"),
            ("prefill_attention", "context_attention_perf", "isl"),
        ):
            taken: set[tuple[str, str]] = set()
            for path in self.versions_of("attention", self.stack, file):
                columns = dict(read_columns(path))
                columns["context"] = columns["step"] + columns["isl"]
                heads, kv_heads = columns["num_heads"], columns["num_key_value_heads"]
                columns["kv_heads"] = np.where(kv_heads == 0, heads, kv_heads)
                columns.setdefault("window_size", np.zeros(len(heads), dtype=np.int64))
                for name, precision in KV_WORDS.items():
                    of_kv = columns["kv_cache_dtype"] == name
                    if of_kv.any():  # queries in the precision that most rows have
                        words, counts = np.unique(columns["attn_dtype"][of_kv], return_counts=True)
                        of_kv = of_kv & (columns["attn_dtype"] == words[np.argmax(counts)])
                    for variant in ("full", "window"):
                        rows = of_kv & ((columns["window_size"] > 0) == (variant == "window"))
                        if (precision, variant) in taken or not rows.any():
                            continue
                        taken.add((precision, variant))
                        yield self.gathered(
                            kernel, precision, variant, taken_rows(columns, rows),
                            ("num_heads", "kv_heads", "head_dim", "window_size"),
                            "batch_size", second, path,
                        )  # fmt: skip

    def experts(self) -> Iterator[Curves]:
        """Routed experts, by precision and distribution."""
        shape = (
            "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size",
        )  # fmt: skip
        taken: set[str] = set()
        plain: dict[str, Curves] = {}
        ungated = self._ungated()
        for path in self.versions_of("moe", self.stack, "moe_perf"):
            columns = read_columns(path)
            gated = np.array([pair not in ungated for pair in _widths(columns)])
            if not gated.all():
                self.leave_out(f"experts without a gate of {path.parent.name}", ~gated)
            for name, precision in _EXPERTS.items():
                rows = (columns["moe_dtype"] == name) & gated
                if precision in taken or not rows.any():
                    continue
                found = []
                for word, variant in _DISTRIBUTIONS.items():
                    some = rows & (columns["distribution"] == word)
                    if some.any():
                        part = taken_rows(columns, some)
                        found.append(
                            self.gathered(
                                "experts", precision, variant, part, shape, "num_tokens", None, path
                            )
                        )
                if precision == "bf16":
                    plain = {each.variant: each for each in found}
                ratio = max((slower(e, plain[e.variant]) for e in found if e.variant in plain),
                            default=1.0)  # fmt: skip
                if ratio > UNTUNED_RATIO:
                    self.leave_out(
                        f"experts in {precision} of {self.stack} {path.parent.name}: not tuned,"
                        f" {ratio:.1f} times as slow as bf16's",
                        rows,
                    )
                    continue
                taken.add(precision)
                yield from found

    def _ungated(self) -> set[tuple[int, int]]:
        """Widths of models whose experts have no gate, and so two matrices and not three.

        Only TensorRT-LLM's rows say which those are.
        """
        found: set[tuple[int, int]] = set()
        for path in self.versions_of("moe", "trtllm", "moe_perf"):
            columns = read_columns(path)
            plain = np.array(["nongated" in word for word in columns["kernel_source"]])
            found |= set(_widths(taken_rows(columns, plain)))
        return found

    def collectives(self) -> Iterator[Curves]:
        """Collectives: the stack's own all-reduce, and NCCL's others."""
        for path in self.versions_of("comm", self.stack, "custom_allreduce_perf"):
            columns = read_columns(path)
            rows = np.array(["eager" not in word for word in columns["kernel_source"]])
            columns = _in_bytes(taken_rows(columns, rows))
            yield self.gathered(
                "all_reduce", "bf16", "graph", columns, ("num_gpus",), "bytes", None, path
            )
            break
        for path in self.versions_of("comm", "nccl", "nccl_perf"):
            columns = read_columns(path)
            for word, kernel in (
                ("all_gather", "all_gather"),
                ("reduce_scatter", "reduce_scatter"),
                ("alltoall", "all_to_all"),
            ):
                rows = (columns["op_name"] == word) & (columns["nccl_dtype"] == "half")
                part = _in_bytes(taken_rows(columns, rows))
                yield self.gathered(
                    kernel, "bf16", "nccl", part, ("num_gpus",), "bytes", None, path
                )
            break

    def exchanges(self) -> Iterator[Curves]:
        """DeepEP's dispatch and combine."""
        shape = ("ep_size", "hidden_size", "topk", "num_experts")
        for path in self.versions_of("comm", self.stack, "moe_a2a_perf"):
            columns = dict(read_columns(path))
            columns["latency"] = columns["latency"] / 1e3  # microseconds here
            plain = np.isin(columns["comm_dtype"], ("default", "bfloat16"))
            for phase in ("dispatch", "combine"):
                for ending, mode in (("_ll", "low_latency"), ("_ht", "high_throughput")):
                    ends = np.array([word.endswith(ending) for word in columns["comm_backend"]])
                    rows = plain & ends & (columns["phase"] == phase)
                    if rows.any():
                        yield self.gathered(
                            f"expert_{phase}", "bf16", mode, taken_rows(columns, rows), shape,
                            "num_tokens", None, path,
                        )  # fmt: skip
            break

    def versions_of(self, family: str, stack: str, file: str) -> list[Path]:
        """Files of one kernel, those of the newest version first."""
        found = (self._data / family / stack).glob(f"*/{file}.parquet")
        return sorted(found, key=lambda path: _version(path.parent.name), reverse=True)

    def leave_out(self, why: str, rows: NDArray[np.bool_]) -> None:
        """Note what was not taken of a file, and why."""
        self._left_out.append(f"{why} ({int(rows.sum())} rows)")

    def gathered(
        self,
        kernel: str,
        precision: str,
        variant: str,
        columns: Columns,
        shape: Sequence[str],
        first: str,
        second: str | None,
        path: Path,
    ) -> Curves:
        """Gather rows into curves; of times given twice, the more common kernel's, then the least.

        Args:
            kernel: what was timed.
            precision: in which precision.
            variant: in which way.
            columns: the rows.
            shape: columns that are a curve's shape.
            first: the column of the first axis.
            second: the column of the second axis, or None.
            path: where they are from.
        """
        rows = len(columns["latency"])
        keys, row_of = np.unique(
            np.stack([columns[name] for name in shape], axis=1), axis=0, return_inverse=True
        )
        a, b = np.unique(columns[first]), np.zeros(1)
        at_b = np.zeros(rows, dtype=np.int64)
        if second is not None:
            b, at_b = np.unique(columns[second], return_inverse=True)
        log_ns = np.full((len(keys), len(a), len(b)), np.nan)
        sources, source_of = np.unique(columns["kernel_source"], return_inverse=True)
        commonness = np.bincount(source_of, minlength=len(sources))[source_of]
        order = np.lexsort((-columns["latency"], commonness))  # the last one written stays
        log_ns[row_of.ravel()[order], np.searchsorted(a, columns[first])[order], at_b[order]] = (
            np.log(columns["latency"][order] * 1e6)
        )
        self.note(kernel, path, columns)
        return curves(kernel, precision, variant, keys, a.astype(float), b.astype(float), log_ns)

    def note(self, kernel: str, path: Path, columns: Columns) -> None:
        """Note that a file was read for a kernel."""
        stack = path.parents[1].name
        version = path.parent.name if stack == self.stack else f"{stack} {path.parent.name}"
        self._versions.setdefault(kernel, set()).add(version)
        if kernel == "products":
            self._device = str(columns["device"][0])
        self._files.append(path)
        meta = path.parent / "collection_meta.yaml"
        if meta.is_file():
            text = meta.read_text(encoding="utf-8")
            self._collected |= set(re.findall(r"\b20\d\d-\d\d-\d\d\b", text))


def read_columns(path: Path) -> Columns:
    """Read a Parquet file's columns. Raises InputError where it is damaged."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        refuse(str(path), f"is damaged ({str(error).splitlines()[0]}); install the package anew")
    columns = {}
    for name in table.column_names:
        column: Any = table.column(name)
        columns[name] = np.array(column.to_pylist())
    return columns


def taken_rows(columns: Columns, rows: NDArray[np.bool_]) -> Columns:
    """Some rows of all columns."""
    return {name: values[rows] for name, values in columns.items()}


def _in_bytes(columns: Columns) -> Columns:
    """Sizes are written as numbers of two bytes each."""
    return {**columns, "bytes": columns["message_size"] * 2}


def _widths(columns: Columns) -> list[tuple[int, int]]:
    """Of each row of experts, the model's and an expert's width."""
    return list(zip(columns["hidden_size"].tolist(), columns["inter_size"].tolist(), strict=True))


def _version(name: str) -> tuple[tuple[int, str], ...]:
    """A version's order: 1.3.0rc20 after 1.3.0rc5, and 0.5.6.post2 after 0.5.6."""
    parts: Iterable[str] = re.findall(r"\d+|[a-z]+", name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _least_of(own: Curves, others: Sequence[Curves]) -> Curves:
    """The least time of several stacks, at the shapes and points of the others."""
    keys = np.unique(np.concatenate([each.shapes for each in others]), axis=0)
    axis = np.unique(np.concatenate([each.first for each in others]))
    log_ns = np.full((len(keys), len(axis), 1), np.nan)
    for each in others:
        cells = _cells(each, keys, axis)
        log_ns[cells] = np.fmin(log_ns[cells], each.log_ns[:, :, 0])
    there = {tuple(key) for key in keys.tolist()}
    same = np.array([tuple(shape) in there for shape in own.shapes.tolist()])
    if same.any():
        own = own.of_shapes(same).at_points(np.isin(own.first, axis), np.ones(1, dtype=np.bool_))
        cells = _cells(own, keys, axis)
        # NaN stays: where only the launch was timed, nothing is known.
        log_ns[cells] = np.minimum(log_ns[cells], np.nan_to_num(own.log_ns[:, :, 0], nan=np.inf))
    return curves(*own.key, keys, axis, np.zeros(1), log_ns)


def _cells(
    each: Curves, keys: NDArray[np.int64], axis: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Where curves lie among all shapes and points."""
    places = {tuple(key): row for row, key in enumerate(keys.tolist())}
    rows = np.array([places[tuple(shape)] for shape in each.shapes.tolist()])
    return rows[:, None], np.searchsorted(axis, each.first)[None, :], 0


def slower(one: Curves, other: Curves) -> float:
    """How many times as long one takes as the other, in the median over what both measured."""
    theirs = {tuple(shape): row for row, shape in enumerate(other.shapes.tolist())}
    ratios = []
    for row, shape in enumerate(one.shapes.tolist()):
        if tuple(shape) in theirs and np.array_equal(one.first, other.first):
            ratios.append((one.log_ns[row] - other.log_ns[theirs[tuple(shape)]]).ravel())
    return float(np.exp(np.nanmedian(np.concatenate(ratios)))) if ratios else 1.0
