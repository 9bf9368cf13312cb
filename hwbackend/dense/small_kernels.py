"""The small kernels of a step on one GPU: `SmallKernels` launches those of `small_kernels.cu`.

Each moves the bytes that `vsim.sim.timing.small_kernels` counts for it. Addresses are of bf16 rows
on the GPU unless something else is said; nothing is launched for no rows.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.shape import BF16_BYTES, VECTOR

SOURCE: Final = Path(__file__).with_name("small_kernels.cu")
NAMES: Final = (
    "gather_rows", "add_norm", "rotary", "write_kv", "silu_mul", "combine", "argmax_parts",
    "argmax_rows", "fill_normal",
)  # fmt: skip
EPSILON: Final = 1e-5
"""Of a norm, as Llama's config.json has it."""
ARGMAX_PARTS: Final = 16
"""A row of logits is cut into so many, so that one row keeps more than one multiprocessor busy."""
_WARP: Final = 32
_MOST_THREADS: Final = 1024
_FILL_BLOCKS: Final = 2048

_address = ctypes.c_uint64
_int = ctypes.c_int32
_long = ctypes.c_int64
_float = ctypes.c_float


class Launchable(Protocol):
    """A kernel of a module, as `vsim.hwbackend.cuda.modules` has it."""

    def launch(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        stream: Stream,
        arguments: Sequence[Any],
    ) -> None:
        """Launch it."""


@dataclass(frozen=True, slots=True)
class KvTarget:
    """Where keys and values are written; all in bytes.

    Args:
        base: address that tokens' places count from.
        layer_stride: from a layer of a page to the next.
        head_stride: from one head of a token to the next.
        value_offset: from a key to its value.
    """

    base: int
    layer_stride: int
    head_stride: int
    value_offset: int


class SmallKernels:
    """Launches of the small kernels.

    Args:
        kernels: those of `NAMES`, loaded in the GPU's context.
    """

    def __init__(self, kernels: Mapping[str, Launchable]) -> None:
        self._kernels = kernels

    def _launch(
        self, name: str, grid: tuple[int, int], threads: int, stream: Stream, *args: object
    ) -> None:
        if grid[0] and grid[1]:
            self._kernels[name].launch((*grid, 1), (threads, 1, 1), stream, args)

    def gather_rows(
        self, stream: Stream, table: int, ids: int, out: int, rows: int, width: int
    ) -> None:
        """out[row] = table[ids[row]].

        Args:
            stream: in which.
            table: rows to choose from.
            ids: address of int32[rows].
            out: rows chosen.
            rows: how many.
            width: numbers of a row.
        """
        vectors = width // VECTOR
        self._launch(
            "gather_rows", (rows, 1), _threads(vectors), stream,
            _address(table), _address(ids), _address(out), _int(vectors),
        )  # fmt: skip

    def add_norm(
        self,
        stream: Stream,
        delta: int | None,
        residual: int,
        weight: int,
        out: int,
        rows: int,
        width: int,
    ) -> None:
        """residual += delta; out = the root mean square norm of it.

        Args:
            stream: in which.
            delta: what is added; None for nothing.
            residual: rows that are added to.
            weight: one row.
            out: normalised rows.
            rows: how many.
            width: numbers of a row.
        """
        vectors = width // VECTOR
        self._launch(
            "add_norm", (rows, 1), _threads(vectors), stream,
            _address(delta or 0), _address(residual), _address(weight), _address(out),
            _int(vectors), _float(EPSILON),
        )  # fmt: skip

    def rotary(
        self,
        stream: Stream,
        qkv: int,
        positions: int,
        angles: int,
        queries: int,
        tokens: int,
        heads: tuple[int, int],
        head_dim: int,
    ) -> None:
        """Rotate queries into `queries`, and keys where they are.

        Args:
            stream: in which.
            qkv: a product's rows of query, key and value heads.
            positions: address of int32[tokens].
            angles: address of float32[positions, head_dim], cosines and then sines of half a head.
            queries: rows of query heads.
            tokens: rows.
            heads: of queries, and of keys.
            head_dim: numbers of a head.
        """
        half = head_dim // 2 // VECTOR
        self._launch(
            "rotary", (tokens, 1), _threads(sum(heads) * half), stream,
            _address(qkv), _address(positions), _address(angles), _address(queries),
            _int(heads[0]), _int(heads[1]), _int(half),
        )  # fmt: skip

    def write_kv(
        self,
        stream: Stream,
        qkv: int,
        places: int,
        to: KvTarget,
        layer: int,
        tokens: int,
        heads: tuple[int, int],
        head_dim: int,
    ) -> None:
        """Write keys and values where their pages want them.

        Args:
            stream: in which.
            qkv: rows of query, key and value heads, keys rotated.
            places: address of int64[tokens], bytes from the base to a token's first key, layer 0's.
            to: base and strides.
            layer: which.
            tokens: rows.
            heads: of queries, and of keys.
            head_dim: numbers of a head.
        """
        vectors = head_dim // VECTOR
        self._launch(
            "write_kv", (tokens, 1), _threads(2 * heads[1] * vectors), stream,
            _address(qkv), _address(places), _address(to.base + layer * to.layer_stride),
            _long(to.head_stride), _long(to.value_offset), _int(heads[0]), _int(heads[1]),
            _int(vectors),
        )  # fmt: skip

    def silu_mul(self, stream: Stream, gate_up: int, out: int, rows: int, width: int) -> None:
        """out = silu(gate) · up, of rows of `width` gates and as many ups."""
        vectors = width // VECTOR
        threads = min(_threads(vectors), 256)
        self._launch(
            "silu_mul", (-(-vectors // threads), rows), threads, stream,
            _address(gate_up), _address(out), _int(vectors),
        )  # fmt: skip

    def combine(
        self,
        stream: Stream,
        rows: int,
        places: int,
        shares: int,
        out: int,
        tokens: int,
        per_token: int,
        width: int,
    ) -> None:
        """out[token] = the sum of its experts' rows, each times its share.

        Args:
            stream: in which.
            rows: what experts made of tokens.
            places: address of int32[tokens, per_token], rows of a token.
            shares: address of float32[tokens, per_token].
            out: a row a token.
            tokens: how many.
            per_token: experts of a token.
            width: numbers of a row.
        """
        vectors = width // VECTOR
        self._launch(
            "combine", (tokens, 1), _threads(vectors), stream,
            _address(rows), _address(places), _address(shares), _address(out), _int(per_token),
            _int(vectors),
        )  # fmt: skip

    def argmax(
        self, stream: Stream, logits: int, parts: int, out: int, rows: int, columns: int
    ) -> None:
        """Find the column of each row's largest logit, the first of equal ones.

        Args:
            stream: in which.
            logits: rows.
            parts: address of room for uint64[rows, ARGMAX_PARTS].
            out: address of int32[rows].
            rows: how many.
            columns: of a row.
        """
        self._launch(
            "argmax_parts", (ARGMAX_PARTS, rows), _MOST_THREADS, stream,
            _address(logits), _address(parts), _int(columns),
        )  # fmt: skip
        self._launch(
            "argmax_rows", (rows, 1), _WARP, stream,
            _address(parts), _address(out), _int(ARGMAX_PARTS),
        )  # fmt: skip

    def fill_normal(
        self,
        stream: Stream,
        out: int,
        size_bytes: int,
        seed: int,
        *,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        """Fill memory with normally distributed numbers, the same for the same seed.

        Args:
            stream: in which.
            out: where; an even number of bf16.
            size_bytes: how much.
            seed: of the numbers.
            mean: their mean.
            deviation: their standard deviation.
        """
        pairs = size_bytes // (2 * BF16_BYTES)
        self._launch(
            "fill_normal", (min(_FILL_BLOCKS, -(-pairs // 256)), 1), 256, stream,
            _address(out), _address(pairs), _float(mean), _float(deviation),
            ctypes.c_uint32(seed & 0xFFFFFFFF),
        )  # fmt: skip


def _threads(items: int) -> int:
    """Threads of a block that has so many items: whole warps."""
    return min(_MOST_THREADS, -(-items // _WARP) * _WARP)
