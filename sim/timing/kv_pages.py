"""KvPages: the pages of each KV group, in bytes and in the units that a tier's room is counted in.

A page belongs to one group and holds so many tokens of it; what a group keeps whole of a request (a
state) is one page. Pages of different groups have different sizes and share one room. It is counted
in units, of which each page takes a whole number: as if memory were cut into blocks of that size
which any group may use, so that no room is lost between groups. With one group of full attention a
unit is a page.
"""

import math
from dataclasses import dataclass

from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.timing.equal_groups import equal_groups


@dataclass(frozen=True, slots=True)
class GroupPages:
    """The pages of one group.

    Args:
        group: whose.
        bytes: of one page below HBM, where each number is held once.
        hbm_bytes: of one in HBM, over all GPUs.
        padding_bytes: of those, what stands for layers that there are not, see `equal_groups`.
    """

    group: KvGroup
    bytes: int
    hbm_bytes: int
    padding_bytes: int = 0

    @property
    def keeps_tokens(self) -> bool:
        """Whether it grows with a request, page by page."""
        return self.group.kind not in ("state", "fixed")


@dataclass(frozen=True, slots=True)
class KvPages:
    """The pages of a server's groups.

    Args:
        page_tokens: tokens of a page, of every group that keeps tokens.
        groups: in the model's order.
        hbm_unit_bytes: of HBM's room.
        unit_bytes: of the room of every tier below.
    """

    page_tokens: int
    groups: tuple[GroupPages, ...]
    hbm_unit_bytes: int
    unit_bytes: int

    @classmethod
    def of(cls, groups: tuple[KvGroup, ...], page_tokens: int, *, equal: bool = False) -> "KvPages":
        """Cut groups into pages.

        Where an entry stands for several tokens a page holds as much of entries as its tokens are
        worth, rounded up to a byte.

        Args:
            groups: in the model's order.
            page_tokens: tokens of a page.
            equal: whether an engine pads groups until they are equal.
        """
        pages = []
        for group, padded in zip(groups, equal_groups(groups) if equal else groups, strict=True):
            own, one = (_page_bytes(each, page_tokens) for each in (group, padded))
            padding = (one - own) * group.copies
            pages.append(GroupPages(group, one, one * group.copies, padding))
        return cls(
            page_tokens,
            tuple(pages),
            math.gcd(*(each.hbm_bytes for each in pages)),
            math.gcd(*(each.bytes for each in pages)),
        )

    @property
    def grouped(self) -> bool:
        """Whether there is anything but one group of full attention."""
        return len(self.groups) > 1 or self.groups[0].group.kind != "full"

    @property
    def page_bytes(self) -> int:
        """HBM that one page of every group that keeps tokens takes; 0 where none does."""
        return sum(each.hbm_bytes for each in self.groups if each.keeps_tokens)

    @property
    def request_bytes(self) -> int:
        """HBM that what is kept whole of a request takes."""
        return sum(each.hbm_bytes for each in self.groups if not each.keeps_tokens)

    def unit(self, tier: int) -> int:
        """Bytes of a unit of a tier, HBM being 0."""
        return self.unit_bytes if tier else self.hbm_unit_bytes

    def units(self, index: int, tier: int) -> int:
        """Units that a page of a group takes in a tier."""
        each = self.groups[index]
        return each.bytes // self.unit_bytes if tier else each.hbm_bytes // self.hbm_unit_bytes

    def smallest(self, tier: int) -> int:
        """Units of the smallest page."""
        return min(self.units(index, tier) for index in range(len(self.groups)))

    def most_pages(self, index: int, tokens: int, step_tokens: int, caching: bool) -> int:
        """Pages of a group that one request holds at once at most.

        Args:
            index: of the group.
            tokens: that the request has at its end.
            step_tokens: that it computes in one step at most.
            caching: whether it may begin from a cached state, which it then holds beside its own.
        """
        group, pages = self.groups[index].group, -(-tokens // self.page_tokens)
        if group.kind == "full":
            return pages
        if group.kind in ("window", "chunk"):
            return min(pages, most_near_pages(group.tokens, step_tokens, self.page_tokens))
        return 2 if group.kind == "state" and caching else 1

    def most_bytes(self, tokens: int, step_tokens: int, caching: bool) -> int:
        """HBM that one request holds at once at most; arguments as in `most_pages`."""
        return sum(
            self.most_pages(index, tokens, step_tokens, caching) * each.hbm_bytes
            for index, each in enumerate(self.groups)
        )


def _page_bytes(group: KvGroup, page_tokens: int) -> int:
    """Bytes of a page of a group, of one copy; of what is kept whole, of a request."""
    if group.kind in ("state", "fixed"):
        return group.request_bytes
    return -(-page_tokens * group.entry_bytes // group.tokens_per_entry)


def most_near_pages(width: int, step_tokens: int, page_tokens: int) -> int:
    """Pages that a window, or a chunk, and the tokens of a step lie in at most.

    The first new token sees width - 1 before itself, which begin anywhere in a page: as vLLM 0.25
    caps what a windowed group is admitted with.
    """
    return -(-(width - 1 + step_tokens) // page_tokens) + 1
