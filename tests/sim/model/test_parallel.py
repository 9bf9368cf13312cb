"""Parallelism: what is split, what is copied, and which splits are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.sim.model.parallel import check_peer, lay_out, server_links
from vsim.traces.faults import InputError


def test_layers_are_dealt_evenly_and_the_first_stages_get_the_rest() -> None:
    layout = lay_out(load_machine("8xh200-nvlink"), load_model("deepseek-v3"), 2, 4)
    assert layout.stage_layers == (16, 15, 15, 15)
    assert layout.gpus == 8
    assert layout.imbalance == 16 * 4 / 61


@pytest.mark.parametrize(
    ("model", "tensor", "copies"),
    [
        ("llama-3.1-8b", 1, 1),  # 8 KV heads
        ("llama-3.1-8b", 8, 1),
        ("smollm2-135m", 3, 1),  # 3 KV heads, 9 heads
        ("mixtral-8x7b", 4, 1),
        ("deepseek-v3", 8, 8),  # one latent for all heads: a copy on each GPU
    ],
)
def test_kv_is_split_by_heads_and_a_latent_is_copied(model: str, tensor: int, copies: int) -> None:
    layout = lay_out(load_machine("8xh200-nvlink"), load_model(model), tensor)
    assert layout.kv_copies == copies


def test_more_gpus_than_kv_heads_hold_each_head_several_times() -> None:
    # 2 KV heads over 8 GPUs: each head on 4 of them.
    model = load_model("llama-3.1-8b").model_copy(update={"kv_heads": 2})
    assert lay_out(load_machine("8xh200-nvlink"), model, 8).kv_copies == 4


@pytest.mark.parametrize(
    ("machine", "model", "tensor", "pipeline", "expected"),
    [
        ("h100", "llama-3.1-8b", 2, 1, "parallel: tensor 2 x pipeline 1 needs 2 GPUs and h100"
         " has 1"),
        ("4xa100-nvlink", "smollm2-135m", 2, 1, "parallel.tensor: 2 does not divide smollm2-135m's"
         " 9 heads"),
        ("4xa100-nvlink", "smollm2-135m", 0, 1, "parallel.tensor: 0 is out of range"),
        ("4xa100-nvlink", "smollm2-135m", 1, 5, "parallel: tensor 1 x pipeline 5 needs 5 GPUs"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_is_refused_with_what_to_write(
    machine: str, model: str, tensor: int, pipeline: int, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        lay_out(load_machine(machine), load_model(model), tensor, pipeline)
    assert expected in str(caught.value)
    assert "; write " in str(caught.value)


def test_kv_heads_that_a_degree_neither_divides_nor_multiplies_are_refused() -> None:
    model = load_model("llama-3.1-8b").model_copy(update={"kv_heads": 4, "heads": 24})
    with pytest.raises(InputError, match="6 is neither a divisor nor a multiple"):
        lay_out(load_machine("8xh200-nvlink"), model, 6)


def test_a_server_gets_its_share_of_the_links_that_end_at_hbm() -> None:
    machine = load_machine("4xa100-nvlink")
    whole = {link.name: link for link in machine.links}
    quarter = {link.name: link for link in server_links(machine, 1)}
    assert quarter["host-hbm"].bytes_per_s == whole["host-hbm"].bandwidth.value / 4
    assert quarter["peer-hbm"].bytes_per_s == whole["peer-hbm"].bandwidth.value
    assert quarter["nvme-host"].bytes_per_s == whole["nvme-host"].bandwidth.value
    all_of_it = {link.name: link for link in server_links(machine, 4)}
    assert all_of_it["host-hbm"].bytes_per_s == whole["host-hbm"].bandwidth.value


def test_a_peer_needs_a_gpu_left_free() -> None:
    machine = load_machine("2xh200-nvlink")
    check_peer(machine, 1, ("hbm", "peer"))
    with pytest.raises(InputError, match=r"tiers\.1\.tier: 'peer' is the HBM of a GPU left free"):
        check_peer(machine, 2, ("hbm", "peer"))


@pytest.fixture(scope="module")
def eight() -> Machine:
    return load_machine("8xh200-nvlink")


@given(layers=st.integers(1, 80), pipeline=st.integers(1, 8))
def test_no_layer_is_lost_or_held_twice(eight: Machine, layers: int, pipeline: int) -> None:
    model = load_model("llama-3.1-8b").model_copy(update={"layers": layers})
    if pipeline <= layers:
        layout = lay_out(eight, model, 1, pipeline)
        assert sum(layout.stage_layers) == layers
        assert max(layout.stage_layers) - min(layout.stage_layers) <= 1
        assert layout.imbalance >= 1
