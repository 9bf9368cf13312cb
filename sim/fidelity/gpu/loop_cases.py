"""LoopCase: the decode loop of a continuous batch, with copies beside its steps."""

from dataclasses import dataclass
from typing import ClassVar

from vsim.sim.fidelity.gpu.case_checks import MOST_COUNT, MOST_TOKENS, check_name, one_of, within
from vsim.sim.fidelity.gpu.heads import TIERS, Heads, Tier


@dataclass(frozen=True, slots=True)
class Stay:
    """A request's stay in a decode loop.

    Args:
        first: the first step that it decodes in.
        steps: how many steps it decodes in, one after another.
        context: tokens that it attends to in the first of them; one more in each that follows.
    """

    first: int
    steps: int
    context: int

    def __post_init__(self) -> None:
        within(self, "first", 0, 1 << 16)
        within(self, "steps", 1, 1 << 16)
        within(self, "context", 1, MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class LoopCopy:
    """Pages of all layers that are copied while a loop goes on.

    Args:
        step: the step that it may begin with.
        source, target: tiers.
        pages: how many.
    """

    step: int
    source: Tier
    target: Tier
    pages: int

    def __post_init__(self) -> None:
        within(self, "step", 0, 1 << 16)
        for name in ("source", "target"):
            one_of(self, name, TIERS)
        within(self, "pages", 1, MOST_COUNT)
        if self.source == self.target:
            raise ValueError(f"target is the source, {self.source}; write another tier")


@dataclass(frozen=True, slots=True)
class LoopCase:
    """The decode loop of a continuous batch: attention of all layers, with copies beside steps.

    Steps follow one another and do not wait for copies. Copies of one source and target follow one
    another; each begins with its step or later. The loop ends when all have ended.

    Args:
        name: what it is called.
        heads: of a layer.
        layers: how many.
        stays: the requests.
        copies: what offloading moves.
    """

    kind: ClassVar[str] = "loop"
    of_class: ClassVar[str] = "decode loops"

    name: str
    heads: Heads
    layers: int
    stays: tuple[Stay, ...]
    copies: tuple[LoopCopy, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        within(self, "layers", 1, 1024)
        if not self.stays:
            raise ValueError("stays is empty; write one request or more")
        if any(copy.step >= self.steps for copy in self.copies):
            raise ValueError(f"copies go beyond the last step, {self.steps - 1}")

    @property
    def steps(self) -> int:
        """Steps of the loop."""
        return max(stay.first + stay.steps for stay in self.stays)

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        peers = any("peer" in (copy.source, copy.target) for copy in self.copies)
        return 2 if peers else 1

    def contexts(self, step: int) -> tuple[int, ...]:
        """What each request of a step attends to, in the order of `stays`."""
        return tuple(
            stay.context + step - stay.first
            for stay in self.stays
            if stay.first <= step < stay.first + stay.steps
        )

    def copies_of(self, step: int) -> tuple[LoopCopy, ...]:
        """What may begin with a step, in the order in which it was asked for."""
        return tuple(copy for copy in self.copies if copy.step == step)

    @property
    def page_bytes(self) -> int:
        """A page of all layers."""
        return self.layers * self.heads.page_bytes
