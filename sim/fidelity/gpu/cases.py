"""Cases: one piece of work each that a GPU carries out and the simulator predicts.

Plain frozen values with JSON both ways, so that a machine without the simulator's libraries can
read and measure them. Memories are called by their tier's name: `hbm`, `peer` (another GPU's HBM)
and `host`.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

from vsim.sim.fidelity.gpu.case_checks import (
    MOST_BYTES,
    MOST_COUNT,
    check_attention,
    check_name,
    one_of,
    within,
)
from vsim.sim.fidelity.gpu.heads import TIERS, Heads, Tier
from vsim.sim.fidelity.gpu.loop_cases import LoopCase
from vsim.sim.fidelity.gpu.replay_cases import ReplayCase

Slow = Literal["peer", "host"]
Way = Literal["engine", "kernel"]
"""Who copies: a copy engine, or the multiprocessors."""
Timed = Literal["copies", "attention"]
Mapped = Literal["burst", "growth", "remap"]
Policy = Literal["static", "lru", "belady-balanced", "lp-rounding"]


@dataclass(frozen=True, slots=True)
class AttentionCase:
    """Decode attention over HBM alone: one query token a request, layer after layer.

    Args:
        name: what it is called, unique among cases.
        heads: of a layer.
        layers: how many layers' attention is launched, one after another, each over its own KV.
        contexts: tokens that each request attends to.
    """

    kind: ClassVar[str] = "attention"
    of_class: ClassVar[str] = "attention"

    name: str
    heads: Heads
    layers: int
    contexts: tuple[int, ...]

    def __post_init__(self) -> None:
        check_attention(self.name, self.layers, self.contexts)

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return 1


@dataclass(frozen=True, slots=True)
class MixedCase:
    """The same, with pages drawn at random from several tiers and read where they are.

    Args:
        name, heads, layers, contexts: as in `AttentionCase`.
        peer_share: share of the pages that lie on the peer.
        host_share: share of the pages that lie in host memory.
        seed: of the draw.
    """

    kind: ClassVar[str] = "mixed"
    of_class: ClassVar[str] = "mixed tiers"

    name: str
    heads: Heads
    layers: int
    contexts: tuple[int, ...]
    peer_share: float = 0.0
    host_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_attention(self.name, self.layers, self.contexts)
        for name in ("peer_share", "host_share"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share:g}; write a share from 0 to 1")
        within(self, "seed", 0, 1 << 31)
        if not 0 < self.peer_share + self.host_share <= 1:
            raise ValueError("peer_share and host_share are together above 0 and at most 1")

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return 2 if self.peer_share > 0 else 1


@dataclass(frozen=True, slots=True)
class CopyCase:
    """Copies between two tiers, one after another on one stream, alone or beside attention.

    Beside attention the one that is timed begins and ends while the other is under way.

    Args:
        name: what it is called.
        source, target: tiers.
        bytes: of each copy.
        count: how many copies; they are not side by side in memory.
        way: who copies.
        beside: attention over HBM that goes on meanwhile, or None.
        timed: what of the two is timed.
    """

    kind: ClassVar[str] = "copy"
    of_class: ClassVar[str] = "copies"

    name: str
    source: Tier
    target: Tier
    bytes: int
    count: int
    way: Way = "engine"
    beside: AttentionCase | None = None
    timed: Timed = "copies"

    def __post_init__(self) -> None:
        check_name(self.name)
        for name in ("source", "target"):
            one_of(self, name, TIERS)
        one_of(self, "way", get_args(Way))
        one_of(self, "timed", get_args(Timed))
        within(self, "bytes", 1, MOST_BYTES)
        within(self, "count", 1, MOST_COUNT)
        if self.source == self.target:
            raise ValueError(f"target is the source, {self.source}; write another tier")
        if self.timed == "attention" and self.beside is None:
            raise ValueError("timed is 'attention', and there is none beside; write beside")

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return 2 if "peer" in (self.source, self.target) else 1


@dataclass(frozen=True, slots=True)
class MappingCase:
    """Calls of virtual memory management, on the host's clock.

    `burst`: reserve a range, create all chunks, map them, and set access over all of them at once.
    `growth`: the same in a range that was reserved, `at_once` chunks at a time. `remap`: unmap
    chunks that are mapped, map others under the same addresses, and set access over all at once.
    Memory that was released before has been cleared, but for what the case releases right before.

    Args:
        name: what it is called.
        mapped: what is done.
        tier: where the chunks are.
        chunk_bytes: of each chunk, a multiple of 2 MiB.
        count: chunks in all.
        at_once: chunks of one growth; else equal to `count`.
        released: chunks of HBM that are released right before, uncounted.
        released_chunk_bytes: of each of these; 0 where there are none.
        round_ns: what a round of small calls took right before, on the host that measured it; 0
            where nobody knows.
    """

    kind: ClassVar[str] = "mapping"
    of_class: ClassVar[str] = "mapping"

    name: str
    mapped: Mapped
    tier: Tier
    chunk_bytes: int
    count: int
    at_once: int
    released: int = 0
    released_chunk_bytes: int = 0
    round_ns: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        one_of(self, "mapped", get_args(Mapped))
        one_of(self, "tier", TIERS)
        within(self, "chunk_bytes", 1 << 21, MOST_BYTES)
        within(self, "count", 1, MOST_COUNT)
        within(self, "at_once", 1, self.count)
        if self.chunk_bytes % (1 << 21):
            raise ValueError(f"chunk_bytes is {self.chunk_bytes}; write a multiple of 2 MiB")
        if self.count % self.at_once:
            raise ValueError(f"at_once is {self.at_once}; write a divisor of count {self.count}")
        if self.mapped != "growth" and self.at_once != self.count:
            raise ValueError(f"at_once is {self.at_once}; in a {self.mapped} write {self.count}")
        within(self, "released", 0, MOST_COUNT)
        least = 1 << 21 if self.released else 0
        within(self, "released_chunk_bytes", least, MOST_BYTES if self.released else 0)
        if self.released_chunk_bytes % (1 << 21):
            found = self.released_chunk_bytes
            raise ValueError(f"released_chunk_bytes is {found}; write a multiple of 2 MiB")
        within(self, "round_ns", 0, 10**9)

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return 2 if self.tier == "peer" else 1

    @property
    def released_bytes(self) -> int:
        """Bytes of HBM that are released right before."""
        return self.released * self.released_chunk_bytes


@dataclass(frozen=True, slots=True)
class SparseCase:
    """Sparse decode: recorded attention, its pages placed by a policy on HBM and a slower tier.

    Each layer and KV head of the recording is a request with one KV head. A step attends to the
    selected pages where they are; what the policy moves is copied beside, see `plan`.

    Args:
        name: what it is called.
        recording: a file of traces/recorded, without its ending.
        sparsity: share of the pages that is left out, by attention mass.
        policy: who places.
        slow: the slower tier.
        hbm_share: share of the pages that HBM holds.
        steps: decode steps, from the recording's first.
        replicas: copies of the whole at addresses of their own.
        heads: of one KV head's group; pages are as large as its.
        planned_hbm_bytes_per_s, planned_slow_bytes_per_s: bandwidths that the policy counts with,
            kept apart from any machine's so that the schedule stays what was measured.
    """

    kind: ClassVar[str] = "sparse"
    of_class: ClassVar[str] = "sparse decode"

    name: str
    recording: str
    sparsity: float
    policy: Policy
    slow: Slow
    hbm_share: float
    steps: int
    replicas: int
    heads: Heads
    planned_hbm_bytes_per_s: float
    planned_slow_bytes_per_s: float

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.recording or not all(c.isalnum() or c == "_" for c in self.recording):
            raise ValueError(f"recording is {self.recording!r}; write a name like source_code")
        one_of(self, "policy", get_args(Policy))
        one_of(self, "slow", ("peer", "host"))
        for name in ("sparsity", "hbm_share"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share:g}; write a share from 0 to 1")
        within(self, "steps", 1, 1 << 16)
        within(self, "replicas", 1, 1 << 12)
        for name in ("planned_hbm_bytes_per_s", "planned_slow_bytes_per_s"):
            if not 1 <= getattr(self, name) <= 1e15:
                raise ValueError(f"{name} is {getattr(self, name):g}; write bytes a second")
        if self.heads.kv_heads != 1:
            raise ValueError(f"heads.kv_heads is {self.heads.kv_heads}; a column has 1")

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return 2 if self.slow == "peer" else 1


GpuCase = AttentionCase | MixedCase | CopyCase | MappingCase | SparseCase | LoopCase | ReplayCase
CASES: Final[tuple[type[GpuCase], ...]] = get_args(GpuCase)
CLASS_NAMES: Final = tuple(case.of_class for case in CASES)
