"""Recording a decode, and what a selection costs on the model it was recorded on."""

from pathlib import Path

import numpy as np
import pytest

from vsim.traces.attention import read_attention, write_attention
from vsim.traces.faults import InputError
from vsim.traces.recorders.model import Model
from vsim.traces.recorders.recording import Decoding, Keeping, attention_of, record_decode
from vsim.traces.recorders.selection_cost import perplexity, selection_costs
from vsim.traces.selection import Dense, SlidingWindow, TopShare, select

TEXT = list(b"the cat sat on the mat, and the dog sat on the log; ") * 4
PROMPT, FOLLOW = TEXT[:100], TEXT[100:]


def test_known_tokens_are_recorded_side_by_side_as_they_are_one_by_one(toy: Model) -> None:
    together = record_decode(toy, PROMPT, 20, Decoding("text"), follow=FOLLOW, page_tokens=8)
    greedy = record_decode(toy, PROMPT, 20, Decoding("greedy"), page_tokens=8)
    again = record_decode(toy, PROMPT, 20, Decoding("text"), follow=greedy.output, page_tokens=8)
    assert together.output == FOLLOW[:20]
    for name in ("mass", "quest"):
        assert np.allclose(greedy.scores[name], again.scores[name], atol=1e-6)


def test_every_row_of_pages_sums_to_one(toy: Model) -> None:
    decode = record_decode(toy, PROMPT, 12, Decoding("text"), follow=FOLLOW, page_tokens=8)
    for scores in decode.scores.values():
        assert np.allclose(scores.sum(axis=-1), 1, atol=1e-5)
    assert decode.pages.tolist() == [-(-(101 + step) // 8) for step in range(12)]


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others(toy: Model) -> None:
    first, same, other = (
        record_decode(toy, PROMPT, 30, Decoding("sample", seed=seed)).output for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_a_recording_lists_all_pages_of_every_step_layer_and_head(
    toy: Model, tmp_path: Path
) -> None:
    decode = record_decode(toy, PROMPT, 20, Decoding("text"), follow=FOLLOW, page_tokens=8)
    trace = attention_of(decode, toy, Keeping(), source="toy", licence="CC0-1.0", facts={})
    write_attention(trace, tmp_path / "t.arrow")
    found = read_attention(tmp_path / "t.arrow")
    assert len(found) == 20 * 2 * 2
    assert found.page_bytes == 8 * 2 * 8 * 2  # tokens, K and V, head size, two bytes
    assert select(found, TopShare(0.4)).n_pages == 15 * 2 * 2
    assert found.facts["mass_kept"] == "0.6"


def test_selections_from_codes_equal_those_from_floats_at_the_named_sparsities(toy: Model) -> None:
    decode = record_decode(toy, PROMPT, 20, Decoding("text"), follow=FOLLOW, page_tokens=4)
    floats = attention_of(decode, toy, None, source="toy", licence="", facts={})
    floats = type(floats)(
        **{
            **{name: getattr(floats, name) for name in floats.__slots__},
            "scores": {
                name: np.concatenate(
                    [
                        scores.reshape(-1, scores.shape[-1])[row, :count]
                        for row, count in enumerate(floats.row_pages)
                    ]
                )
                for name, scores in decode.scores.items()
            },
        }
    )
    codes = attention_of(decode, toy, Keeping(), source="toy", licence="", facts={})
    for sparsity in (0.6, 0.7, 0.8, 0.9):
        for name in ("mass", "quest"):
            expected = select(floats, TopShare(sparsity, name))
            found = select(codes, TopShare(sparsity, name))
            assert np.array_equal(found.offsets, expected.offsets)
            assert np.array_equal(found.pages, expected.pages)


def test_a_sparsity_below_what_was_kept_is_refused(toy: Model) -> None:
    decode = record_decode(toy, PROMPT, 4, Decoding("text"), follow=FOLLOW, page_tokens=8)
    trace = attention_of(decode, toy, Keeping(), source="toy", licence="", facts={})
    with pytest.raises(InputError, match=r"keeps 60 % of the pages by mass; choose a sparsity"):
        select(trace, TopShare(0.3))


def test_a_text_that_exceeds_the_context_is_refused_with_the_arithmetic(toy: Model) -> None:
    with pytest.raises(InputError, match=r"380 prompt tokens and 30 steps exceed .* 400 tokens"):
        record_decode(toy, TEXT[:1] * 380, 30, Decoding("greedy"))


def test_reading_every_page_costs_nothing(toy: Model) -> None:
    decode = record_decode(toy, PROMPT, 40, Decoding("text"), follow=FOLLOW, page_tokens=8)
    (dense,) = selection_costs(toy, decode, [Dense()])
    assert dense.perplexity == pytest.approx(dense.perplexity_dense, rel=1e-6)
    assert (dense.greedy_equal, dense.pages_share) == (1.0, 1.0)
    assert dense.mass_share == pytest.approx(1, abs=1e-6)


def test_top_pages_by_mass_carry_more_mass_than_as_many_chosen_otherwise(toy: Model) -> None:
    decode = record_decode(toy, PROMPT, 40, Decoding("text"), follow=FOLLOW, page_tokens=4)
    mass, quest, window = selection_costs(
        toy, decode, [TopShare(0.8), TopShare(0.8, "quest"), SlidingWindow(1, 6)]
    )
    assert mass.pages_share == quest.pages_share
    assert mass.mass_share > quest.mass_share
    assert mass.mass_share > window.mass_share
    assert mass.greedy_equal < 1


def test_perplexity_of_equal_logits_is_the_size_of_the_vocabulary() -> None:
    assert perplexity(np.zeros((3, 50), np.float32), [1, 2, 3]) == pytest.approx(50)
