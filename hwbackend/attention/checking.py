"""check_decode: the decode kernel on random pages against float64, on any GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.decode import DecodeVariant, PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
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

MOST_ERROR: Final = 5e-3
NAN_BYTE: Final = 0xFF  # bf16 0xFFFF is not a number


@dataclass(frozen=True, slots=True)
class DecodeCase:
    """One batch to check.

    Args:
        layout: of pages.
        heads: query heads.
        lengths: tokens of each request.
        shared: pages at the front that all requests share, where they are long enough.
        keep: share of the pages before the last that a request lists, at random.
        seed: of pages, order and queries.
    """

    layout: PageLayout
    heads: int
    lengths: tuple[int, ...]
    shared: int = 0
    keep: float = 1.0
    seed: int = 0

    def __str__(self) -> str:
        of = self.layout
        order = "head" if of.head_major else "token"
        return (
            f"{self.heads}/{of.kv_heads}x{of.head_dim} page {of.page_tokens} {order}-major, "
            f"{of.layers} layers, {len(self.lengths)} requests of {min(self.lengths)} to "
            f"{max(self.lengths)}, {self.shared} pages shared, {self.keep:.0%} kept"
        )

    def batch(self) -> tuple[DecodeBatch, int]:
        """Draw the batch; also return how many slots there are, some of which nobody lists."""
        random = np.random.default_rng(self.seed)
        page = self.layout.page_tokens
        counts = [-(-length // page) for length in self.lengths]
        total = sum(counts) + self.shared + 3
        free = list(random.permutation(total))
        common = [free.pop() for _ in range(self.shared)]
        indptr, indices = [0], []
        for count in counts:
            mine = [free.pop() for _ in range(count)]
            full = min(count - 1, self.shared)
            mine[:full] = common[:full]
            chosen = [slot for slot in mine[:-1] if random.random() < self.keep] + mine[-1:]
            indices += chosen
            indptr.append(len(indices))
        last = [(length - 1) % page + 1 for length in self.lengths]
        return DecodeBatch.of(indptr, indices, last), total


def cases(seed: int = 0) -> Iterator[DecodeCase]:
    """Named corners first, then random ones."""
    llama = PageLayout(16, 8, 128)
    yield DecodeCase(llama, 32, (1,))
    yield DecodeCase(llama, 32, (15, 16, 17, 1, 31, 33, 257))
    yield DecodeCase(llama, 32, (20_011,))
    yield DecodeCase(llama, 32, (3_000,) * 5 + (7, 1_001), shared=50)
    yield DecodeCase(llama, 32, (5_000, 900, 16), keep=0.2)
    yield DecodeCase(PageLayout(16, 3, 64), 9, (1, 100, 2_049, 777))  # SmolLM2-135M
    yield DecodeCase(PageLayout(16, 32, 128), 32, (513, 40))  # Llama-2-7B
    yield DecodeCase(PageLayout(32, 8, 128), 64, (2_222, 65, 64))  # Llama-2-70B
    yield DecodeCase(PageLayout(256, 4, 128), 28, (700, 256, 257))  # 7 query heads each
    yield DecodeCase(PageLayout(16, 8, 128, layers=3), 32, (333, 4_444))
    random = np.random.default_rng(seed)
    for at in range(24):
        kv_heads = int(random.integers(1, 9))
        layout = PageLayout(
            page_tokens=int(random.choice([16, 32, 48, 64, 128, 1024])),
            kv_heads=kv_heads,
            head_dim=int(random.choice([64, 128])),
            layers=int(random.choice([1, 2])),
            head_major=bool(at % 2),
        )
        lengths = tuple(
            int(x) for x in np.exp(random.uniform(0, np.log(6_000), random.integers(1, 12)))
        )
        yield DecodeCase(
            layout,
            kv_heads * int(random.integers(1, 9)),
            lengths,
            shared=int(random.choice([0, 0, 5])),
            keep=float(random.choice([1.0, 0.4])),
            seed=at,
        )


def error_of(
    context: Context, case: DecodeCase, variant: DecodeVariant | None, stream: Stream
) -> tuple[float, bool]:
    """Return a case's relative error, and whether a second launch gave the same bits.

    Outputs are poisoned before; so are all tokens behind a request's last one.
    """
    layout, (batch, slots) = case.layout, case.batch()
    layer = layout.layers - 1
    pages = random_pages(case, batch, slots)
    random = np.random.default_rng(case.seed + 2)
    shape = (batch.requests, case.heads, layout.head_dim)
    q = bf16_of(random.standard_normal(shape, np.float32))
    with (
        DeviceBuffer(pages.nbytes) as held,
        DeviceBuffer(q.nbytes) as queries,
        DeviceBuffer(q.nbytes) as out,
        PagedDecode(context, layout, case.heads, variant=variant) as decode,
    ):
        upload(held.address, pages, stream)
        upload(queries.address, q, stream)
        decode.bind(decode.plan(batch), stream)
        found: list[NDArray[np.uint16]] = []
        for _ in range(2):
            fill(out.address, NAN_BYTE, out.bytes, stream)
            decode.launch(stream, queries.address, out.address, held.address, layer)
            found.append(download(np.empty(shape, np.uint16), out.address, stream))
    wanted = wanted_of(pages, batch, layout, floats_of_bf16(q), layer)
    error = relative_error(floats_of_bf16(found[0]), wanted)
    return error, bool(np.array_equal(found[0], found[1]))


def random_pages(case: DecodeCase, batch: DecodeBatch, slots: int) -> NDArray[np.uint8]:
    """Draw pages `[slots][page_bytes]`; what lies behind a request's last token is no number."""
    layout = case.layout
    random = np.random.default_rng(case.seed + 1)
    raw = bf16_of(random.standard_normal(slots * layout.page_bytes // 2, np.float32))
    pages = raw.view(np.uint8).reshape(slots, layout.page_bytes)
    for end, length in zip(batch.indptr[1:], batch.last_page_len, strict=True):
        _poison(pages[batch.indices[end - 1]], layout, int(length))
    return pages


def wanted_of(
    pages: NDArray[np.uint8],
    batch: DecodeBatch,
    layout: PageLayout,
    q: NDArray[np.float64],
    layer: int,
) -> NDArray[np.float64]:
    """Return the reference's output for every request of a batch."""
    out = np.empty_like(q)
    for row, tokens in enumerate(batch.tokens(layout.page_tokens)):
        listed = batch.indices[batch.indptr[row] : batch.indptr[row + 1]]
        keys, values = keys_and_values([pages[slot] for slot in listed], layout, int(tokens), layer)
        out[row] = attention(q[row : row + 1], keys, values)[0]
    return out


def check_decode(
    context: Context, variants: Sequence[DecodeVariant | None], chosen: Sequence[DecodeCase]
) -> bool:
    """Check every variant on every case, print the worst of each, and say whether all passed."""
    passed = True
    with Stream() as stream:
        for variant in variants:
            worst, unlike = (0.0, ""), 0
            for case in chosen:
                error, same = error_of(context, case, variant, stream)
                worst = max(worst, (error, str(case)))
                unlike += not same
                if not error < MOST_ERROR:
                    print(f"  off by {error:.2e}: {case}", flush=True)
            passed &= worst[0] < MOST_ERROR and not unlike
            print(
                f"{len(chosen)} cases: worst error {worst[0]:.2e} ({worst[1]}), "
                f"{unlike} unlike when repeated: {variant or 'best variants'}",
                flush=True,
            )
    return passed


def _poison(page: NDArray[np.uint8], layout: PageLayout, tokens: int) -> None:
    """Make no number of what lies behind the last token of a page."""
    shape: tuple[Any, ...] = (layout.layers, 2, layout.kv_heads, layout.page_tokens, -1)
    if layout.head_major:
        page.reshape(shape)[:, :, :, tokens:] = NAN_BYTE
    else:
        shape = (layout.layers, 2, layout.page_tokens, layout.kv_heads, layout.row_bytes)
        page.reshape(shape)[:, :, tokens:] = NAN_BYTE
