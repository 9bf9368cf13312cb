from vsim.sim.fidelity.drawn_network import CHOSEN, EXPERTS, alike, computed, padding_alike


def test_in_a_drawn_network_prompts_that_begin_alike_come_to_choose_the_same_experts() -> None:
    first, last = (alike(each, 2) for each in computed(2, 100, 10, members=2, ffn=4))
    chance = CHOSEN / EXPERTS
    assert first.same < 4 * chance
    assert last.same > 0.3
    assert last.other < 4 * chance


def test_padding_goes_on_with_what_the_last_layer_gave_and_chooses_apart_from_its_batch() -> None:
    passed = list(computed(3, 100, 10, members=2, ffn=4))
    *_, (last, batch) = padding_alike(passed, 2, ffn=4)
    chance = CHOSEN / EXPERTS
    assert last.same > 0.5
    assert last.touched < 1.5 * CHOSEN
    assert last.other < 4 * chance
    assert batch < 4 * chance
