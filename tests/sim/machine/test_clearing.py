"""A set_access beside clearing waits turn by turn, no longer than the clearing lasts."""

from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.machine.clearing import Clearing

CLEARING = Clearing.model_validate(
    {"bandwidth": "500GB/s", "first": "300us", "turn": "1ms", "source": "assumption",
     "note": "a test"}
)  # fmt: skip


def test_clearing_takes_its_bytes_and_what_comes_first() -> None:
    assert CLEARING.cleared_ns(10**9) == 300_000 + 2_000_000
    assert CLEARING.cleared_ns(0) == 0


def test_each_chunk_waits_for_a_turn_and_those_behind_the_end_for_none() -> None:
    # 2 of 8 chunks wait for 1 ms each, then 6 take 50 us each
    assert CLEARING.access_ns(400_000, 8, 2_000_000) == 2_000_000 + 6 * 50_000
    # more is left to clear than two chunks wait for
    assert CLEARING.access_ns(100_000, 2, 9_000_000) == 2_000_000
    assert CLEARING.access_ns(400_000, 8, 0) == CLEARING.access_ns(400_000, 8, -5) == 400_000


@given(
    st.integers(1, 1000), st.floats(1e3, 1e6), st.floats(0, 1e8), st.floats(0, 1e8)
)  # fmt: skip
def test_more_to_clear_never_takes_less_and_at_most_a_turn_a_chunk(
    chunks: int, each_ns: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    alone = chunks * each_ns
    first, second = (CLEARING.access_ns(alone, chunks, left) for left in (low, high))
    assert alone <= first * (1 + 1e-9)
    assert first <= second * (1 + 1e-9)
    assert second <= max(alone, chunks * CLEARING.turn) * (1 + 1e-9)
