"""Every kind of mixer with a state: its weights and its state, counted by hand."""

from typing import Any

import pytest
from tests.sim.model.small import one, weights_of, with_parts

DELTA: dict[str, Any] = {"kind": "delta_net", "key_heads": 2, "value_heads": 4, "key_dim": 3,
                         "value_dim": 5, "conv_tokens": 4}  # fmt: skip
KDA: dict[str, Any] = {"kind": "kda", "heads": 2, "head_dim": 3, "conv_tokens": 4}
LIGHTNING: dict[str, Any] = {"kind": "lightning", "heads": 2, "head_dim": 3}
MAMBA: dict[str, Any] = {"kind": "mamba", "width": 6, "state": 4, "step_rank": 2}
MAMBA2: dict[str, Any] = {"kind": "mamba2", "heads": 3, "head_dim": 2, "groups": 1, "state": 4}
CONV: dict[str, Any] = {"kind": "short_conv", "width": 8, "conv_tokens": 3}
UNIT: dict[str, Any] = {"kind": "linear_unit", "width": 6, "blocks": 3}


def test_gated_delta_net_by_hand() -> None:
    # Queries and keys 8 x 2·3 each, values and their gate 8 x 4·5 each, two numbers a value head,
    # the output 20 x 8; a convolution of 4 taps over 6 + 6 + 20 channels, a decay and a bias a
    # value head, a norm of 5.
    by_hand = 2 * 48 + 2 * 160 + 2 * 8 * 4 + 160 + 4 * 32 + 2 * 4 + 5
    assert weights_of(**DELTA) == by_hand
    # A matrix of 3 x 5 a value head, and three tokens of 32 channels, in 2 bytes.
    assert one(**DELTA).state_bytes_per_request("bf16") == 2 * (4 * 15 + 3 * 32)
    # The matrices in 4 bytes where a model says so.
    wide = one(**DELTA | {"state_bytes": 4})
    assert wide.state_bytes_per_request("bf16") == 4 * 4 * 15 + 2 * 3 * 32


def test_kimi_delta_attention_by_hand() -> None:
    # q, k, v and o: 8 x 6 each; decay and gate 8 x 6; a number a head; three convolutions of 4
    # taps, a decay a head, its bias a channel, a norm.
    full = 4 * 48 + 2 * 48 + 8 * 2 + 3 * 6 * 4 + 2 + 6 + 3
    assert weights_of(**KDA) == full
    # Decay and gate through 3 numbers: 8 x 3 and 3 x 6.
    low = weights_of(**KDA | {"decay_rank": 3, "gate_rank": 3})
    assert low == full - 2 * 48 + 2 * (24 + 18)
    # A matrix of 3 x 3 a head in 4 bytes, three tokens of 18 channels in 2.
    assert one(**KDA).state_bytes_per_request("bf16") == 4 * 2 * 9 + 2 * 3 * 18


def test_lightning_attention_by_hand() -> None:
    # q, k, v, gate and o: 8 x 6 each; a norm of all 6 numbers.
    assert weights_of(**LIGHTNING) == 5 * 48 + 6
    assert weights_of(**LIGHTNING | {"gate": False}) == 4 * 48 + 6
    assert weights_of(**LIGHTNING | {"gate_norm": False, "qk_norm": True}) == 5 * 48 + 2 * 3
    assert weights_of(**LIGHTNING | {"kv_heads": 1}) == 5 * 48 + 6 - 2 * 24
    assert one(**LIGHTNING).state_bytes_per_request("bf16") == 4 * 2 * 9


def test_mamba_by_hand() -> None:
    # In: 8 x 12; select: 6 x (2 + 2·4); step: 2 x 6; out: 6 x 8. A convolution of 4 taps with a
    # bias, the time step's bias, 4 decays and a skip a channel.
    by_hand = 96 + 60 + 12 + 48 + 6 * (4 + 1 + 1 + 4 + 1)
    assert weights_of(**MAMBA) == by_hand
    assert weights_of(**MAMBA | {"conv_bias": False}) == by_hand - 6
    assert weights_of(**MAMBA | {"projection_bias": True}) == by_hand + 12 + 8
    assert weights_of(**MAMBA | {"norms": True}) == by_hand + 2 + 4 + 4
    # 4 numbers a channel and its last three tokens.
    assert one(**MAMBA).state_bytes_per_request("bf16") == 2 * (6 * 4 + 6 * 3)


def test_mamba_2_by_hand() -> None:
    # In: channels and gate 8 x 12, the state's input and output 8 x 8, a time step a head 8 x 3;
    # out 6 x 8; a convolution of 4 taps with a bias over 6 + 8 channels, three numbers a head, a
    # norm.
    by_hand = 96 + 64 + 24 + 48 + 14 * 5 + 9 + 6
    assert weights_of(**MAMBA2) == by_hand
    assert weights_of(**MAMBA2 | {"norm": False}) == by_hand - 6
    assert weights_of(**MAMBA2 | {"conv_bias": False}) == by_hand - 14
    assert weights_of(**MAMBA2 | {"projection_bias": True}) == by_hand + 12 + 8 + 3 + 8
    assert one(**MAMBA2).state_bytes_per_request("bf16") == 2 * (6 * 4 + 14 * 3)


def test_short_convolution_by_hand() -> None:
    assert weights_of(**CONV) == 3 * 64 + 64 + 3 * 8
    assert weights_of(**CONV | {"bias": True}) == 3 * 64 + 64 + 3 * 8 + 4 * 8 + 8
    assert one(**CONV).state_bytes_per_request("bf16") == 2 * 8 * 2


def test_linear_recurrent_unit_by_hand() -> None:
    # Channels and gate 8 x 12; two gates of 3 blocks of 2 x 2; out 6 x 8. Biases of both inputs and
    # both gates, 4 taps and their bias, a decay; the output's bias.
    assert weights_of(**UNIT) == 96 + 2 * 3 * 4 + 48 + 6 * (2 + 2 + 4 + 1 + 1) + 8
    assert one(**UNIT).state_bytes_per_request("bf16") == 6 * (4 + 2 * 3)


@pytest.mark.parametrize("part", [DELTA, KDA, LIGHTNING, MAMBA, MAMBA2, CONV, UNIT])
def test_a_state_is_as_large_for_any_context_and_no_token_is_kept(part: dict[str, Any]) -> None:
    model = one(**part)
    assert model.kv_bytes_per_token("bf16") == model.kv_bytes_held(10**6, "bf16") == 0
    (group,) = model.kv_groups("bf16", 2)
    assert (group.kind, group.copies) == ("state", 1)
    assert group.held_bytes(1) == group.held_bytes(10**6) > 0
    # The products of a token, 2 FLOPs a weight, and what it does to the state.
    mixer = model.stack[0].mixers[0]
    products = 2 * sum(each.weights for each in mixer.matrices(8))
    assert model.flops_per_token > products


def test_a_layer_may_attend_and_keep_a_state_at_once() -> None:
    attention = {"kind": "gqa", "heads": 2, "kv_heads": 1, "head_dim": 4}
    model = with_parts({"near": attention, "state": MAMBA2}, "near state", "state", "near")
    groups = {group.kind: group for group in model.kv_groups("bf16")}
    assert groups["full"].layers == groups["state"].layers == 2
    assert model.kv_bytes_per_token("bf16") == 2 * 2 * 4 * 2
    assert model.state_bytes_per_request("bf16") == 2 * 2 * (6 * 4 + 14 * 3)
