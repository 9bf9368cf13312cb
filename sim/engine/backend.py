"""The seam between the engine and what carries time: one protocol on plain values."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


def _no_pages() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class StepBatch:
    """What one step computes, and the pages that it attends to, in FlashInfer's convention.

    Request i reads `indices[indptr[i] : indptr[i + 1]]`; all of these pages are full but the last,
    which holds `last_page_len[i]` tokens once the step's own are written.

    Args:
        rows: int64[n], the requests, by their row in the trace.
        new_tokens: int64[n], tokens that each computes; a single one attends as a decode does.
        context_tokens: int64[n], tokens that each has after the step, the new ones included.
        samples: bool[n], whether the step gives it an output token.
        indptr: int32[n + 1], where each one's pages begin in `indices`.
        indices: int32, slots, numbered through all tiers.
        last_page_len: int32[n], from 1 to the tokens of a page.
        copied_tokens: tokens that requests admitted since the last step found in a part of somebody
            else's page, and that are copied inside HBM; not all of these requests need compute in
            this step.
    """

    rows: NDArray[np.int64]
    new_tokens: NDArray[np.int64]
    context_tokens: NDArray[np.int64]
    samples: NDArray[np.bool_]
    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    last_page_len: NDArray[np.int32]
    copied_tokens: int = 0

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Something an engine asks a backend to do.

    Args:
        kind: `timer` (complete at `at_ns`), `copy` (pages from one tier to another), or `step`
            (compute the batch and attend to its pages).
        serial: the caller's number for it, given back with its completion.
        at_ns: when a timer is due.
        source_tier: where a copy's pages are.
        target_tier: where they go.
        sources: int64 slots, numbered through all tiers.
        targets: int64 slots, one for each source.
        size_bytes: bytes of a copy.
        batch: of a step, what it computes and where its pages are. A simulated backend needs it
            not, since it has the engine's own sums.
    """

    kind: Literal["timer", "copy", "step"]
    serial: int
    at_ns: int = 0
    source_tier: int = 0
    target_tier: int = 0
    sources: NDArray[np.int64] = field(default_factory=_no_pages)
    targets: NDArray[np.int64] = field(default_factory=_no_pages)
    size_bytes: int = 0
    batch: StepBatch | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What finished, and when. Copies that arrive at one time are reported together.

    Args:
        kind: as the operation's.
        serials: of the operations that finished.
        at_ns: when; never before what was reported last.
        began_ns: of a step, when its first kernel began, where the backend can tell; else -1.
    """

    kind: Literal["timer", "copy", "step"]
    serials: tuple[int, ...]
    at_ns: int
    began_ns: int = -1


class Backend(Protocol):
    """Carries out operations; the engine never sees how."""

    def now_ns(self) -> int:
        """Return the time now."""
        ...

    def submit(self, operation: Operation) -> None:
        """Start an operation. Does not wait."""
        ...

    def wait(self) -> Completion | None:
        """Wait for whatever finishes next; None when nothing is under way.

        Of things that finish at one time timers come first, then copies, then the step.
        """
        ...

    def close(self) -> None:
        """Give back what the backend holds."""
        ...
