"""Tokens are dealt to experts as the simulator expects them to be."""

import numpy as np
import pytest

from vsim.hwbackend.dense.routing import Routing
from vsim.sim.model.model import expected_experts


@pytest.mark.parametrize(("tokens", "experts", "per_token"), [(1, 8, 2), (5, 8, 2), (40, 64, 6)])
def test_the_experts_touched_are_in_the_mean_what_the_simulator_counts(
    tokens: int, experts: int, per_token: int
) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    drawn = [Routing.drawn(generator, tokens, experts, per_token).touched for _ in range(2000)]
    error = np.std(drawn) / np.sqrt(len(drawn)) + 1e-12
    right = expected_experts(experts, per_token, float(tokens))
    assert abs(np.mean(drawn) - right) < 5 * error


def test_rows_are_sorted_by_expert_and_each_token_finds_its_own() -> None:
    routing = Routing.drawn(np.random.default_rng(2), 50, 8, 3)
    expert_of_row = np.repeat(np.arange(8), routing.counts)
    assert routing.counts.sum() == routing.sources.size == 150
    for token in range(50):
        assert (routing.sources[routing.places[token]] == token).all()
        assert len(set(expert_of_row[routing.places[token]])) == 3  # all different
    assert np.sort(routing.places.ravel()).tolist() == list(range(150))
    np.testing.assert_allclose(routing.shares.sum(axis=1), 1, rtol=1e-6)


def test_one_seed_draws_one_routing() -> None:
    first, second = (Routing.drawn(np.random.default_rng(3), 9, 8, 2) for _ in range(2))
    assert first.places.tolist() == second.places.tolist()
    assert first.shares.tolist() == second.shares.tolist()
