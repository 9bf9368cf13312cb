"""Attention mass of a page, and Quest's bound on it."""

import numpy as np
import pytest

from vsim.traces.recorders.model import AttentionRead
from vsim.traces.recorders.page_scores import QuestBounds, page_count, page_mask, page_mass


def read_of(seed: int, tokens: int, count: int, keys: np.ndarray | None = None) -> AttentionRead:
    generator = np.random.Generator(np.random.PCG64(seed))
    query = generator.normal(size=(2, 3, count, 8)).astype(np.float32)
    if keys is None:
        keys = generator.normal(size=(2, tokens, 8)).astype(np.float32)
    logits = np.einsum("hgtd,hnd->hgtn", query, keys) / np.sqrt(np.float32(8))
    own = np.arange(tokens - count, tokens)
    logits[:, :, np.arange(tokens)[None, :] > own[:, None]] = -np.inf
    weight = np.exp(logits)
    return AttentionRead(0, query, keys, weight / weight.sum(axis=-1, keepdims=True))


def test_mass_is_the_sum_over_a_page_and_the_mean_over_the_group() -> None:
    read = read_of(1, 10, 1)
    mass = page_mass(read, 4)
    assert mass.shape == (2, 1, 3)
    by_hand = read.probabilities[1, :, 0, 4:8].sum() / 3
    assert mass[1, 0, 1] == pytest.approx(by_hand, rel=1e-6)
    assert np.allclose(mass.sum(axis=-1), 1)


def test_quest_never_scores_a_page_below_its_best_key() -> None:
    read = read_of(2, 40, 1)
    # with one query head, log-ratios of the score are differences of bounds
    one = AttentionRead(0, read.query[:, :1], read.keys, read.probabilities[:, :1])
    score = np.log(QuestBounds(8).mass(one)[:, 0])
    products = np.einsum("hd,hnd->hn", one.query[:, 0, 0], one.keys) / np.sqrt(8)
    best = products.reshape(2, 5, 8).max(axis=-1)
    low = one.keys.reshape(2, 5, 8, 8).min(axis=2)
    high = one.keys.reshape(2, 5, 8, 8).max(axis=2)
    q = one.query[:, 0, 0][:, None]
    bound = np.maximum(q * low, q * high).sum(axis=-1) / np.sqrt(8)
    assert (bound >= best - 1e-6).all()
    assert np.allclose(score - score[:, :1], bound - bound[:, :1], atol=1e-4)


def test_quest_kept_from_step_to_step_equals_quest_made_anew() -> None:
    full = read_of(3, 37, 1)
    kept = QuestBounds(8)
    for tokens in range(20, 38):
        read = read_of(tokens, tokens, 1, full.keys[:, :tokens])
        assert np.array_equal(kept.mass(read), QuestBounds(8).mass(read))


def test_tokens_read_side_by_side_score_as_if_read_one_by_one() -> None:
    keys = read_of(4, 30, 1).keys
    many = read_of(5, 30, 6, keys)
    together = QuestBounds(8).mass(many)
    for row in range(6):
        tokens = 30 - 6 + row + 1
        one = AttentionRead(
            0,
            many.query[:, :, row : row + 1],
            keys[:, :tokens],
            many.probabilities[:, :, row : row + 1, :tokens],
        )
        pages = page_count(tokens, 8)
        assert np.allclose(together[:, row, :pages], QuestBounds(8).mass(one)[:, 0], atol=1e-6)
        assert (together[:, row, pages:] == 0).all()


def test_a_mask_covers_the_tokens_of_the_pages_chosen() -> None:
    keep = np.array([[[True, False, True]]])
    assert page_mask(keep, 10, 4)[0, 0].tolist() == [True] * 4 + [False] * 4 + [True] * 2
