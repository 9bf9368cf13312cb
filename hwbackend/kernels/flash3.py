"""FlashAttention 3's paged decode from its library file alone, called as vLLM 0.25.1 calls it.

The library is `vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so` of a vLLM wheel; the package itself, which
takes gigabytes, is not needed. Its tile schedule depends on lengths only and is made once a step,
so it is no part of a launch here.
"""

from pathlib import Path
from typing import Any, Final

import torch

from vsim.traces.faults import first_line, refuse

PAGE_TOKENS: Final = 16
HEAD_DIM: Final = 128
HEADS: Final = 32
KV_HEADS: Final = 8


class Flash3:
    """One batch of decodes of equal context over pages `[page][k, v][token][kv_head][head_dim]`.

    Args:
        queries: bf16 `[requests][heads][head_dim]`.
        out: where results go, of the same shape.
        table: int32 `[requests][pages]`.
        context: tokens of each request.
        splits: groups of multiprocessors that a request is split over at most; 0 lets it choose.
    """

    def __init__(self, queries: Any, out: Any, table: Any, context: int, splits: int) -> None:
        requests = len(queries)
        self._ops = torch.ops._vllm_fa3_C
        self._q, self._out, self._table = queries, out, table
        self._context, self._splits = context, splits
        self._starts = torch.arange(requests + 1, dtype=torch.int32, device="cuda")
        self._seen = torch.full((requests,), context, dtype=torch.int32, device="cuda")
        self._schedule = self._ops.get_scheduler_metadata(
            requests, 1, context, HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM, torch.bfloat16, self._seen,
            self._starts, None, None, None, None, PAGE_TOKENS, 0, True, -1, -1, False, splits,
            None, 0,
        )  # fmt: skip

    def launch(self, pages: Any) -> None:
        """Attend, in torch's current stream."""
        keys, values = pages.unbind(1)
        self._ops.fwd(
            self._q, keys, values,
            None, None, None,  # new keys and values, and queries of MLA
            self._out, self._starts,
            None, None, None,  # starts of keys, of new ones, and queries used
            self._seen, 1, self._context, self._table,
            None, None, None, None, None,  # which row, padding, rotary embedding
            None, None, None,  # scales of fp8
            HEAD_DIM**-0.5, True, -1, -1, 0.0, True, self._schedule, self._splits,
            None, 0,  # whether heads are packed: its own choice; multiprocessors left out
            None, 1, 0, None,  # sinks, context parallelism
        )  # fmt: skip


def load_library(path: Path) -> None:
    """Load it. Raises InputError where that fails."""
    if not path.is_file():
        refuse(str(path), "there is no such file; name _vllm_fa3_C.abi3.so of a vLLM wheel")
    try:
        torch.ops.load_library(str(path))
        if not hasattr(torch.ops._vllm_fa3_C, "fwd"):
            refuse(str(path), "holds no FlashAttention 3; name _vllm_fa3_C.abi3.so of a vLLM wheel")
    except OSError as error:
        refuse(str(path), f"can't be loaded: {first_line(error)}")
