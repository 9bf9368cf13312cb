"""Every kind of FFN, and what a model has beside its layers, counted by hand."""

from typing import Any

import pytest
from tests.sim.model.small import HIDDEN, REST, model, one, weights_of, with_parts

MOE: dict[str, Any] = {"kind": "moe", "experts": 6, "experts_per_token": 2, "expert_hidden": 3}
EXPERT = 3 * 8 * 3


def test_ordinary_ffns_by_hand() -> None:
    assert weights_of(kind="dense", width=5) == 3 * 8 * 5
    assert weights_of(kind="dense", width=5, gated=False) == 2 * 8 * 5
    assert weights_of(kind="dense", width=5, bias=True) == 3 * 8 * 5 + 2 * 5 + 8
    assert weights_of(kind="dense", width=5, gated=False, bias=True) == 2 * 8 * 5 + 5 + 8
    assert weights_of(kind="linear") == 8 * 8


@pytest.mark.parametrize(
    ("change", "all_of_them", "of_a_token"),
    [
        ({}, 6 * EXPERT + 48, 2 * EXPERT + 48),
        ({"gated": False}, 6 * 48 + 48, 2 * 48 + 48),
        ({"shared_experts": 1}, 7 * EXPERT + 48, 3 * EXPERT + 48),
        ({"shared_hidden": 4}, 6 * EXPERT + 48 + 96, 2 * EXPERT + 48 + 96),
        ({"shared_experts": 1, "shared_gate": True}, 7 * EXPERT + 56, 3 * EXPERT + 56),
        ({"router_bias": True}, 6 * EXPERT + 54, 2 * EXPERT + 54),
        # Scores for four experts that do nothing.
        ({"router_outputs": 4}, 6 * EXPERT + 80, 2 * EXPERT + 80),
        # Gate and up 3 each, and down 8.
        ({"bias": True}, 6 * (EXPERT + 14) + 48, 2 * (EXPERT + 14) + 48),
        # Experts of 4 numbers, between 8 x 4 and 4 x 8.
        ({"latent": 4}, 6 * 36 + 64 + 48, 2 * 36 + 64 + 48),
        ({"latent": 4, "latent_norm": True}, 6 * 36 + 68 + 48, 2 * 36 + 68 + 48),
    ],
)
def test_experts_by_hand(change: dict[str, Any], all_of_them: int, of_a_token: int) -> None:
    found = one(**MOE | change)
    assert found.parameters == all_of_them + REST
    assert found.active_parameters == of_a_token + REST


def test_ffns_stand_side_by_side_and_differ_by_layer() -> None:
    parts = {"wide": {"kind": "dense", "width": 7}, "narrow": {"kind": "dense", "width": 2},
             "experts_": MOE}  # fmt: skip
    found = with_parts(parts, "wide experts_", "narrow", "nothing")
    layers = 3 * 8 * 7 + 6 * EXPERT + 48 + 3 * 8 * 2
    assert found.parameters == layers + REST + 4 * HIDDEN
    assert found.moe_layers == 1
    assert found.experts_bytes(0, "bf16") == 2 * 6 * EXPERT
    assert found.experts_bytes(1, "bf16") == 0


BASE: dict[str, Any] = {"name": "m", "layers": 2, "hidden": 8, "heads": 2, "kv_heads": 1,
                        "head_dim": 4, "ffn_hidden": 5, "vocabulary": 10}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "more", "more_of_a_token"),
    [
        ({"tied_embeddings": True}, -80, 0),
        ({"positions": 7}, 7 * 8, 7 * 8),
        ({"head_bias": True}, 10, 10),
        # Embedding and head of 10 x 3, and a matrix each to and from the residual stream.
        ({"embedding_width": 3}, 2 * (30 - 80) + 2 * 24, 30 - 80 + 2 * 24),
        ({"ffn_bias": True}, 2 * (2 * 5 + 8), 2 * (2 * 5 + 8)),
        ({"other": 11}, 11, 11),
        ({"other_per_layer": 11}, 22, 22),
        # An embedding of 4 rows of 2·3, 8 x 2·3 to it, a norm; in each layer 8 x 3 and back, a
        # norm. A token looks the embedding up.
        ({"per_layer_inputs": {"width": 3, "vocabulary": 4}},
         24 + 48 + 3 + 2 * (48 + 8), 48 + 3 + 2 * (48 + 8)),
        ({"norms_per_layer": 4}, 2 * 2 * 8, 2 * 2 * 8),
    ],
)  # fmt: skip
def test_what_a_model_has_beside_its_layers(
    change: dict[str, Any], more: int, more_of_a_token: int
) -> None:
    plain, found = model(BASE), model(BASE | change)
    assert found.parameters == plain.parameters + more
    assert found.active_parameters == plain.active_parameters + more_of_a_token
    assert found.weight_bytes("bf16") == 2 * found.parameters


def test_stages_hold_all_weights_between_them() -> None:
    plain = model(BASE | {"layers": 5})
    stages = plain.stage_bytes(0, 2, "fp8"), plain.stage_bytes(2, 3, "fp8")
    assert round(sum(stages)) == plain.weight_bytes("fp8")
    # A tied embedding lies on both ends.
    tied = model(BASE | {"layers": 5, "tied_embeddings": True})
    stages = tied.stage_bytes(0, 2, "fp8"), tied.stage_bytes(2, 3, "fp8")
    assert round(sum(stages)) == tied.weight_bytes("fp8") + tied.embedding_bytes


def test_gpus_hold_for_themselves_what_they_cannot_share() -> None:
    # Four GPUs, two KV heads: each GPU holds one, so keys and values are held twice. Norms,
    # which all hold, are so small that they count once.
    grouped = model(BASE | {"heads": 4, "kv_heads": 2})
    once, held = grouped.layer_bytes(0, "bf16"), grouped.layer_bytes(0, "bf16", 4)
    assert held == once + 2 * 2 * 8 * 8
    # Of latents every GPU holds the projections down, of experts the router.
    latent = {"kind": "mla", "kv_lora_rank": 5, "qk_rope_head_dim": 2, "qk_nope_head_dim": 3,
              "v_head_dim": 4, "q_lora_rank": 6}  # fmt: skip
    found = model(
        {key: value for key, value in BASE.items() if key != "ffn_hidden"}
        | {"heads": 4, "kv_heads": 4, "head_dim": 5, "attention": latent, "moe": MOE}
    )
    once, held = found.layer_bytes(0, "bf16"), found.layer_bytes(0, "bf16", 4)
    assert held == once + 3 * 2 * (8 * 6 + 8 * 7 + 8 * 6)


def test_an_embedding_that_gpus_share_is_padded_to_a_multiple_of_64_rows() -> None:
    plain = model(BASE)
    one, two = plain.stage_bytes(0, 2, "bf16"), plain.stage_bytes(0, 2, "bf16", 2)
    # 10 rows of 8 numbers in 2 bytes, of embedding and LM head; and in two layers the one KV head's
    # keys and values, 8 x 4 each, a second time.
    assert two == one + 2 * (64 - 10) * 8 * 2 + 2 * 2 * (2 * 8 * 4)
