"""Which batches are attended to: what one step of a server may hold."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LLAMA: Final = (32, 8)
QWEN: Final = (32, 4)

DECODES: Final = (8, 32, 96, 160, 256)
CONTEXTS: Final = (512, 1024, 4096)
PREFILLS: Final = (128, 512, 2048, 8192)
PREFIXES: Final = (0, 4096, 16384)
ALONE_PREFILLS: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
ALONE_PREFIXES: Final = (0, 2048, 8192, 16384, 24576, 65536)
CHUNKS: Final = ((128, 4), (128, 64), (256, 32), (512, 4), (512, 16), (1024, 8), (2048, 4))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step attends to: decodes of equal context, chunks of equal length and prefix."""

    heads: tuple[int, int]
    decodes: int = 0
    context: int = 0
    prefill: int = 0
    prefix: int = 0
    chunks: int = 1

    def lengths(self) -> list[tuple[int, int]]:
        """Return (new tokens, tokens attended to) of each sequence in vLLM's order."""
        chunks = self.chunks if self.prefill else 0
        chunk = (self.prefill, self.prefix + self.prefill)
        return [(1, self.context)] * self.decodes + [chunk] * chunks


def batches() -> Iterator[Batch]:
    """Return what is measured: each part alone, prefixes, many chunks, and parts together."""
    for context, decodes in itertools.product((*CONTEXTS, 700), (1, 16, *DECODES)):
        yield Batch(LLAMA, decodes, context)
    for prefill, prefix in itertools.product(ALONE_PREFILLS, sorted({*ALONE_PREFIXES, *PREFIXES})):
        yield Batch(LLAMA, 0, 0, prefill, prefix)
    for prefill, chunks in CHUNKS:
        yield Batch(LLAMA, 0, 0, prefill, 0, chunks)
    for decodes, context, prefill, prefix in itertools.product(
        DECODES, CONTEXTS, PREFILLS, PREFIXES
    ):
        yield Batch(LLAMA, decodes, context, prefill, prefix)
    for decodes, context, chunks in ((96, 700, 4), (160, 700, 4), (160, 700, 12)):
        yield Batch(LLAMA, decodes, context, 640, 0, chunks)
    for decodes, prefill, prefix in itertools.product(
        (0, 32, 160), (0, 512, 2048, 8192), (0, 4096)
    ):
        if decodes or prefill:
            yield Batch(QWEN, decodes, 1024 if decodes else 0, prefill, prefix if prefill else 0)
