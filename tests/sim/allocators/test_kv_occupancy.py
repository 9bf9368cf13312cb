"""Sequences held by a memory for KV, against a simulation step by step and closed forms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.allocators.kv_occupancy import WAYS, Lengths, Way, memory_for, occupancy


def step_by_step(
    pairs: list[tuple[int, int]], way: Way, memory: int, unit: int, longest: int
) -> tuple[int, int, int]:
    """Steps, sequences over all steps and preemptions: one step and one token at a time."""
    queue = list(range(len(pairs)))
    done = [0] * len(pairs)
    running: list[int] = []
    steps = held = preemptions = 0

    def units(which: int) -> int:
        prompt, output = pairs[which]
        power = 1
        while power < output:
            power *= 2
        tokens = {
            "max": longest, "power2": min(longest, prompt + power), "exact": prompt + output,
        }.get(way, prompt + done[which] + 1)  # fmt: skip
        return (tokens + unit - 1) // unit

    while True:
        while queue and sum(map(units, [*running, queue[0]])) <= memory // unit:
            running.append(queue.pop(0))
        if not queue:
            return steps, held, preemptions
        steps += 1
        held += len(running)
        for each in running:
            done[each] += 1
        running = [each for each in running if done[each] < pairs[each][1]]
        while sum(map(units, running)) > memory // unit:
            queue.insert(0, running.pop())
            preemptions += 1


PAIRS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=14)


def lengths(pairs: list[tuple[int, int]]) -> Lengths:
    prompt, output = np.array(pairs, np.int64).T
    return Lengths(prompt, output)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=examples(30), deadline=None)
@given(PAIRS, st.integers(48, 90))
def test_skipping_steps_changes_nothing(way: Way, pairs: Any, memory: int) -> None:
    unit = {"paged": 4, "ranges": 16}.get(way, 1)
    found = occupancy(lengths(pairs), way, memory, unit, 40)
    steps, held, preemptions = step_by_step(pairs, way, memory, unit, 40)
    assert (found.steps, found.preemptions) == (steps, preemptions)
    assert found.held * max(steps, 1) == pytest.approx(held)


def test_reservation_at_maximum_length_holds_memory_over_longest() -> None:
    pairs = [(10, 30)] * 50
    found = occupancy(lengths(pairs), "max", 1000, 1, 200)
    assert (found.held, found.most_held) == (5, 5)  # 1,000 / 200
    assert occupancy(lengths(pairs), "exact", 1000, 1, 200).held == 25  # 1,000 / 40


def test_equal_load_takes_what_the_longest_moment_takes() -> None:
    pairs = [(10, 30)] * 4
    assert memory_for(lengths(pairs), "max", 2, 1, 200) == 400
    assert memory_for(lengths(pairs), "exact", 2, 1, 200) == 80
    assert memory_for(lengths(pairs), "paged", 2, 16, 200) == 2 * 48  # 40 tokens: 3 blocks each


def test_no_way_holds_more_than_the_tokens_that_there_are() -> None:
    draw = np.random.Generator(np.random.PCG64(3))
    made = Lengths(draw.integers(1, 200, 300), draw.integers(1, 300, 300))
    found = {way: occupancy(made, way, 4000, {"paged": 16, "ranges": 64}.get(way, 1), 500)
             for way in WAYS}  # fmt: skip
    for each in found.values():
        assert 0 < each.used <= each.reserved <= 1
    assert found["max"].held <= found["power2"].held <= found["exact"].held <= found["paged"].held


def test_a_sequence_that_never_fits_is_no_endless_loop() -> None:
    with pytest.raises(ValueError, match="longer than the memory"):
        occupancy(lengths([(50, 60)]), "paged", 100, 16, 200)
