"""PageNames: what the pages of requests are called, so that pages that are shared have one name."""

import numpy as np

from vsim.sim.engine.state import State

_OWN = 1 << 40  # a page without a key: its request's row, then its number
_MOST_PAGES = 1 << 22


class PageNames:
    """Names of pages by request and number; they follow from the trace and never change.

    Args:
        state: the engine's arrays, fresh.
    """

    def __init__(self, state: State) -> None:
        requests, control = state.arrays["r"], state.control
        self._offset = requests["key_offset"].copy()
        self._keys = requests["keys"].copy()
        self._named = requests["named"].copy()
        self._fresh = requests["fresh_key"].copy()
        self._ids = np.array(state.arrays["ids"], np.int64)
        self._ratio = int(control["key_ratio"])
        self._caching = bool(control["caching"])

    def of(self, row: int, page: int) -> int:
        """The name of a request's page."""
        if not self._caching or page >= self._keys[row]:
            return own_name(row, page)
        named = int(self._named[row])
        if page >= named:
            return int(self._fresh[row]) + page - named
        at, place = divmod(page, self._ratio)
        return int(self._ids[int(self._offset[row]) + at]) * self._ratio + place


def own_name(row: int, page: int) -> int:
    """The name of a page that is nobody else's."""
    return _OWN + row * _MOST_PAGES + page
