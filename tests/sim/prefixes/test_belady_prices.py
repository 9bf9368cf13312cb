"""Prices read off Belady's rule: with them the bound is what it finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.prefixes.test_prefix_bound import counted
from tests.traces.test_prefix_reuse import chains

from vsim.sim.bounds.prefix_tree import certify_prefixes
from vsim.sim.prefixes import belady_prices as module
from vsim.sim.prefixes.belady import belady
from vsim.sim.prefixes.belady_prices import belady_prices


@settings(deadline=None, max_examples=examples(150))
@given(rows=chains(), blocks=st.integers(0, 25))
def test_the_bound_is_what_belady_s_rule_finds(rows: list[list[int]], blocks: int) -> None:
    reuse, worth = counted(rows, "hits")
    prices = belady_prices(reuse, blocks)
    certificate = certify_prefixes(reuse, worth, blocks, prices.room.astype(np.float64))
    assert prices.best
    assert (prices.room >= 0).all()
    assert certificate.most == int(belady(reuse, blocks).found().sum())


def test_sweeps_that_are_stopped_leave_prices_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it takes more than one sweep, and after one the bound is higher."""
    random = np.random.default_rng(3)
    names = random.integers(0, 40, 400).tolist()
    reuse, worth = counted([[name] for name in names], "hits")
    best = belady_prices(reuse, 5)
    found = int(belady(reuse, 5).found().sum())
    monkeypatch.setattr(module, "_LEAST_SWEEPS", 1)
    monkeypatch.setattr(module, "_WORK", 0)
    stopped = belady_prices(reuse, 5)
    assert best.best
    assert not stopped.best
    assert certify_prefixes(reuse, worth, 5, best.room.astype(float)).most == found
    assert certify_prefixes(reuse, worth, 5, stopped.room.astype(float)).most > found
