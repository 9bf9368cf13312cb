"""check_prefill: the prefill kernel on random pages against float64, on any GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vsim.hwbackend.attention.checking import MOST_ERROR, NAN_BYTE, DecodeCase, random_pages
from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.attention.prefill import PagedPrefill
from vsim.hwbackend.attention.reference import (
    attention,
    bf16_of,
    floats_of_bf16,
    keys_and_values,
    relative_error,
)
from vsim.hwbackend.cuda.buffers import DeviceBuffer, download, fill, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream


@dataclass(frozen=True, slots=True)
class PrefillCase:
    """Contexts, and the new tokens at the end of each."""

    of: DecodeCase
    new_tokens: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.of}, new {self.new_tokens}"


def prefill_cases(seed: int = 0) -> Iterator[PrefillCase]:
    """Named corners first, then random ones."""
    llama = PageLayout(16, 8, 128)
    yield PrefillCase(DecodeCase(llama, 32, (1, 17, 64, 65)), (1, 17, 33, 1))
    yield PrefillCase(DecodeCase(llama, 32, (700, 512)), (700, 31))
    yield PrefillCase(DecodeCase(PageLayout(16, 3, 64), 9, (130, 300)), (130, 77))
    yield PrefillCase(DecodeCase(PageLayout(32, 32, 128), 32, (200,)), (129,))
    yield PrefillCase(DecodeCase(PageLayout(256, 4, 128), 28, (600, 9)), (95, 9))
    yield PrefillCase(DecodeCase(llama, 64, (1_000, 999), shared=20), (50, 200))
    random = np.random.default_rng(seed)
    for at in range(12):
        kv_heads = int(random.integers(1, 6))
        layout = PageLayout(
            page_tokens=int(random.choice([16, 48, 64, 1024])),
            kv_heads=kv_heads,
            head_dim=int(random.choice([64, 128])),
            layers=int(random.choice([1, 2])),
            head_major=bool(at % 2),
        )
        lengths = tuple(int(x) for x in np.exp(random.uniform(0, np.log(1_500), 4)))
        new = tuple(int(random.integers(1, min(length, 300) + 1)) for length in lengths)
        heads = kv_heads * int(random.integers(1, 9))
        yield PrefillCase(DecodeCase(layout, heads, lengths, seed=at), new)


def prefill_error(context: Context, case: PrefillCase, stream: Stream) -> float:
    """Return a case's relative error; what is not written counts as infinite."""
    of, layout = case.of, case.of.layout
    batch, slots = of.batch()
    layer = layout.layers - 1
    pages = random_pages(of, batch, slots)
    random = np.random.default_rng(of.seed + 2)
    shape = (sum(case.new_tokens), of.heads, layout.head_dim)
    q = bf16_of(random.standard_normal(shape, np.float32))
    new = np.array(case.new_tokens, np.int32)
    with (
        DeviceBuffer(pages.nbytes) as held,
        DeviceBuffer(q.nbytes) as queries,
        DeviceBuffer(q.nbytes) as out,
        PagedPrefill(context, layout, of.heads) as prefill,
    ):
        upload(held.address, pages, stream)
        upload(queries.address, q, stream)
        fill(out.address, NAN_BYTE, out.bytes, stream)
        prefill.bind(prefill.plan(batch, new), stream)
        prefill.launch(stream, queries.address, out.address, held.address, layer)
        found = download(np.empty(shape, np.uint16), out.address, stream)
    wanted = np.empty(shape)
    at = 0
    for row, tokens in enumerate(batch.tokens(layout.page_tokens)):
        listed = batch.indices[batch.indptr[row] : batch.indptr[row + 1]]
        keys, values = keys_and_values([pages[slot] for slot in listed], layout, int(tokens), layer)
        these = slice(at, at + int(new[row]))
        wanted[these] = attention(floats_of_bf16(q[these]), keys, values)
        at += int(new[row])
    return relative_error(floats_of_bf16(found), wanted)


def check_prefill(context: Context, chosen: Sequence[PrefillCase]) -> bool:
    """Check every case, print the worst, and say whether all passed."""
    worst = (0.0, "")
    with Stream() as stream:
        for case in chosen:
            error = prefill_error(context, case, stream)
            worst = max(worst, (error, str(case)))
            if not error < MOST_ERROR:
                print(f"  off by {error:.2e}: {case}", flush=True)
    print(f"prefill, {len(chosen)} cases: worst error {worst[0]:.2e} ({worst[1]})", flush=True)
    return worst[0] < MOST_ERROR
