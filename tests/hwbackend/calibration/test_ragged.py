"""Batches of two lengths: what they hold, and in which order."""

from vsim.hwbackend.calibration.ragged import Ragged


def test_long_requests_stand_behind_short_ones_or_evenly_among_them() -> None:
    assert Ragged(4, 16, 2, 64, spread=False).contexts.tolist() == [16, 16, 16, 16, 64, 64]
    assert Ragged(4, 16, 2, 64, spread=True).contexts.tolist() == [64, 16, 16, 64, 16, 16]
    assert Ragged(2, 16, 4, 64, spread=True).contexts.tolist().count(64) == 4


def test_a_batch_lists_each_page_once() -> None:
    batch = Ragged(4, 16, 2, 64, spread=True).batch()
    assert sorted(batch.indices.tolist()) == list(range(12))
    assert batch.tokens(16).tolist() == [64, 16, 16, 64, 16, 16]
