"""Plan: the points that a calibration measures, as data.

Cases that predictions are judged by (`vsim.hwbackend.cases`) take other contexts, batches, sizes,
chunks and shares than these: here all are powers of two, and for decode attention, and some chunks,
also three times such: powers of two alone share out evenly over a GPU's blocks, and tables of
nothing else are 2 % too fast for batches that do not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from vsim.traces.gpu_samples import Point, point

KIB, MIB, GIB = 2**10, 2**20, 2**30

PAGE_TOKENS: Final = 16
WHOLE: Final = 1 << 12
"""Shares of pages are counted in so many parts."""

Heads = tuple[int, int, int]
"""Query heads, KV heads, head's size."""
LLAMA_2_7B: Final[Heads] = (32, 32, 128)
LLAMA_2_70B: Final[Heads] = (64, 8, 128)
LLAMA_3_1_8B: Final[Heads] = (32, 8, 128)
"""Mixtral-8x7B's too."""
SMOLLM2_135M: Final[Heads] = (9, 3, 64)

ROUTES: Final = ("hbm-hbm", "host-hbm", "hbm-host", "peer-hbm", "hbm-peer")
"""Where a copy reads and where it writes."""
DISK_ROUTES: Final = ("hbm-nvme", "nvme-hbm")
BOTH_WAYS: Final = ("host-hbm", "peer-hbm")
VMM_CALLS: Final = (
    "reserve",
    "create",
    "map",
    "set_access",
    "set_access_again",
    "unmap",
    "release",
    "grow",
    "round",
)
"""And what `measuring.warm_calls` does right before them, which is the host's speed then."""
GROWN_AT_ONCE: Final = 8
"""Chunks at most by which the calibration grows a range."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        points: in the order in which they are measured; none twice.
        repeats: samples of each point, where it does not take long.
        watch_s: how long power and clock are watched under each load.
    """

    points: tuple[Point, ...]
    repeats: int
    watch_s: float

    def of(self, probe: str) -> Sequence[Point]:
        """Points of one probe."""
        return [each for each in self.points if each.probe == probe]

    def only(self, probes: Sequence[str]) -> "Plan":
        """The part of it that belongs to some probes."""
        return replace(self, points=tuple(each for each in self.points if each.probe in probes))


def full_plan() -> Plan:
    """All of it: under four minutes on one GPU or two."""
    sizes = tuple(4**at * 64 * KIB for at in range(7))  # 64 KiB to 256 MiB
    points = [
        *_power(),
        *_launches(),
        *_vmm(),
        *_clearing((4, 8, 16, 32), (2, 4, 8)),
        *_reads((16 * MIB, 256 * MIB, 2 * GIB), (1, 2, 4)),
        *_copies(sizes, (16, 64, 256), (sizes[0], 128 * KIB, *sizes[1:4])),
        *_decodes(
            (LLAMA_3_1_8B, LLAMA_2_70B, LLAMA_2_7B, SMOLLM2_135M),
            (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
            (
                128,
                384,
                512,
                1536,
                2048,
                4096,
                6144,
                8192,
                16384,
                24576,
                32768,
                65536,
                131072,
                524288,
            ),
        ),
        *_ragged((LLAMA_3_1_8B, LLAMA_2_70B, LLAMA_2_7B, SMOLLM2_135M), _RAGGED),
        *_prefills(
            (LLAMA_3_1_8B, LLAMA_2_70B, LLAMA_2_7B, SMOLLM2_135M),
            (1, 4),
            (128, 512, 2048, 8192),
            (2048, 8192, 32768),
        ),
        *_mixes(((16, 8192), (64, 8192), (64, 2048), (4, 32768))),
        *_besides(),
        *_paging(),
        *_products((1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)),
        *_experts((1, 16, 64, 256, 1024, 4096)),
        *_sums(tuple(2**at * KIB for at in range(19))),  # to 256 MiB
    ]
    return Plan(tuple(points), 9, 1.5)


def quick_plan() -> Plan:
    """A few points of each kind, to see that all of it works: half a minute."""
    points = [
        *_power(),
        *_launches(),
        *(each for each in _vmm() if each["chunk"] * each["chunks"] <= 64 * MIB),
        *_clearing((8, 32), ()),
        *_reads((256 * MIB, 2 * GIB), (1,)),
        *_copies((64 * KIB, 4 * MIB, 256 * MIB), (16,), (64 * KIB, 1 * MIB)),
        *_decodes((LLAMA_3_1_8B,), (1, 16, 64), (2048, 8192)),
        *_ragged((LLAMA_3_1_8B,), _RAGGED[:1]),
        *_prefills((LLAMA_3_1_8B,), (1,), (512, 2048), (8192,)),
        *_mixes(((64, 2048),)),
        *_besides(),
        *_paging(),
        *_products((1, 64, 1024)),
        *_experts((64, 1024)),
        *_sums((16 * KIB, MIB, 64 * MIB)),
    ]
    return Plan(tuple(points), 5, 0.3)


def with_disk(plan: Plan) -> Plan:
    """The same, and copies between HBM and a disk: some ten seconds more."""
    pieces = (*product((256 * KIB, 2 * MIB, 16 * MIB), (1, 16, 64)), (256 * MIB, 1))
    points = [
        point("copy", f"{route} engine", bytes=size, count=count)
        for route in DISK_ROUTES for size, count in pieces
    ]  # fmt: skip
    return replace(plan, points=(*plan.points, *points))


def _power() -> Iterator[Point]:
    for load in ("idle", "read", "attention", "products"):
        yield point("power", load)
        yield point("clock", load)


def _launches() -> Iterator[Point]:
    yield point("launch", "kernel", kernels=256)  # one after another from the host
    yield point("launch", "graph kernel", kernels=256)  # of a graph, each behind the other
    for kernels in (1, 16, 256):
        yield point("launch", "graph", kernels=kernels)  # the host's call
    yield point("launch", "event")  # the host's call
    yield point("launch", "round trip")  # launch, and wait for its end


def _vmm() -> Iterator[Point]:
    """Chunks by size and number, 4 GiB in all at most. Host memory is slow to make: 0.2 s a GiB.

    From 64 MiB on a set_access takes longer the larger a chunk is, and where two GPUs are linked
    one of 512 MiB takes five times as long to create; so more sizes there.
    """
    sizes = tuple(4**at * 2 * MIB for at in range(6))  # 2 MiB to 2 GiB
    for place in ("hbm", "peer", "host"):
        if place == "host":
            kinds = list(product(sizes[:-1], (1, 16)))
            kinds += product(sizes[:2], (64,))
        else:
            kinds = list(product(sizes, (1, 2, 8, 32, 128, 512)))
            kinds += product((48 * MIB, 192 * MIB, 384 * MIB), (1, 8))
        for size, count in kinds:
            if size * count > 4 * GIB:
                continue
            for call in VMM_CALLS:
                few = count <= GROWN_AT_ONCE and 2 * size * count <= 4 * GIB
                if (call != "grow" or few) and (call not in ("grow", "round") or place != "host"):
                    yield point("vmm", f"{place} {call}", chunk=size, chunks=count)


def _clearing(of_128_mib: Sequence[int], of_512_mib: Sequence[int]) -> Iterator[Point]:
    """Chunks that are released and cleared, by number. Small ones take longer to release."""
    for size, counts in ((128 * MIB, of_128_mib), (512 * MIB, of_512_mib)):
        for count in counts:
            for what in ("end", "turn"):
                yield point("clearing", f"hbm {what}", chunk=size, chunks=count)


def _reads(sizes: Sequence[int], parts: Sequence[int]) -> Iterator[Point]:
    """Kernels that only read, over all multiprocessors and over 1/16 of them."""
    for place in ("hbm", "peer", "host"):
        for size in sizes:
            if place == "hbm" or size < GIB:
                yield point("read", place, bytes=size, sixteenths=16)
        for sixteenths in parts:
            yield point("read", place, bytes=256 * MIB, sixteenths=sixteenths)
        yield point("latency", place, bytes=256 * MIB if place == "host" else GIB)
    yield point("write", "hbm", bytes=min(max(sizes), GIB), sixteenths=16)


def _copies(sizes: Sequence[int], counts: Sequence[int], batched: Sequence[int]) -> Iterator[Point]:
    """Copies alone, in batches, and both ways at once."""
    for route in ROUTES:
        for size in sizes:
            yield point("copy", f"{route} engine", bytes=size, count=1)
        for size, count in product(batched, counts):
            if size * count > 256 * MIB:
                continue
            yield point("copy", f"{route} engine", bytes=size, count=count)
            yield point("copy", f"{route} kernel", bytes=size, count=count)
    for route in BOTH_WAYS:
        for size in sizes:
            if size >= MIB:
                yield point("copy", f"{route} both ways", bytes=size, count=1)


def _besides() -> Iterator[Point]:
    """A copy and attention at once, some of whose pages are where the copy reads; and each alone.

    Of 64 requests of 2,048 tokens. Loads that take turns on a link say how it is shared.
    """
    slow = {"host-hbm": WHOLE // 16, "peer-hbm": WHOLE // 4}
    shares = {route: (0, slow[route]) if route in slow else (0,) for route in ROUTES[1:]}
    for route, parts in shares.items():
        for share, what in product(parts, ("copy", "attention", "copy alone", "attention alone")):
            yield point("beside", f"{route} {what}", bytes=64 * MIB, share=share)


def _paging() -> Iterator[Point]:
    """Pages of 2 MiB, alone and beside products that keep HBM busy."""
    for route, what in product(ROUTES[1:], ("alone", "beside")):
        yield point("paging", f"{route} {what}", bytes=2 * MIB, count=64)


def _decodes(
    shapes: Sequence[Heads], batches: Sequence[int], contexts: Sequence[int]
) -> Iterator[Point]:
    for shape, batch, context in product(shapes, batches, contexts):
        if kv_bytes(shape, batch * context) <= 8 * GIB:
            yield point("decode_attention", "hbm", batch=batch, context=context, **_heads(shape))


_RAGGED: Final = (
    (32, 512, 32, 8192),
    (64, 512, 16, 16384),
    (32, 256, 32, 4096),
    (32, 512, 1, 65536),
    (64, 128, 16, 8192),
    (64, 1024, 64, 8192),
    (128, 256, 8, 8192),
    (16, 256, 16, 32768),
    (8, 128, 32, 4096),
)
"""Short requests, their context, long ones, theirs."""


def _ragged(
    shapes: Sequence[Heads], batches: Sequence[tuple[int, int, int, int]]
) -> Iterator[Point]:
    for shape, (shorts, short, longs, long) in product(shapes, batches):
        if kv_bytes(shape, shorts * short + longs * long) <= 8 * GIB:
            for order in ("together", "spread"):
                yield point(
                    "ragged_attention", order,
                    shorts=shorts, short=short, longs=longs, long=long, **_heads(shape),
                )  # fmt: skip


def _prefills(
    shapes: Sequence[Heads],
    prompts: Sequence[int],
    tokens: Sequence[int],
    prefixes: Sequence[int],
) -> Iterator[Point]:
    """Prompts from nothing, and single chunks behind prefixes."""
    for shape in shapes:
        for count, new in product(prompts, tokens):
            yield point(
                "prefill_attention", "hbm", prompts=count, tokens=new, prefix=0, **_heads(shape)
            )
        for new, prefix in product(tokens, prefixes):
            yield point(
                "prefill_attention", "hbm", prompts=1, tokens=new, prefix=prefix, **_heads(shape)
            )


def _mixes(loads: Sequence[tuple[int, int]]) -> Iterator[Point]:
    """Decodes whose pages lie at random in HBM and in a second tier, by its share of WHOLE."""
    shares = {
        "peer": (0, 64, 128, 256, 512, 1024, 2048, 4096),
        "host": (0, 8, 16, 32, 64, 128, 256),
    }
    for (batch, context), (place, parts) in product(loads, shares.items()):
        for share in parts:
            yield point(
                "mixed_attention", place,
                batch=batch, context=context, share=share, **_heads(LLAMA_3_1_8B),
            )  # fmt: skip


PRODUCT_SHAPES: Final = (
    (6144, 4096),  # queries, keys and values of Llama-3.1-8B and Mixtral-8x7B
    (4096, 4096),  # what attention gives
    (28672, 4096),  # gate and up of Llama-3.1-8B
    (4096, 14336),  # down
    (128256, 4096),  # LM head of Llama-3.1-8B
    (32000, 4096),  # LM head of Mixtral-8x7B
    (960, 576),  # SmolLM2-135M, in the same order
    (576, 576),
    (3072, 576),
    (576, 1536),
    (49152, 576),
)
"""Outputs n and inputs k."""
MIXTRAL_EXPERTS: Final = {"hidden": 4096, "intermediate": 14336, "per_token": 2, "experts": 8}


def _products(tokens: Sequence[int]) -> Iterator[Point]:
    for (n, k), m in product(PRODUCT_SHAPES, tokens):
        yield point("products", "bf16", m=m, n=n, k=k)


def _experts(tokens: Sequence[int]) -> Iterator[Point]:
    for m in tokens:
        yield point("experts", "balanced", tokens=m, **MIXTRAL_EXPERTS)


def _sums(sizes: Sequence[int]) -> Iterator[Point]:
    for size in sizes:
        yield point("all_reduce", "nccl", bytes=size, gpus=2)


def _heads(shape: Heads) -> dict[str, int]:
    heads, kv_heads, head_dim = shape
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}


def kv_bytes(shape: Heads, tokens: int) -> int:
    """Keys and values of so many tokens in one layer, bf16."""
    _, kv_heads, head_dim = shape
    return tokens * 2 * kv_heads * head_dim * 2
