"""The cases that are measured: a fixed list, none of which a calibration takes.

A calibration times batches of 1, 4, 16, 64 and 256 requests at contexts of 512 to 131,072 tokens in
powers of four, mixes of 1/64 to 1 in powers of two, copies of 64 KiB to 256 MiB in powers of four,
and 1 to 512 chunks of 2 MiB to 2 GiB (`vsim.hwbackend.calibration`). These lie between and beyond.

Layers are as many as keep a case's KV well above a GPU's L2 and within its memory: a step over so
many layers reads each one's KV once, as a model's does.
"""

from collections.abc import Iterator
from typing import Final

from vsim.sim.fidelity.gpu.cases import (
    AttentionCase,
    CopyCase,
    GpuCase,
    Mapped,
    MappingCase,
    MixedCase,
    Policy,
    Slow,
    SparseCase,
    Timed,
)
from vsim.sim.fidelity.gpu.heads import Heads, Tier
from vsim.sim.fidelity.gpu.recorded_loops import recorded_loops

LLAMA_2_7B: Final = Heads(32, 32, 128)
LLAMA_2_70B: Final = Heads(64, 8, 128)
LLAMA_3_1_8B: Final = Heads(32, 8, 128)
"""Mixtral 8x7B's too."""
SMOLLM2: Final = Heads(9, 3, 64)
_COLUMN: Final = Heads(4, 1, 128)
"""One KV head of a model with four queries a KV head."""

_KIB, _MIB = 1 << 10, 1 << 20


def case_list() -> tuple[GpuCase, ...]:
    """Every case, in the order in which they are measured."""
    found: tuple[GpuCase, ...] = (
        *_even(),
        *_ragged(),
        *_mixed(),
        *_copies(),
        *_copies_beside(),
        *_mapping(),
        *_sparse(),
        *recorded_loops(),
    )
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases have one name"
    return found


def _even() -> Iterator[AttentionCase]:
    """Batches of one length each; lengths that are no whole pages among them."""
    shapes: tuple[tuple[str, Heads, tuple[tuple[int, int, int], ...]], ...] = (
        (
            "Llama-3.1-8B",
            LLAMA_3_1_8B,
            (
                # requests, context, layers
                (2, 1_000, 32),
                (3, 3_000, 32),
                (2, 24_000, 32),
                (8, 1_500, 32),
                (8, 6_000, 32),
                (12, 12_345, 16),
                (24, 5_000, 16),
                (48, 1_024, 32),
                (96, 2_500, 16),
                (128, 1_000, 16),
                (200, 700, 16),
                (256, 1_024, 16),
                (6, 100_000, 4),
                (1, 250_007, 8),
                (2, 500_000, 2),
                (1, 1_000_000, 2),
            ),
        ),
        (
            "Llama-2-7B",
            LLAMA_2_7B,
            ((2, 2_000, 16), (12, 3_001, 16), (40, 1_800, 8), (100, 4_000, 2)),
        ),
        (
            "Llama-2-70B",
            LLAMA_2_70B,
            ((2, 3_500, 32), (20, 6_000, 16), (80, 1_000, 16), (32, 20_000, 4)),
        ),
        (
            "SmolLM2",
            SMOLLM2,
            ((6, 6_000, 30), (32, 1_700, 30), (180, 1_000, 30), (250, 8_000, 10)),
        ),
    )
    for model, heads, points in shapes:
        for requests, context, layers in points:
            name = f"{model}, {requests} x {context:,}"
            yield AttentionCase(name, heads, layers, (context,) * requests)
    for page_tokens in (32, 128):
        heads = Heads(32, 8, 128, page_tokens)
        name = f"Mixtral, 20 x 7,777, pages of {page_tokens}"
        yield AttentionCase(name, heads, 16, (7_777,) * 20)


def _ragged() -> Iterator[AttentionCase]:
    """Batches of many lengths: what a continuous batch looks like."""
    spread = tuple(200 + 37 * i * i % 7_919 for i in range(48))
    doubling = tuple(64 << i for i in range(12))
    one_long = (60_000, *(500,) * 31)
    two_kinds = tuple(12_000 if i % 4 == 0 else 600 for i in range(64))
    yield AttentionCase("Llama-3.1-8B, 48 of 200 to 8,000", LLAMA_3_1_8B, 16, spread)
    yield AttentionCase("Llama-3.1-8B, 12 of 64 to 131,072", LLAMA_3_1_8B, 8, doubling)
    yield AttentionCase("Llama-3.1-8B, 31 x 500 beside 60,000", LLAMA_3_1_8B, 16, one_long)
    yield AttentionCase("Llama-2-70B, 64 of 600 or 12,000", LLAMA_2_70B, 8, two_kinds)
    yield AttentionCase("SmolLM2, 48 of 200 to 8,000", SMOLLM2, 30, spread)


def _mixed() -> Iterator[MixedCase]:
    batches = ((24, 8_000), (10, 30_000), (150, 1_300))
    peer = (0.01, 0.03, 0.05, 0.06, 0.07, 0.10, 0.40)
    for at, (requests, context) in enumerate(batches):
        contexts = (context,) * requests
        for share in peer if at == 0 else peer[at::2]:
            name = f"{requests} x {context:,}, {100 * share:g} % on the peer"
            yield MixedCase(name, LLAMA_3_1_8B, 8, contexts, peer_share=share, seed=1)
        for share in (0.004, 0.012, 0.02, 0.05) if at == 0 else (0.012, 0.05):
            name = f"{requests} x {context:,}, {100 * share:g} % in host memory"
            yield MixedCase(name, LLAMA_3_1_8B, 4, contexts, host_share=share, seed=2)
    contexts = (9_000,) * 20
    name = "Llama-2-70B, 20 x 9,000, 25 % on the peer"
    yield MixedCase(name, LLAMA_2_70B, 8, contexts, peer_share=0.25, seed=3)
    name = "24 x 8,000, 5 % on the peer, 0.6 % in host memory"
    yield MixedCase(name, LLAMA_3_1_8B, 8, (8_000,) * 24, 0.05, 0.006, seed=4)


_PAIRS: Final[tuple[tuple[Tier, Tier], ...]] = (
    ("host", "hbm"),
    ("hbm", "host"),
    ("peer", "hbm"),
    ("hbm", "peer"),
)
_LEADS: Final = {"hbm": "HBM", "peer": "peer", "host": "host"}


def _copies() -> Iterator[CopyCase]:
    sizes = ((96 * _KIB, 200), (3 * _MIB, 24), (160 * _MIB, 3))
    for source, target in _PAIRS:
        way = f"{_LEADS[source]} to {_LEADS[target]}"
        for size, count in sizes:
            name = f"{count} x {_size(size)}, {way}"
            yield CopyCase(name, source, target, size, count)
        name = f"600 x {_size(384 * _KIB)}, {way}, by kernel"
        yield CopyCase(name, source, target, 384 * _KIB, 600, way="kernel")


def _copies_beside() -> Iterator[CopyCase]:
    batch = AttentionCase("24 x 6,000", LLAMA_3_1_8B, 8, (6_000,) * 24)
    both: tuple[Timed, ...] = ("copies", "attention")
    for source, target in _PAIRS:
        for timed in both:
            way = f"{_LEADS[source]} to {_LEADS[target]}"
            what = "copies beside attention" if timed == "copies" else "attention beside copies"
            yield CopyCase(
                f"{what}, 16 x 24 MiB, {way}",
                source,
                target,
                24 * _MIB,
                16,
                beside=batch,
                timed=timed,
            )


def _mapping() -> Iterator[MappingCase]:
    bursts: tuple[tuple[Tier, int, int], ...] = (
        ("hbm", 4, 24),
        ("hbm", 2, 300),
        ("hbm", 64, 30),
        ("hbm", 256, 12),
        ("peer", 4, 100),
        ("peer", 64, 24),
        ("host", 4, 100),
        ("host", 64, 12),
    )
    for tier, mib, count in bursts:
        name = f"burst of {count} x {mib} MiB, {_LEADS[tier]}"
        yield MappingCase(name, "burst", tier, mib * _MIB, count, count)
    yield MappingCase("growth by 1 of 60 x 4 MiB, HBM", "growth", "hbm", 4 * _MIB, 60, 1)
    yield MappingCase("growth by 12 of 96 x 2 MiB, HBM", "growth", "hbm", 2 * _MIB, 96, 12)
    yield MappingCase("growth by 2 of 20 x 96 MiB, HBM", "growth", "hbm", 96 * _MIB, 20, 2)
    yield MappingCase("remap of 1 x 4 MiB, HBM", "remap", "hbm", 4 * _MIB, 1, 1)
    yield MappingCase("remap of 100 x 2 MiB, HBM", "remap", "hbm", 2 * _MIB, 100, 100)
    yield MappingCase("remap of 24 x 64 MiB, HBM", "remap", "hbm", 64 * _MIB, 24, 24)
    yield MappingCase("remap of 24 x 4 MiB, peer", "remap", "peer", 4 * _MIB, 24, 24)
    behind: tuple[tuple[str, Mapped, int, int, int, int, int], ...] = (
        # what, how, chunks, MiB of each, at once, chunks released, MiB of each
        ("burst of 12 x 256 MiB", "burst", 12, 256, 12, 12, 256),
        ("burst of 24 x 4 MiB", "burst", 24, 4, 24, 20, 96),
        ("growth by 2 of 20 x 96 MiB", "growth", 20, 96, 2, 20, 96),
        ("remap of 24 x 64 MiB", "remap", 24, 64, 24, 10, 176),
    )
    for what, mapped, count, mib, at_once, released, each in behind:
        name = f"{what}, HBM, behind a release of {released} x {each} MiB"
        sizes = (mib * _MIB, count, at_once, released, each * _MIB)
        yield MappingCase(name, mapped, "hbm", *sizes)


def _sparse() -> Iterator[SparseCase]:
    slower: tuple[tuple[Slow, float, float], ...] = (("host", 50e9, 0.4), ("peer", 340e9, 0.25))
    policies: tuple[Policy, ...] = ("static", "lru", "belady-balanced", "lp-rounding")
    for slow, rate, share in slower:
        for policy in policies:
            yield SparseCase(
                f"source_code, 20 % read, {share:.0%} in HBM, {slow}: {policy}",
                "source_code",
                0.8,
                policy,
                slow,
                share,
                steps=48,
                replicas=12,
                heads=_COLUMN,
                planned_hbm_bytes_per_s=4.0e12,
                planned_slow_bytes_per_s=rate,
            )
    for policy in policies[::2]:
        yield SparseCase(
            f"dialogue, 10 % read, 30% in HBM, host: {policy}",
            "dialogue",
            0.9,
            policy,
            "host",
            0.3,
            steps=64,
            replicas=24,
            heads=_COLUMN,
            planned_hbm_bytes_per_s=4.0e12,
            planned_slow_bytes_per_s=50e9,
        )


def _size(count: int) -> str:
    return f"{count // _MIB} MiB" if count >= _MIB else f"{count // _KIB} KiB"
