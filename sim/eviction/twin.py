"""Twin: a policy in plain Python, written to be read, that the compiled one equals exactly."""

from collections.abc import Sequence
from typing import Protocol


class Twin(Protocol):
    """The operations of `dispatch` on one tier, slot by slot.

    A twin may take linear time. Pages that are parked in the compiled policy are held aside here
    too wherever that changes which page leaves next.
    """

    def expect(self, key: int) -> None:
        """Learn which key comes next, before the victim that makes room for it is chosen."""

    def insert(self, slot: int, key: int, rank: int) -> None:
        """Take in a page."""

    def hit(self, slot: int) -> None:
        """Note that a resident page was used again."""

    def release(self, slot: int) -> None:
        """Note that a page's last user left."""

    def remove(self, slot: int) -> None:
        """Forget a page that left for another reason than eviction."""

    def victim(self, ref: Sequence[int]) -> int:
        """Choose a page with `ref[slot] == 0`, forget it and return its slot; -1 for none."""
