"""`TableKernels`: times of kernels from measured tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.machine.served import Served
from vsim.sim.timing.collectives import (
    Collective,
    Exchange,
    Mode,
    collective_ns,
    expert_exchange_ns,
)
from vsim.sim.timing.constant_kernels import ConstantKernels
from vsim.sim.timing.decode_attention import (
    decode_attention_bound,
    decode_attention_ns,
    decode_attention_surface,
)
from vsim.sim.timing.decode_shares import shares_of
from vsim.sim.timing.efficiency import Surface
from vsim.sim.timing.experts import ExpertShape, even_surface, experts_surface, independent_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.latent_attention import (
    latent_decode_surface,
    latent_prefill_surface,
    latent_product_ns,
)
from vsim.sim.timing.prefill_attention import prefill_attention_ns, prefill_attention_surface
from vsim.sim.timing.prefix_attention import prefix_attention_surface
from vsim.sim.timing.products import product_ns, product_surface
from vsim.sim.timing.roofline import Floats, Peaks
from vsim.sim.timing.served import served_attention_ns, served_experts_ns
from vsim.traces.schema import KERNELS

Made = TypeVar("Made", Surface, Surface | None)


@dataclass(frozen=True, slots=True)
class TableKernels:
    """Times from measured tables, and from constants for kernels that these lack. See `Kernels`.

    It keeps the efficiencies of shapes that it was asked for, and changes in nothing else.

    Args:
        tables: what was measured.
        constants: for kernels that were not measured. A table's efficiencies are taken against
            its peaks.
        served: where kernels take another time within a server's steps than in the tables.
    """

    tables: KernelTables
    constants: ConstantKernels
    served: Served | None = None
    _lacking: frozenset[str] = field(init=False)
    _slowdown: float = field(init=False)
    _known: dict[tuple[object, ...], Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        lacking = frozenset(name for name in KERNELS if not self.tables.has(name))
        object.__setattr__(self, "_lacking", lacking)
        slowdown = None if self.served is None else self.served.slowdown
        object.__setattr__(self, "_slowdown", 1.0 if slowdown is None else slowdown.value)

    @property
    def peaks(self) -> Peaks:
        """The GPU's."""
        return self.constants.peaks

    @property
    def source(self) -> str:
        """Where the times are from."""
        about = self.tables.metadata
        return f"tables of {about.get('device', '?')} under {about.get('versions', '?')}"

    @property
    def rough(self) -> Sequence[str]:
        """Those that the tables lack.

        Of attention over latents, tables of grouped attention stand in where there are some.
        """
        return tuple(name for name in KERNELS if name in self._lacking)

    def product_ns(self, precision: str, m: ArrayLike, n: int, k: int) -> Floats:
        """See `Kernels`."""
        if "products" in self._lacking:
            return self.constants.product_ns(precision, m, n, k)
        known = self._surface(product_surface, precision, n, k)
        return self._slower(product_ns(self.tables, self.peaks, precision, m, n, k, known))

    def decode_attention_ns(
        self,
        kv_precision: str,
        batch: ArrayLike,
        context_tokens_mean: ArrayLike,
        shape: HeadShape,
    ) -> Floats:
        """See `Kernels`."""
        asked = kv_precision, batch, context_tokens_mean, shape
        if "decode_attention" in self._lacking and not self._has_latents("decode", shape):
            return self.constants.decode_attention_ns(*asked)
        latent = self._has_latents("decode", shape)
        make = latent_decode_surface if latent else decode_attention_surface
        known = self._surface(make, kv_precision, shape)
        alone = decode_attention_ns(self.tables, self.peaks, *asked, known)
        served = None if self.served is None else self.served.attention_of(shape.head_dim)
        if served is None or latent or kv_precision != "bf16":
            return self._slower(alone)
        bound = decode_attention_bound(self.peaks, *asked)
        return self._slower(served_attention_ns(alone, served, batch, shape.kv_heads, bound))

    def prefill_attention_ns(
        self, kv_precision: str, new_tokens: ArrayLike, pairs: ArrayLike, shape: HeadShape
    ) -> Floats:
        """See `Kernels`."""
        asked = kv_precision, new_tokens, pairs, shape
        if "prefill_attention" in self._lacking and not self._has_latents("prefill", shape):
            return self.constants.prefill_attention_ns(*asked)
        latent = self._has_latents("prefill", shape)
        make = latent_prefill_surface if latent else prefill_attention_surface
        known = self._surface(make, kv_precision, shape)
        behind = None if latent else self._surface(prefix_attention_surface, kv_precision, shape)
        return self._slower(prefill_attention_ns(self.tables, self.peaks, *asked, known, behind))

    def latent_product_ns(
        self, precision: str, tokens: ArrayLike, heads: int, inputs: int, outputs: int
    ) -> Floats:
        """See `Kernels`."""
        asked = precision, tokens, heads, inputs, outputs
        if "latent_products" in self._lacking:
            return self.constants.latent_product_ns(*asked)
        return self._slower(latent_product_ns(self.tables, self.peaks, *asked))

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        shape: ExpertShape,
        choosing: ArrayLike | None = None,
    ) -> Floats:
        """See `Kernels`."""
        asked = precision, tokens, shape, choosing
        if "experts" in self._lacking:
            return self.constants.experts_ns(*asked)
        known = tuple(
            self._surface(make, precision, shape) for make in (experts_surface, even_surface)
        )
        alone = independent_ns(self.tables, self.peaks, *asked, (known[0], known[1]))
        served = None if self.served is None else self.served.experts
        return self._slower(
            alone if served is None else served_experts_ns(alone, served, tokens, shape)
        )

    def collective_ns(self, collective: Collective, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`."""
        if collective in self._lacking:
            return self.constants.collective_ns(collective, gpus, size_bytes)
        return collective_ns(self.tables, collective, gpus, size_bytes)

    def expert_exchange_ns(
        self,
        direction: Exchange,
        tokens: ArrayLike,
        hidden: int,
        experts_per_token: int,
        expert_parallel: int,
        mode: Mode = "low_latency",
    ) -> Floats:
        """See `Kernels`."""
        asked = direction, tokens, hidden, experts_per_token, expert_parallel, mode
        if direction in self._lacking:
            return self.constants.expert_exchange_ns(*asked)
        return expert_exchange_ns(self.tables, *asked)

    def _slower(self, ns: Floats) -> Floats:
        """As long as the kernel takes on this machine."""
        return ns if self._slowdown == 1.0 else ns * self._slowdown

    def _has_latents(self, phase: str, shape: HeadShape) -> bool:
        """Whether a shape is of latents, and such were measured."""
        return shape.latent and f"{phase}_latents" not in self._lacking

    def _surface(self, make: Callable[..., Made], *asked: object) -> Made:
        key = (make, *asked)
        if key not in self._known:
            self._known[key] = make(self.tables, self.peaks, *asked)
        found: Made = self._known[key]
        return found


def ragged_factor(
    kernels: object, shape: HeadShape, even_ns: float, contexts: Sequence[int]
) -> float:
    """By how much a layer's decode attention takes longer than that of as many equal contexts.

    Args:
        kernels: of tables that say how batches are shared out; of others it is 1.
        shape: its heads on this GPU.
        even_ns: what the equal contexts take.
        contexts: of each request, in the batch's order.
    """
    shares = shares_of(kernels.tables, shape) if isinstance(kernels, TableKernels) else None
    return 1.0 if shares is None else shares.factor(even_ns, contexts)
