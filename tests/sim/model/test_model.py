"""Models: bytes and FLOPs against values worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.model.huggingface import parse_config
from vsim.sim.model.loading import catalogue_names, load_model
from vsim.sim.model.model import Model, expected_experts
from vsim.traces.faults import InputError

LLAMA_8B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def hf(**keys: Any) -> Model:
    return parse_config(json.dumps(LLAMA_8B | keys), "config.json", "m")


def reaches(model: Model) -> dict[str, int]:
    """How many layers keep what of a request."""
    return {group.name: group.layers for group in model.kv_groups("bf16")}


def hf_faults(config: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_config(config if isinstance(config, str) else json.dumps(config), "config.json", "m")
    return [str(fault) for fault in caught.value.faults]


def test_llama_3_1_8b_by_hand() -> None:
    # One layer: q and o 4096·4096 each, k and v 4096·1024 each, three FFN matrices 4096·14336,
    # two norms of 4096. Embedding and LM head 128256·4096 each, a final norm.
    products = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    assert products == 218_103_808
    by_hand = 32 * (products + 2 * 4096) + 2 * 128_256 * 4096 + 4096
    model = load_model("llama-3.1-8b")
    assert model.parameters == by_hand == 8_030_261_248
    assert model.weight_bytes("bf16") == 2 * by_hand
    # A key and a value of 8 heads of 128 in 2 bytes, in 32 layers.
    assert model.kv_bytes_per_token("bf16") == 2 * 8 * 128 * 2 * 32 == 131_072
    assert model.kv_bytes_per_token("fp8") == model.kv_bytes_per_token("int8") == 65_536
    # int4: half a byte a number, and 4 bytes of scale and zero for each of the 16 vectors.
    assert model.kv_bytes_per_token("int4") == 32 * (2 * 8 * 128 // 2 + 16 * 4) == 34_816
    assert model.flops_per_token == 2 * 32 * products == 13_958_643_712
    assert model.flops_per_sampled_token == 2 * 128_256 * 4096
    # 32 heads: 128 multiply-adds for a score, 128 for the value, in 32 layers.
    assert model.flops_per_pair == 32 * 32 * 4 * 128 == 524_288


def test_quantised_weights_keep_embeddings_and_norms_in_bf16() -> None:
    model = load_model("llama-3.1-8b")
    products = 32 * 218_103_808
    rest = 2 * (model.parameters - products)
    assert model.weight_bytes("fp8") == model.weight_bytes("int8") == products + rest
    # Groups of 128 weights share 20 bits: 4.15625 bits a weight.
    assert model.weight_bytes("int4") == products * 133 // 256 + rest


def test_llama_2_7b_by_hand() -> None:
    # Every query head has its own key and value head.
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    model = load_model("llama-2-7b")
    assert model.parameters == 32 * layer + 2 * 32_000 * 4096 + 4096 == 6_738_415_616
    assert model.kv_bytes_per_token("bf16") == 2 * 32 * 128 * 2 * 32 == 524_288


def test_llama_2_70b_by_hand() -> None:
    layer = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192
    model = load_model("llama-2-70b")
    assert model.parameters == 80 * layer + 2 * 32_000 * 8192 + 8192 == 68_976_648_192
    assert model.kv_bytes_per_token("bf16") == 2 * 8 * 128 * 2 * 80 == 327_680


def test_llama_3_1_70b_has_a_larger_vocabulary_than_llama_2_70b() -> None:
    more = 2 * (128_256 - 32_000) * 8192
    model = load_model("llama-3.1-70b")
    assert model.parameters == 68_976_648_192 + more == 70_553_706_496
    assert model.kv_bytes_per_token("bf16") == 327_680


def test_mixtral_by_hand() -> None:
    # Attention as Llama-3.1-8B's; eight experts of three matrices and a router of 4096·8.
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    expert = 3 * 4096 * 14336
    layer = attention + 8 * expert + 4096 * 8 + 2 * 4096
    model = load_model("mixtral-8x7b")
    assert model.parameters == 32 * layer + 2 * 32_000 * 4096 + 4096 == 46_702_792_704
    assert model.expert_bytes("bf16") == 2 * expert
    # A token goes through two experts.
    assert model.flops_per_token == 2 * 32 * (attention + 4096 * 8 + 2 * expert)
    assert model.kv_bytes_per_token("bf16") == 131_072


def test_deepseek_v3_by_hand() -> None:
    # Queries 7168 -> 1536 -> 128·192; latents 7168 -> 512 + 64 -> 128·256; o 128·128 -> 7168.
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
    assert attention == 187_105_280
    norms = 2 * 7168 + 1536 + 512
    dense = 3 * 7168 * 18432
    expert = 3 * 7168 * 2048
    router = 7168 * 256 + 256
    by_hand = (
        61 * (attention + norms)
        + 3 * dense
        + 58 * (257 * expert + router)
        + 2 * 129_280 * 7168
        + 7168
    )
    model = load_model("deepseek-v3")
    assert model.parameters == by_hand == 671_026_419_200
    # The latent of 512 and the rotary key of 64, in 2 bytes, in 61 layers.
    assert model.kv_bytes_per_token("bf16") == 576 * 2 * 61 == 70_272
    # Eight routed experts and the shared one.
    active = 61 * attention + 3 * dense + 58 * (9 * expert + router)
    assert model.flops_per_token == 2 * active
    # Absorbed: a score takes 576 multiply-adds a head, the value 512.
    assert model.flops_per_pair == 61 * 128 * 2 * (576 + 512)


def test_smollm2_by_hand() -> None:
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    model = load_model("smollm2-135m")
    assert model.parameters == 30 * layer + 49_152 * 576 + 576 == 134_515_008
    assert model.kv_bytes_per_token("bf16") == 2 * 3 * 64 * 2 * 30 == 23_040


def test_one_token_touches_k_experts_and_many_touch_all() -> None:
    assert expected_experts(8, 2, 1) == 2
    assert expected_experts(8, 2, 0) == 0
    # Two tokens: 8·(1 - (3/4)²) = 3.5.
    assert expected_experts(8, 2, 2) == 3.5
    assert expected_experts(256, 8, 100_000) == pytest.approx(256)


@given(st.integers(1, 64), st.integers(0, 500), st.data())
def test_more_tokens_never_touch_fewer_experts(experts: int, tokens: int, data: Any) -> None:
    k = data.draw(st.integers(1, experts))
    fewer, more = (expected_experts(experts, k, count) for count in (tokens, tokens + 1))
    assert 0 <= fewer <= more <= experts


def test_the_catalogue_holds_the_models_it_promises() -> None:
    wanted = {"llama-2-7b", "llama-2-70b", "llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b"}
    assert wanted | {"deepseek-v3", "smollm2-135m"} <= set(catalogue_names())
    for name in catalogue_names():
        model = load_model(name)
        assert model.name == name
        assert model.source


def test_an_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        load_model("llama-3.1-8")
    assert "did you mean 'llama-3.1-8b'?" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"kv_heads": 5}, "kv_heads", "5 does not divide the 8 heads"),
        ({"layers": 0}, "layers", "0 is out of range"),
        ({"sliding_window": {"tokens": 8, "layers": 9}}, "sliding_window.layers", "more than"),
        ({"ffn_hidden": None}, "ffn_hidden", "write an ordinary FFN's inner width"),
        (
            {"moe": {"experts": 2, "experts_per_token": 3, "expert_hidden": 8, "dense_layers": 1}},
            "moe.experts_per_token",
            "3 is more than the 2",
        ),
        (
            {"moe": {"experts": 4, "experts_per_token": 1, "expert_hidden": 8}},
            "ffn_hidden",
            "does nothing, since every layer has experts",
        ),
        (
            {"moe": {"experts": 4, "experts_per_token": 1, "expert_hidden": 8, "dense_layers": 2}},
            "moe.dense_layers",
            "leaves no layer with experts",
        ),
        (
            {"attention": {"kind": "mla", "kv_lora_rank": 4, "qk_rope_head_dim": 4,
                           "qk_nope_head_dim": 8, "v_head_dim": 8}},
            "head_dim",
            "not the sum of a head's two parts; write 12",
        ),
    ],
)  # fmt: skip
def test_a_shape_that_contradicts_itself_is_refused(
    change: dict[str, Any], place: str, words: str
) -> None:
    shape = {"name": "m", "layers": 2, "hidden": 64, "heads": 8, "kv_heads": 8, "head_dim": 8,
             "ffn_hidden": 128, "vocabulary": 100} | change  # fmt: skip
    with pytest.raises(InputError) as caught:
        parse_yaml(json.dumps(shape), "m.yaml", Model)
    (fault,) = (fault for fault in caught.value.faults if fault.place == place)
    assert words in fault.message
    assert fault.line == 1


def test_a_config_json_reads_as_the_catalogue_s_model(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_8B))
    shape = load_model("llama-3.1-8b").model_dump(exclude={"name", "source"})
    for path in (folder, folder / "config.json"):
        model = load_model(str(path))
        assert model.name == "llama"
        assert model.model_dump(exclude={"name", "source"}) == shape


def test_mixtral_s_and_deepseek_s_configs_read_as_the_catalogue_s_models() -> None:
    mixtral = hf(model_type="mixtral", vocab_size=32000, num_local_experts=8, num_experts_per_tok=2)
    assert mixtral.parameters == 46_702_792_704
    deepseek = hf(
        model_type="deepseek_v3", num_hidden_layers=61, hidden_size=7168, num_attention_heads=128,
        num_key_value_heads=128, intermediate_size=18432, vocab_size=129280, kv_lora_rank=512,
        q_lora_rank=1536, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
        n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_layer_freq=1,
        moe_intermediate_size=2048, first_k_dense_replace=3, topk_method="noaux_tc",
    )  # fmt: skip
    assert deepseek.parameters == 671_026_419_200
    assert deepseek.kv_bytes_per_token("bf16") == 70_272


def test_families_that_leave_something_unsaid_are_known() -> None:
    # Published counts: Qwen2.5-7B 7,615,616,512; Qwen3-8B 8,190,735,360; Gemma-2-9B 9,241,705,984;
    # Falcon-7B 6,921,720,704; Phi-3-mini 3,821,079,552; Mistral-7B 7,241,732,096.
    qwen2 = hf(model_type="qwen2", num_hidden_layers=28, hidden_size=3584, num_attention_heads=28,
               num_key_value_heads=4, intermediate_size=18944, vocab_size=152064,
               sliding_window=131072, use_sliding_window=False)  # fmt: skip
    assert qwen2.parameters == 7_615_616_512
    assert reaches(qwen2) == {"full": 28}
    qwen3 = hf(model_type="qwen3", num_hidden_layers=36, intermediate_size=12288, head_dim=128,
               vocab_size=151936)  # fmt: skip
    assert qwen3.parameters == 8_190_735_360
    gemma2 = hf(model_type="gemma2", num_hidden_layers=42, hidden_size=3584, vocab_size=256000,
                num_attention_heads=16, head_dim=256, tie_word_embeddings=None,
                sliding_window=4096, max_position_embeddings=8192)  # fmt: skip
    assert gemma2.parameters == 9_241_705_984
    assert reaches(gemma2) == {"full": 21, "window_4096": 21}
    falcon = parse_config(
        json.dumps({"model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544,
                    "num_attention_heads": 71, "vocab_size": 65024, "multi_query": True,
                    "parallel_attn": True}), "config.json", "falcon",
    )  # fmt: skip
    assert falcon.parameters == 6_921_720_704
    assert falcon.kv_heads == 1
    phi3 = hf(model_type="phi3", hidden_size=3072, num_key_value_heads=32, intermediate_size=8192,
              vocab_size=32064, sliding_window=2047, max_position_embeddings=4096)  # fmt: skip
    assert phi3.parameters == 3_821_079_552
    assert reaches(phi3) == {"window_2047": 32}
    mistral = hf(model_type="mistral", vocab_size=32000, sliding_window=4096)
    assert mistral.parameters == 7_241_732_096


def test_mixtures_of_many_small_experts_are_read() -> None:
    # Published: Qwen3-30B-A3B 30,532,122,624.
    qwen3 = hf(model_type="qwen3_moe", num_hidden_layers=48, hidden_size=2048, head_dim=128,
               num_key_value_heads=4, intermediate_size=6144, vocab_size=151936, num_experts=128,
               num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1,
               mlp_only_layers=[])  # fmt: skip
    assert qwen3.parameters == 30_532_122_624
    # DeepSeek-V2-Lite: 15,706,484,224, queries projected directly, two shared experts.
    lite = hf(model_type="deepseek_v2", num_hidden_layers=27, hidden_size=2048, vocab_size=102400,
              num_attention_heads=16, num_key_value_heads=16, intermediate_size=10944,
              kv_lora_rank=512, q_lora_rank=None, qk_rope_head_dim=64, qk_nope_head_dim=128,
              v_head_dim=128, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6,
              moe_intermediate_size=1408, first_k_dense_replace=1)  # fmt: skip
    assert lite.parameters == 15_706_484_224


def test_an_unknown_family_is_read_by_its_usual_keys_and_a_nested_decoder_is_found() -> None:
    plain = hf(model_type="something_new")
    nested = parse_config(
        json.dumps({"model_type": "sees_pictures", "text_config": LLAMA_8B}), "config.json", "m"
    )
    assert plain.parameters == nested.parameters == 8_030_261_248
    windowed = hf(layer_types=["sliding_attention", "full_attention"] * 16, sliding_window=1024,
                  model_type="something_new")  # fmt: skip
    assert reaches(windowed) == {"full": 16, "window_1024": 16}


def test_deepseek_s_smallest_models_have_keys_and_values_instead_of_latents() -> None:
    # DeepSeek-VL2-Tiny's decoder: 10 heads of 128, and ranks and widths of latents written as none.
    tiny = hf(model_type="deepseek_v2", hidden_size=1280, num_hidden_layers=12, vocab_size=129280,
              num_attention_heads=10, num_key_value_heads=10, intermediate_size=6848, use_mla=False,
              kv_lora_rank=None, q_lora_rank=None, qk_nope_head_dim=0, qk_rope_head_dim=0,
              v_head_dim=0, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6,
              moe_intermediate_size=896, first_k_dense_replace=1)  # fmt: skip
    assert tiny.kv_bytes_per_token("bf16") == 2 * 12 * 2 * 10 * 128


def test_a_list_of_kinds_goes_before_a_pattern_that_is_written_beside_it() -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    gemma3 = hf(model_type="gemma3_text", num_hidden_layers=6, layer_types=kinds, head_dim=256,
                sliding_window=1024, sliding_window_pattern=6)  # fmt: skip
    assert reaches(gemma3) == {"full": 1, "window_1024": 5}


def test_a_config_s_missing_and_wrong_keys_are_all_named() -> None:
    config = {"model_type": "llama", "num_hidden_layers": "32", "num_attention_heads": 0,
              "hidden_size": 4096, "intermediate_size": True}  # fmt: skip
    assert hf_faults(config) == [
        "config.json: num_hidden_layers: '32' is not a whole number from 1 to 1099511627775",
        "config.json: vocab_size: is missing (or padded_vocab_size); write the number of tokens"
        " known",
        "config.json: num_attention_heads: 0 is not a whole number from 1 to 1099511627775",
        "config.json: intermediate_size: true is not a whole number from 1 to 1099511627775",
    ]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "config.json:1:2: is not JSON here"),
        ('{"hidden_size": NaN}', "NaN is not a finite number"),
        ("[1]", "holds a list of 1; write a group of keys"),
        (
            LLAMA_8B | {"num_key_value_heads": 5},
            "num_key_value_heads: 5 does not divide the 32 heads",
        ),
        (LLAMA_8B | {"hidden_size": 4097}, "head_dim: is missing, and 32 heads do not divide 4097"),
        (
            LLAMA_8B | {"num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": "2"},
            "decoder_sparse_step: '2' is not a whole number",
        ),
        (
            LLAMA_8B | {"num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": 3},
            "mlp_only_layers: 3 is not a list of whole numbers",
        ),
        (
            LLAMA_8B | {"num_hidden_layers": 10**11},
            "num_hidden_layers: 100000000000 is out of range",
        ),
        (LLAMA_8B | {"num_experts": 8}, "num_experts_per_tok: is missing"),
        (
            LLAMA_8B | {"tie_word_embeddings": "no"},
            "tie_word_embeddings: 'no' is not true or false",
        ),
    ],
)
def test_a_config_that_cannot_be_read_says_why(config: object, words: str) -> None:
    (fault,) = hf_faults(config)
    assert words in fault
