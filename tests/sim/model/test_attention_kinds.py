"""Every kind of attention: its weights and what it keeps of a token, counted by hand."""

from typing import Any

import pytest
from tests.sim.model.small import HIDDEN, one, weights_of, with_parts

GQA: dict[str, Any] = {"kind": "gqa", "heads": 4, "kv_heads": 2, "head_dim": 6}
# q: 8 x 4·6; k and v: 8 x 2·6 each; o: 4·6 x 8.
PLAIN = 8 * 24 + 2 * 8 * 12 + 24 * 8


def test_grouped_attention_by_hand() -> None:
    assert weights_of(**GQA) == PLAIN == 576
    # A key and a value of 6 numbers for each of 2 heads.
    assert one(**GQA).kv_bytes_per_token("bf16") == 2 * 2 * 6 * 2 == 48
    # 4 heads: 6 multiply-adds for a score, 6 for the value.
    assert one(**GQA).flops_per_pair == 4 * 2 * (6 + 6)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"qkv_bias": True}, (4 + 2 + 2) * 6),
        ({"output_bias": True}, 8),
        ({"qk_norm": "head"}, 2 * 6),
        ({"qk_norm": "all"}, (4 + 2) * 6),
        ({"sinks": True}, 4),
        ({"gate": "head"}, 8 * 4),
        ({"gate": "all"}, 8 * 24),
        ({"values_are_keys": True}, -8 * 12),
        ({"projects_kv": False, "keeps_kv": False}, -2 * 8 * 12),
        ({"query_latent": 5}, 8 * 5 + 5 * 24 + 5 - 8 * 24),  # and a norm of the latent
        ({"inputs": 16}, 8 * (24 + 12 + 12)),  # q, k and v are made of 16 numbers instead of 8
    ],
)
def test_what_attention_may_have_beside(change: dict[str, Any], more: int) -> None:
    assert weights_of(**GQA | change) == PLAIN + more


def test_values_may_be_narrower_than_keys() -> None:
    narrow = GQA | {"value_dim": 4}
    # v: 8 x 2·4; o: 4·4 x 8.
    assert weights_of(**narrow) == 8 * 24 + 8 * 12 + 8 * 8 + 16 * 8
    assert one(**narrow).kv_bytes_per_token("bf16") == 2 * 2 * (6 + 4)
    assert one(**narrow).flops_per_pair == 4 * 2 * (6 + 4)


def test_a_window_and_a_chunk_keep_their_tokens_and_all_layers_write() -> None:
    parts = {"far": GQA, "near": GQA | {"window": 100}, "part": GQA | {"chunk": 40}}
    mixed = with_parts(parts, "far", "near", "near", "part")
    assert mixed.kv_bytes_per_token("bf16") == 4 * 48
    # All of 130 tokens; the last 100, twice; a chunk at its fullest.
    assert mixed.kv_bytes_held(130, "bf16") == 48 * (130 + 2 * 100 + 40)
    # Shorter than the window and the chunk.
    assert mixed.kv_bytes_held(30, "bf16") == 4 * 48 * 30
    groups = {group.name: group for group in mixed.kv_groups("bf16")}
    assert list(groups) == ["full", "chunk_40", "window_100"]
    # Tokens 120 to 129 are in the fourth chunk.
    assert groups["chunk_40"].held_bytes(130) == 10 * 48
    assert groups["window_100"].layers == 2


def test_a_layer_that_reuses_keys_keeps_none() -> None:
    parts = {"own": GQA, "other": GQA | {"projects_kv": False, "keeps_kv": False}}
    model = with_parts(parts, "own", "other", "other")
    assert model.kv_bytes_per_token("bf16") == 48
    assert model.kv_groups("bf16")[0].layers == 1


def test_precisions_of_cached_keys_and_values() -> None:
    model = one(**GQA)
    numbers, vectors = 2 * 2 * 6, 2 * 2
    assert model.kv_bytes_per_token("fp8") == model.kv_bytes_per_token("int8") == numbers
    # A 32-bit scale for each vector.
    assert model.kv_bytes_per_token("fp8_scaled") == numbers + 4 * vectors
    # Half a byte, and a scale and a zero point of 16 bits for each vector.
    assert model.kv_bytes_per_token("int4") == numbers // 2 + 4 * vectors
    # Half a byte, and an 8-bit scale for each 16 numbers: one for a vector of 6.
    assert model.kv_bytes_per_token("nvfp4") == numbers // 2 + vectors
    # Of 32 numbers a vector: 2 scales in nvfp4, one in mxfp4.
    wide = one(**GQA | {"head_dim": 32})
    assert wide.kv_bytes_per_token("nvfp4") == 4 * (16 + 2)
    assert wide.kv_bytes_per_token("mxfp4") == 4 * (16 + 1)


MLA: dict[str, Any] = {"kind": "mla", "heads": 4, "kv_lora_rank": 5, "qk_rope_head_dim": 2,
                       "qk_nope_head_dim": 3, "v_head_dim": 4}  # fmt: skip


def test_latent_attention_by_hand() -> None:
    # q: 8 x 4·(3+2); down: 8 x (5+2); up: 5 x 4·(3+4); o: 4·4 x 8; the latent's norm.
    plain = 8 * 20 + 8 * 7 + 5 * 28 + 16 * 8 + 5
    assert weights_of(**MLA) == plain
    # Queries through a latent of 6, with a norm.
    assert weights_of(**MLA | {"q_lora_rank": 6}) == plain - 8 * 20 + 8 * 6 + 6 * 20 + 6
    assert weights_of(**MLA | {"gate": "all"}) == plain + 8 * 16
    assert weights_of(**MLA | {"gate": "head"}) == plain + 8 * 4
    model = one(**MLA)
    assert model.kv_bytes_per_token("bf16") == 2 * (5 + 2)
    # Absorbed: 5 + 2 for the score and 5 for the value; a prefill: 3 + 2 and 4.
    assert model.flops_per_pair == 2 * 4 * (5 + 2 + 5)
    assert model.prefill_flops_per_pair == 2 * 4 * (3 + 2 + 4)
    (group,) = model.kv_groups("bf16", 8)
    assert group.copies == 8


def test_scaled_latents_take_656_bytes_as_deepseek_s() -> None:
    wide = MLA | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    # 512 bytes, 4 scales of 4 bytes, 64 numbers in bf16.
    assert one(**wide).kv_bytes_per_token("fp8_scaled") == 512 + 16 + 128 == 656


def test_an_indexer_adds_its_keys_where_it_is_and_none_where_its_choice_is_shared() -> None:
    index = {"top": 100, "heads": 3, "head_dim": 128}
    latent = MLA | {"q_lora_rank": 6}
    parts = {"own": latent | {"index": index}, "shared": latent | {"index": {"top": 100}}}
    own, shared = one(**parts["own"]), one(**parts["shared"])
    # Queries of the latent: 6 x 3·128; a key: 8 x 128; a weight a head: 8 x 3; a norm with bias.
    assert own.parameters - shared.parameters == 6 * 384 + 8 * 128 + 8 * 3 + 2 * 128
    both = with_parts(parts, "own", "shared")
    # 128 fp8 numbers and a 32-bit scale, whatever the KV's precision.
    assert both.kv_bytes_per_token("bf16") == 2 * 14 + 132
    assert both.kv_bytes_per_token("fp8") == 2 * 7 + 132


COMPRESSED: dict[str, Any] = {
    "kind": "compressed", "heads": 4, "head_dim": 6, "rotary_dim": 2, "q_lora_rank": 5,
    "output_groups": 2, "output_rank": 3, "window": 16,
}  # fmt: skip


def test_compressed_attention_by_hand() -> None:
    # Queries: 8 x 5 and 5 x 4·6; the vector: 8 x 6; two groups of 12 numbers down to 3 each; back:
    # 6 x 8. Norms of the latent and the vector, a sink a head.
    near = 40 + 120 + 48 + 12 * 6 + 6 * 8 + 5 + 6 + 4
    assert weights_of(**COMPRESSED) == near
    # 8 tokens an entry: entry and gate of 8 x 6 each, a norm, a bias a place.
    far = COMPRESSED | {"ratio": 8}
    assert weights_of(**far) == near + 2 * 48 + 6 + 8 * 6
    # 4 tokens, of two overlapping halves, and an indexer of 2 heads of 3: queries 5 x 6, weights
    # 8 x 2, its own entries and gates of two halves, a norm and biases.
    index = {"top": 9, "heads": 2, "head_dim": 3, "key_bytes": 6, "norm_vectors": 0}
    sparse = COMPRESSED | {"ratio": 4, "index": index}
    entries = 2 * 8 * 12 + 6 + 4 * 12
    assert weights_of(**sparse) == near + entries + 30 + 16 + 2 * 8 * 6 + 3 + 4 * 6


def test_compressed_layers_keep_a_window_and_an_entry_for_several_tokens() -> None:
    index = {"top": 9, "heads": 2, "head_dim": 3, "key_bytes": 6, "norm_vectors": 0}
    parts = {"near": COMPRESSED, "far": COMPRESSED | {"ratio": 8},
             "sparse": COMPRESSED | {"ratio": 4, "index": index}}  # fmt: skip
    model = with_parts(parts, "near", "far", "sparse")
    # 100 tokens: 16 of 12 bytes in each layer; 13 entries of 12 (the last not full), 25 of 12 + 6.
    assert model.kv_bytes_held(100, "bf16") == 3 * 16 * 12 + 13 * 12 + 25 * 18
    names = [(group.name, group.tokens_per_entry) for group in model.kv_groups("bf16")]
    assert names == [("full_4", 4), ("full_8", 8), ("window_16", 1)]


def test_cross_attention_keeps_as_much_for_any_text() -> None:
    cross = {"kind": "cross", "heads": 4, "kv_heads": 2, "head_dim": 6, "tokens": 50}
    # As grouped attention, and two gates.
    assert weights_of(**cross) == PLAIN + 2
    assert weights_of(**cross | {"qk_norm": True}) == PLAIN + 2 + 12
    model = one(**cross)
    assert model.kv_bytes_per_token("bf16") == model.kv_bytes_held(9, "bf16") == 0
    assert model.state_bytes_per_request("bf16") == 50 * 48
    assert model.kv_groups("bf16")[0].kind == "fixed"


def test_weights_that_layers_share_count_once_and_their_keys_in_each() -> None:
    shared = GQA | {"copies": 2}
    model = with_parts({"it": shared}, *["it"] * 5)
    norms = 10 * HIDDEN + 8 * 10 + 8
    assert model.parameters == 2 * PLAIN + norms
    assert model.kv_bytes_per_token("bf16") == 5 * 48
    # Every layer multiplies by them.
    assert model.flops_per_token == 5 * 2 * PLAIN
    assert model.weight_bytes("bf16") == 2 * model.parameters
