"""ReplayCase: operations of one class that `vsim replay --gpu` carried out, and what they took."""

from dataclasses import dataclass
from typing import ClassVar, Final

from vsim.sim.fidelity.gpu.case_checks import (
    MOST_BYTES,
    MOST_COUNT,
    MOST_TOKENS,
    check_name,
    one_of,
    within,
)
from vsim.sim.fidelity.gpu.heads import TIERS, Tier

MOST_GPUS: Final = 1024
"""Of a case; what its own text says is no reason to lay out more."""


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """What a step computed.

    Args:
        new_tokens: that each request computed.
        contexts: tokens of each after it, the new ones included.
        sampled: output tokens that it gave.
        peer_bytes: of keys and values, all layers and GPUs, that it read on the peer.
        host_bytes: the same in host memory.
    """

    new_tokens: tuple[int, ...]
    contexts: tuple[int, ...]
    sampled: int
    peer_bytes: int = 0
    host_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.new_tokens or len(self.new_tokens) != len(self.contexts):
            raise ValueError("contexts has another length than new_tokens; write one a request")
        for new, context in zip(self.new_tokens, self.contexts, strict=True):
            if not 1 <= new <= context <= MOST_TOKENS:
                raise ValueError(f"new_tokens holds {new} of {context}; write 1 to the context")
        within(self, "sampled", 0, len(self.contexts))
        for name in ("peer_bytes", "host_bytes"):
            within(self, name, 0, MOST_BYTES)


@dataclass(frozen=True, slots=True)
class ReplayedCopy:
    """Pages that were copied at once, one after another.

    Args:
        source, target: tiers.
        pages: how many.
    """

    source: Tier
    target: Tier
    pages: int

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            one_of(self, name, TIERS)
        within(self, "pages", 1, MOST_COUNT)


@dataclass(frozen=True, slots=True)
class ReplayCase:
    """Operations of a replay that have their class in common. Their times are added up.

    Args:
        name: the replay's, and the class.
        model: by its name in the catalogue, in bf16.
        page_tokens: tokens of a page.
        steps: those of the class, in order; none where it is one of copies.
        copies: likewise.
        tensor: GPUs that share each layer, and copy their shares of a page at once.
    """

    kind: ClassVar[str] = "replay"
    of_class: ClassVar[str] = "replays"

    name: str
    model: str
    page_tokens: int
    steps: tuple[ReplayedStep, ...] = ()
    copies: tuple[ReplayedCopy, ...] = ()
    tensor: int = 1

    def __post_init__(self) -> None:
        check_name(self.name)
        check_name(self.model)
        within(self, "page_tokens", 1, 1 << 16)
        within(self, "tensor", 1, MOST_GPUS)
        if bool(self.steps) == bool(self.copies):
            raise ValueError("steps and copies: write one of them")

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        steps = any(step.peer_bytes for step in self.steps)
        copies = any("peer" in (c.source, c.target) for c in self.copies)
        return self.tensor + 1 if steps or copies else self.tensor
