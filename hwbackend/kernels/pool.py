"""All layers one after another: products, decode attention over pages drawn from a pool, and both.

Every layer has weights and pages of its own, so that none is in the cache when its turn comes.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vsim.hwbackend.kernels.clocks import layer_weights
from vsim.hwbackend.kernels.flash3 import PAGE_TOKENS, Flash3, load_library
from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import HEAD_DIM, HEADS, KV_HEADS, LAYERS, PRODUCTS
from vsim.hwbackend.kernels.timing import captured, replay_us

TOKENS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 160)
POOLS: Final = (3_000, 14_000, 28_000, 57_000)  # pages; the last is what vLLM has on an H200
DECODES: Final = (
    (1, 1000), (2, 1000), (8, 1000), (16, 1000), (32, 1000), (64, 700), (16, 4000), (10, 1400)
)  # fmt: skip
SHARED: Final = {10: (4, 62)}
"""Of so many requests as many differ in their first pages, and so many pages are first."""
SPLITS: Final = 32  # as in vLLM's graphs
Calls = list[Callable[[], Any]]


def measure_pool() -> Iterator[Measured]:
    """Time graphs of all layers, over the pools that the GPU has room for."""
    vllm = find_spec("vllm")
    load_library(Path(str(vllm and vllm.origin)).parent / "vllm_flash_attn/_vllm_fa3_C.abi3.so")
    weights = [layer_weights() for _ in range(LAYERS)]
    for tokens in TOKENS:
        calls = [call for layer in weights for call in _products(layer, tokens)]
        yield _timed("products", "bf16", calls, tokens=tokens)
    for pages in POOLS:
        shape = (pages, 2, PAGE_TOKENS, KV_HEADS, HEAD_DIM)
        try:
            pools = [torch.zeros(shape, dtype=torch.bfloat16, device="cuda") for _ in weights]
        except torch.OutOfMemoryError:
            return
        for decodes, context in DECODES:
            if decodes * context <= pages * PAGE_TOKENS:
                yield from _attention(pools, weights, decodes, context)
        del pools
        torch.cuda.empty_cache()


def _attention(
    pools: list[Any], weights: list[dict[str, Any]], decodes: int, context: int
) -> Iterator[Measured]:
    count, pages = len(pools[0]), -(-context // PAGE_TOKENS)
    drawn = np.random.Generator(np.random.PCG64(1)).permutation(count)
    tables = {"random": drawn, "in a row": np.arange(count)}
    tables = {name: ids[: decodes * pages].reshape(-1, pages) for name, ids in tables.items()}
    if decodes in SHARED:
        differ, first = SHARED[decodes]
        tables["shared"] = tables["random"].copy()
        tables["shared"][:, :first] = tables["random"][np.arange(decodes) % differ, :first]
    for order, table in tables.items():
        ids = torch.from_numpy(table.astype(np.int32)).cuda()
        queries = torch.randn(decodes, HEADS, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        flash = Flash3(queries, torch.empty_like(queries), ids, context, SPLITS)
        alone: Calls = [partial(flash.launch, pool) for pool in pools]
        step: Calls = []
        for attend, layer in zip(alone, weights, strict=True):
            first_product, *others = _products(layer, decodes)
            step += [first_product, attend, *others]
        for kernel, calls in (("attention", alone), ("products and attention", step)):
            variant = f"{order}, {count} pages"
            yield _timed(kernel, variant, calls, tokens=decodes, decodes=decodes, context=context)


def _products(layer: dict[str, Any], tokens: int) -> Calls:
    of = {
        n: torch.randn(tokens, PRODUCTS[n][1], dtype=torch.bfloat16, device="cuda") for n in layer
    }
    return [partial(torch.nn.functional.linear, of[name], layer[name]) for name in PRODUCTS]


def _timed(kernel: str, variant: str, calls: Calls, **load: int) -> Measured:
    samples = replay_us(captured(calls), 15)
    return Measured("pool", kernel, variant, of_samples(samples), len(samples), **load)
