"""FlashAttention 3 over a paged KV cache, called as vLLM 0.25.1 calls it.

From `vllm/v1/attention/backends/flash_attn.py`: decodes come first, then chunks of prompts, in one
call with variable lengths; its tile schedule is made once a step (`get_scheduler_metadata`), so it
is not timed here. Up to 512 tokens a step, the largest CUDA graph, a sequence may be split over up
to 32 groups of multiprocessors; above, FlashAttention decides (`num_splits` 0). A batch of decodes
alone runs in a graph captured for the longest sequence the server takes.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from vllm.vllm_flash_attn.flash_attn_interface import (
    flash_attn_varlen_func,
    get_scheduler_metadata,
)

from vsim.hwbackend.kernels.attention_cases import LLAMA, QWEN, Batch, batches
from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.timing import call_us, copies

BLOCK: Final = 16
HEAD_DIM: Final = 128
GRAPH_TOKENS: Final = 512
GRAPH_SPLITS: Final = 32  # vLLM's flash_attn_max_num_splits_for_cuda_graph
SERVER_TOKENS: Final = 40_960  # max_model_len of the servers recorded
POOL_TOKENS: Final = 1_310_720


class Attention:
    """A KV cache of random numbers on the GPU, and the calls that read it."""

    def __init__(self, heads: tuple[int, int]) -> None:
        self.heads = heads
        shape = (POOL_TOKENS // BLOCK, 2, BLOCK, heads[1], HEAD_DIM)
        self.cache = torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_()

    def call(self, batch: Batch) -> tuple[Callable[[], Any], Any, Any]:
        """Return a call over freshly drawn blocks, its queries and its block table."""
        lengths = batch.lengths()
        new = torch.tensor([n for n, _ in lengths], dtype=torch.int32)
        seen = torch.tensor([k for _, k in lengths], dtype=torch.int32, device="cuda")
        starts = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        starts[1:] = new.cumsum(0)
        starts = starts.cuda()
        tokens, longest = int(new.sum()), max(k for _, k in lengths)
        width = max(SERVER_TOKENS, longest) // BLOCK
        table = torch.zeros(len(lengths), width, dtype=torch.int32, device="cuda")
        pool = torch.randperm(len(self.cache), device="cuda", dtype=torch.int32)
        at = 0
        for row, (_, k) in enumerate(lengths):
            blocks = -(-k // BLOCK)
            table[row, :blocks] = pool[at : at + blocks]
            at += blocks
        assert at <= len(pool), f"{batch} takes {at} blocks of {len(pool)}"
        q = torch.randn(tokens, self.heads[0], HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        out = torch.full_like(q, torch.nan)
        k_cache, v_cache = self.cache.unbind(1)
        splits = GRAPH_SPLITS if tokens <= GRAPH_TOKENS else 0
        most = int(new.max())
        metadata = get_scheduler_metadata(
            batch_size=len(lengths),
            max_seqlen_q=most,
            max_seqlen_k=longest,
            num_heads_q=self.heads[0],
            num_heads_kv=self.heads[1],
            headdim=HEAD_DIM,
            cache_seqlens=seen,
            qkv_dtype=torch.bfloat16,
            cu_seqlens_q=starts,
            page_size=BLOCK,
            causal=True,
            window_size=(-1, -1),
            num_splits=splits,
        )

        def call() -> Any:
            return flash_attn_varlen_func(
                q=q,
                k=k_cache,
                v=v_cache,
                out=out,
                cu_seqlens_q=starts,
                max_seqlen_q=most,
                seqused_k=seen,
                max_seqlen_k=longest if batch.prefill else max(SERVER_TOKENS, longest),
                softmax_scale=HEAD_DIM**-0.5,
                causal=True,
                window_size=[-1, -1],
                block_table=table,
                scheduler_metadata=metadata,
                fa_version=3,
                num_splits=splits,
            )

        return call, q, table

    def kv_bytes(self, batch: Batch) -> int:
        """Return the bytes of keys and values that a batch attends to."""
        return sum(k for _, k in batch.lengths()) * 2 * self.heads[1] * HEAD_DIM * 2

    def error(self, batch: Batch) -> float:
        """Return ‖out − reference‖ / ‖reference‖ of one call; the reference is in float32."""
        call, q, table = self.call(batch)
        out = call().float()
        wanted = torch.empty_like(out)
        at = 0
        for row, (new, seen) in enumerate(batch.lengths()):
            blocks = table[row, : -(-seen // BLOCK)].long()
            keys, values = (
                self.cache[blocks, i]
                .flatten(0, 1)[:seen]
                .float()
                .repeat_interleave(self.heads[0] // self.heads[1], 1)
                for i in (0, 1)
            )
            scores = torch.einsum("qhd,khd->hqk", q[at : at + new].float(), keys) * HEAD_DIM**-0.5
            mask = torch.ones(new, seen, dtype=torch.bool, device="cuda").tril(seen - new)
            weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
            wanted[at : at + new] = torch.einsum("hqk,khd->qhd", weights, values)
            at += new
        return float((out - wanted).norm() / wanted.norm())

    def measure(self, batch: Batch, replays: int = 5) -> Measured:
        """Time one batch; calls rotate over blocks so that none is still in the cache."""
        calls = [self.call(batch)[0] for _ in range(copies(self.kv_bytes(batch), 8))]
        samples = call_us(calls, replays)
        tokens = sum(n for n, _ in batch.lengths())
        return Measured(
            "attention",
            "flash_attention_3",
            "cold",
            of_samples(samples),
            len(samples),
            tokens=tokens,
            decodes=batch.decodes,
            context=batch.context,
            prefill=batch.prefill,
            chunks=batch.chunks if batch.prefill else 0,
            prefix=batch.prefix,
            heads=batch.heads[0],
            kv_heads=batch.heads[1],
            bytes_moved=self.kv_bytes(batch) + 2 * tokens * self.heads[0] * HEAD_DIM * 2,
        )


def measure_attention() -> Iterator[Measured]:
    """Check one mixed batch against a reference, then time all batches."""
    for heads in (LLAMA, QWEN):
        attention = Attention(heads)
        for small in (Batch(heads, 5, 300, 70, 130, 2), Batch(heads, 7, 1000)):
            error = attention.error(small)
            if not error < 1e-2:
                raise ArithmeticError(f"attention is off by {error} for {small}")
            print(f"attention {heads}: error {error:.1e}", flush=True)
        for batch in batches():
            if batch.heads == heads:
                yield attention.measure(batch)
        del attention
        torch.cuda.empty_cache()
