"""A decode step of an 8B model as one CUDA graph, against its kernels timed alone.

The graph holds 32 layers with weights and KV of their own: what vLLM captures, less the input's
embedding, the vocabulary and sampling. Small kernels are compiled, see `small`.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile
from vllm import _custom_ops as ops
from vllm.vllm_flash_attn.flash_attn_interface import (
    flash_attn_varlen_func,
    get_scheduler_metadata,
)

from vsim.hwbackend.kernels.attention import BLOCK, GRAPH_SPLITS, SERVER_TOKENS
from vsim.hwbackend.kernels.clocks import layer_weights
from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS
from vsim.hwbackend.kernels.small import KV, POSITIONS, Q, compiled_layer
from vsim.hwbackend.kernels.timing import captured, replay_us

BATCHES: Final = (1, 16, 160)
CONTEXT: Final = 700
MOST: Final = max(BATCHES)


class Layers:
    """Weights and KV of all layers on the GPU."""

    def __init__(self) -> None:
        self.weights = [layer_weights() for _ in range(LAYERS)]
        blocks = MOST * -(-CONTEXT // BLOCK)
        shape = (blocks, 2, BLOCK, KV_HEADS, HEAD_DIM)
        self.caches = [
            torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_() for _ in range(LAYERS)
        ]
        self.norm = torch.ones(HIDDEN, dtype=torch.bfloat16, device="cuda")
        self.cos_sin = torch.randn(POSITIONS, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        self.scale = torch.ones((), dtype=torch.float32, device="cuda")
        self.functions = compiled_layer(self.norm, self.cos_sin)

    def calls(self, count: int) -> list[tuple[str, Callable[[], Any]]]:
        """Return a step's kernels by name, in order, for `count` sequences; rows are at least 2."""
        blocks = -(-CONTEXT // BLOCK)
        order = torch.randperm(count * blocks, dtype=torch.int32, device="cuda")
        table = torch.zeros(count, SERVER_TOKENS // BLOCK, dtype=torch.int32, device="cuda")
        table[:, :blocks] = order.view(count, blocks)
        starts = torch.arange(count + 1, dtype=torch.int32, device="cuda")
        seen = torch.full((count,), CONTEXT, dtype=torch.int32, device="cuda")
        slots = table[:, blocks - 1].long() * BLOCK + (CONTEXT - 1) % BLOCK
        positions = torch.full((count,), CONTEXT - 1, device="cuda")
        metadata = get_scheduler_metadata(
            batch_size=count,
            max_seqlen_q=1,
            max_seqlen_k=CONTEXT,
            num_heads_q=HEADS,
            num_heads_kv=KV_HEADS,
            headdim=HEAD_DIM,
            cache_seqlens=seen,
            cu_seqlens_q=starts,
            page_size=BLOCK,
            causal=True,
            num_splits=GRAPH_SPLITS,
        )
        x = torch.randn(count, HIDDEN, dtype=torch.bfloat16, device="cuda")
        state: dict[str, Any] = {"x": x, "residual": torch.zeros_like(x)}
        add, rope, silu = (self.functions[k] for k in ("add_norm", "rotary", "silu_mul"))
        linear = torch.nn.functional.linear

        def layer(weights: dict[str, Any], cache: Any) -> list[tuple[str, Callable[[], Any]]]:
            k_cache, v_cache = cache.unbind(1)

            def norm() -> None:
                state["x"], state["residual"] = add(state["x"], state["residual"], self.norm)

            def qkv() -> None:
                state["qkv"] = linear(state["x"], weights["qkv"])

            def rotate() -> None:
                state["q"], state["k"] = rope(state["qkv"], positions, self.cos_sin)

            def write() -> None:
                v = state["qkv"][:, Q + KV :].view(count, KV_HEADS, HEAD_DIM)
                ops.reshape_and_cache_flash(
                    state["k"], v, k_cache, v_cache, slots, "auto", self.scale, self.scale
                )

            def attend() -> None:
                state["out"] = flash_attn_varlen_func(
                    q=state["q"],
                    k=k_cache,
                    v=v_cache,
                    cu_seqlens_q=starts,
                    max_seqlen_q=1,
                    seqused_k=seen,
                    max_seqlen_k=SERVER_TOKENS,
                    softmax_scale=HEAD_DIM**-0.5,
                    causal=True,
                    window_size=[-1, -1],
                    block_table=table,
                    scheduler_metadata=metadata,
                    fa_version=3,
                    num_splits=GRAPH_SPLITS,
                ).view(count, Q)

            def o() -> None:
                state["x"] = linear(state["out"], weights["o"])

            def gate_up() -> None:
                state["wide"] = linear(state["x"], weights["gate_up"])

            def activate() -> None:
                state["half"] = silu(state["wide"])

            def down() -> None:
                state["x"] = linear(state["half"], weights["down"])

            return [
                ("add_norm", norm),
                ("qkv", qkv),
                ("rotary", rotate),
                ("write_kv", write),
                ("attention", attend),
                ("o", o),
                ("add_norm", norm),
                ("gate_up", gate_up),
                ("silu_mul", activate),
                ("down", down),
            ]

        return [
            call
            for weights, cache in zip(self.weights, self.caches, strict=True)
            for call in layer(weights, cache)
        ]


def traced(graph: torch.cuda.CUDAGraph) -> list[tuple[str, int, int]]:
    """Return the kernels of one replay: name, start and duration in ns."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        graph.replay()
        torch.cuda.synchronize()
    events = profiled.profiler.kineto_results.events()
    found = [(e.name(), e.start_ns(), e.duration_ns()) for e in events if e.duration_ns() > 0]
    return sorted(
        (e for e in found if not e[0].startswith(("cuda", "Activity"))), key=lambda e: e[1]
    )


def _row(kernel: str, variant: str, count: int, samples: list[float], calls: int) -> Measured:
    return Measured(
        "graph", kernel, variant, of_samples(samples), len(samples), tokens=count, decodes=count,
        context=CONTEXT, calls=calls,
    )  # fmt: skip


def measure_decode() -> Iterator[Measured]:
    """Time a step's graph, the graphs of its kernels by name, and its kernels as traced."""
    layers = Layers()
    for count in BATCHES:
        rows = max(count, 2)  # a compiled kernel for one row would be another
        calls = layers.calls(rows)
        for _, call in calls:
            call()
        by_name: dict[str, list[Callable[[], Any]]] = defaultdict(list)
        for name, call in calls:
            by_name[name].append(call)
        graph = captured([call for _, call in calls])
        yield _row("step", "whole", rows, replay_us(graph, 20), 1)
        events = traced(graph)
        span = max(s + d for _, s, d in events) - events[0][1]
        busy = sum(d for _, _, d in events)
        yield _row("step", "traced span", rows, [span / 1e3], len(events))
        yield _row("step", "traced kernels", rows, [busy / 1e3], len(events))
        names: dict[str, list[float]] = defaultdict(list)
        for name, _, duration in events:
            names[name[:60]].append(duration / 1e3)
        for name, durations in names.items():
            yield _row(name, "traced kernel", rows, durations, len(durations))
        gaps = [
            max(0, after[1] - before[1] - before[2]) / 1e3
            for before, after in itertools.pairwise(events)
        ]
        yield _row("gap", "traced gap", rows, gaps, len(gaps))
        for name, same in by_name.items():
            samples = [us / len(same) for us in replay_us(captured(same), 10)]
            yield _row(name, "alone", rows, samples, len(same))
        del graph
