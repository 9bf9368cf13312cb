"""Heads of one layer, and the memories that pages are in, as cases name them."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from vsim.sim.fidelity.gpu.case_checks import within

Tier = Literal["hbm", "peer", "host"]
TIERS: Final[tuple[str, ...]] = get_args(Tier)
KV_BYTES: Final = 2
"""Of one number: KV is bf16."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of one layer's attention, and the pages that its KV lies in.

    Args:
        heads: query heads.
        kv_heads: KV heads; a divisor of `heads`.
        head_dim: numbers of a head.
        page_tokens: tokens of a page.
    """

    heads: int
    kv_heads: int
    head_dim: int
    page_tokens: int = 16

    def __post_init__(self) -> None:
        for name in ("heads", "kv_heads", "head_dim", "page_tokens"):
            within(self, name, 1, 1 << 16)
        if self.heads % self.kv_heads:
            raise ValueError(f"heads is {self.heads}; write a multiple of kv_heads {self.kv_heads}")

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in one layer."""
        return 2 * self.kv_heads * self.head_dim * KV_BYTES

    @property
    def page_bytes(self) -> int:
        """A page's part of one layer."""
        return self.page_tokens * self.token_bytes
