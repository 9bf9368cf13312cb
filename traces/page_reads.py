"""`PageReads`: which pages each decode step reads, after a selection was applied to attention."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PageReads:
    """The reads of T steps over n_pages pages, step by step (CSR).

    A page is `page_tokens` tokens of one request's KV in one layer and KV head (kv_head −1: all
    heads, layer −1: all layers). Pages are numbered globally, in any order.

    Attributes:
        offsets: int64[T+1]; step t reads `pages[offsets[t]:offsets[t+1]]`.
        pages: int32[m], distinct and ascending within a step.
        n_pages: pages that exist at the end.
        prompt_pages: pages that exist before the first step.
        born: int32[n_pages], the step that writes the page, −1 for a page of the prompt. A page is
            never read before that step.
        page_bytes: bytes of one page (keys and values).
        page_tokens: tokens of one page.
        layer, kv_head: int16[n_pages].
        request: int32[n_pages], which request the page belongs to.
        position: int32[n_pages], the page's place in its request: first token // page_tokens.
        source: where the reads are from, for reports.
        mass: float32[m], what the selection ranked the read by (attention mass), or None.
    """

    offsets: Int64s
    pages: Int32s
    n_pages: int
    prompt_pages: int
    born: Int32s
    page_bytes: int
    page_tokens: int
    layer: Int16s
    kv_head: Int16s
    request: Int32s
    position: Int32s
    source: str
    mass: Float32s | None = None

    @property
    def steps(self) -> int:
        """The number of steps T."""
        return len(self.offsets) - 1

    @property
    def reads(self) -> int:
        """The number of page reads over all steps."""
        return len(self.pages)

    @property
    def reads_per_step(self) -> Int64s:
        """int64[T]: how many pages each step reads."""
        return np.diff(self.offsets)

    def check(self) -> None:
        """Raise ValueError if the arrays contradict each other."""
        if len(self.offsets) < 2 or self.offsets[0] != 0 or self.offsets[-1] != self.reads:
            raise ValueError(
                "offsets must run from 0 to the number of reads, with one step or more"
            )
        if (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets must not decrease")
        for name in ("born", "layer", "kv_head", "request", "position"):
            if len(getattr(self, name)) != self.n_pages:
                raise ValueError(f"{name} must have one entry for each of {self.n_pages} pages")
        if self.mass is not None and len(self.mass) != self.reads:
            raise ValueError("mass must have one entry for each read")
        if self.page_bytes < 1 or self.page_tokens < 1:
            raise ValueError("page_bytes and page_tokens must be at least 1")
        if self.prompt_pages != int(np.count_nonzero(self.born < 0)):
            raise ValueError("prompt_pages must be the number of pages with born = -1")
        if self.reads == 0:
            return
        if self.pages.min() < 0 or self.pages.max() >= self.n_pages:
            raise ValueError(f"page numbers must lie in 0..{self.n_pages - 1}")
        step = np.repeat(np.arange(self.steps, dtype=np.int32), self.reads_per_step)
        same = step[1:] == step[:-1]
        if (np.diff(self.pages)[same] <= 0).any():
            raise ValueError("pages must be distinct and ascending within a step")
        if (self.born[self.pages] > step).any():
            raise ValueError("a page is read before the step that writes it")

    def by_layer(self) -> "PageReads":
        """Make each (step, layer) a step of its own, in the order the model runs its layers.

        The capacity then holds layer by layer, and the time is a sum over steps and layers. A page
        that step b writes is written when b reaches the page's layer.
        """
        layers, rank = np.unique(self.layer, return_inverse=True)
        count = len(layers)
        step = np.repeat(np.arange(self.steps, dtype=np.int64), self.reads_per_step)
        row = step * count + rank[self.pages]
        order = np.argsort(row, kind="stable")
        offsets = np.zeros(self.steps * count + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=self.steps * count), out=offsets[1:])
        born = np.where(self.born < 0, -1, self.born * count + rank).astype(np.int32)
        return replace(
            self,
            offsets=offsets,
            pages=self.pages[order],
            born=born,
            mass=None if self.mass is None else self.mass[order],
            source=f"{self.source}, layer by layer",
        )
