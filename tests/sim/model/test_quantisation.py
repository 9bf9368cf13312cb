"""Precisions that a checkpoint declares, and the bytes of its weights as shipped."""

import json
from typing import Any

import pytest
from tests.sim.model.test_model import LLAMA_8B, hf, hf_faults

from vsim.sim.model.huggingface import load_config, parse_config
from vsim.sim.model.model import Model
from vsim.sim.model.weight_format import Stored, WeightFormat, stored

PRODUCTS = 32 * 218_103_808  # of Llama-3.1-8B; see test_model
GROUP_4 = {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}
FLOAT_4 = {"num_bits": 4, "type": "float", "group_size": 16}
FLOAT_8 = {"num_bits": 8, "type": "float"}


def shipped(model: Model) -> int:
    """Bytes of the weights as the checkpoint has them."""
    return model.weight_bytes(model.declared.weights or "bf16")


def of_products(bits: float) -> int:
    """Llama-3.1-8B with products of so many bits, the rest in bf16."""
    return round(PRODUCTS * bits / 8) + 2 * (8_030_261_248 - PRODUCTS)


@pytest.mark.parametrize(
    ("config", "precision", "bits"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8),
        ({"quant_method": "fbgemm_fp8"}, "fp8", 8),
        # A scale of 16 bits and a zero point of 4 for 128 weights.
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "int4", 4 + 20 / 32),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "int8", 8 + 24 / 128),
        # Symmetric: no zero point.
        ({"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"weights": GROUP_4}}}, "int4", 4 + 16 / 128),
        ({"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"weights": FLOAT_8}}}, "fp8", 8),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
          "config_groups": {"group_0": {"weights": FLOAT_4}}}, "nvfp4", 4.5),
        ({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
          "config_groups": {"group_0": {"weights": FLOAT_4 | {"group_size": 32}}}}, "mxfp4", 4.25),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5),
        ({"quant_algo": "FP8", "producer": {"name": "modelopt"}}, "fp8", 8),
        # A 32-bit scale for 64 weights; or 8 bits, and 32 for 256 of those.
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4", 4.5),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True,
          "bnb_4bit_use_double_quant": True}, "int4", 4 + 8.125 / 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 8),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
         "fp8", 8),
        # A scale and a zero point of 16 bits each for a group.
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {
            "nbits": 4, "group_size": 64}}}, "int4", 4.5),
        ({"quant_method": "torchao", "quant_type": {"default": {
            "_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}, "int4", 4.25),
        ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int4_weight",
          "quant_type_kwargs": {"group_size": 32}}, "int4", 5),
        ({"quant_method": "torchao", "quant_type": {"default": {
            "_type": "Float8DynamicActivationFloat8WeightConfig", "_data": {}}}}, "fp8", 8),
        ({"quant_method": "quanto", "weights": "int8"}, "int8", 8),
        ({"quant_method": "quanto", "weights": "int2"}, "int4", 2.25),
        ({"quant_method": "eetq"}, "int8", 8),
        ({"quant_method": "qqq", "wbits": 4, "group_size": 128}, "int4", 4.125),
        ({"quant_method": "fp_quant", "forward_dtype": "nvfp4"}, "nvfp4", 4.5),
        ({"quant_method": "mxfp8"}, "fp8", 8.25),
        ({"quant_method": "bitnet"}, "int8", 2),
        ({"quant_method": "exl2", "bits": 3.5}, "int4", 3.5),
    ],
)  # fmt: skip
def test_formats_and_their_scales(config: dict[str, Any], precision: str, bits: float) -> None:
    model = hf(quantization_config=config)
    weights = model.declared.weights
    assert weights is not None
    assert stored(weights, "dense").precision == precision
    assert stored(weights, "dense").weight_bits == bits
    assert stored(weights, "router") == Stored(precision="bf16")
    assert shipped(model) == of_products(bits)


@pytest.mark.parametrize(
    ("config", "kv"),
    [
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "int8"),
        ({"kv_cache_scheme": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": "NVFP4"}, "nvfp4"),
        ({"kv_cache_scheme": None}, None),
        (
            {
                "kv_cache_quant_config": {
                    "*k_proj": {"output_tensors": {"dtype": "fp8_e4m3"}},
                    "*v_proj": {"output_tensors": {"dtype": "fp8_e4m3"}},
                }
            },
            "fp8",
        ),
    ],
)
def test_a_declared_precision_of_the_kv_cache(config: dict[str, Any], kv: str | None) -> None:
    assert hf(quantization_config={"quant_method": "fp8"} | config).declared.kv == kv


@pytest.mark.parametrize("method", ["modelopt", "compressed-tensors"])
def test_a_checkpoint_may_declare_its_kv_cache_alone(method: str) -> None:
    scheme = {"quant_method": method, "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    model = hf(quantization_config=scheme | {"config_groups": {}})
    assert model.declared.weights is None
    assert model.declared.kv == "fp8"
    assert hf(quantization_config={}).declared == hf().declared


def test_gpt_oss_keeps_all_but_experts_in_bf16() -> None:
    # openai/gpt-oss-120b: the sum of its checkpoint's tensors is 65,248,815,744 bytes. Experts of
    # 3 · 2880 · 2880 weights in 4.25 bits, 128 in each of 36 layers; the rest in 2 bytes.
    model = parse_config(
        json.dumps({
            "model_type": "gpt_oss", "num_hidden_layers": 36, "hidden_size": 2880,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
            "intermediate_size": 2880, "num_local_experts": 128, "num_experts_per_tok": 4,
            "vocab_size": 201088, "sliding_window": 128, "attention_bias": True,
            "layer_types": ["sliding_attention", "full_attention"] * 18,
            "max_position_embeddings": 131072, "tie_word_embeddings": False,
            "quantization_config": {"quant_method": "mxfp4"},
        }), "config.json", "gpt-oss-120b",
    )  # fmt: skip
    experts = 36 * 128 * 3 * 2880 * 2880
    assert shipped(model) == experts * 17 // 32 + 2 * (model.parameters - experts)
    assert shipped(model) == 65_248_815_744
    assert hf(quantization_config={"quant_method": "mxfp4"}).declared.weights is not None


def test_modules_that_stay_in_bf16_are_named_by_pattern() -> None:
    attention = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    for pattern in ("re:.*self_attn.*", "*self_attn*", "self_attn.q_proj"):
        model = hf(quantization_config={"quant_method": "fp8", "ignore": ["lm_head", pattern]})
        weights = model.declared.weights
        assert weights is not None
        if pattern != "self_attn.q_proj":
            assert stored(weights, "attention").precision == "bf16"
            assert shipped(model) == of_products(8) + attention
    # Of the first two layers alone: their FFNs and attention in 2 bytes a weight.
    layers = {"quant_method": "fp8", "ignore": ["model.layers.0", "model.layers.1"]}
    assert shipped(hf(quantization_config=layers)) == of_products(8) + 2 * 218_103_808


ATTENTION, FFN = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024), 32 * 3 * 4096 * 14336
GROUP_8 = {"num_bits": 8, "type": "int"}


@pytest.mark.parametrize(
    ("config", "attention", "ffn"),
    [
        # Names go before classes; what no group names stays in bf16.
        ({"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": GROUP_4},
            "group_1": {"targets": ["re:.*down_proj$"], "weights": GROUP_8},
        }}, 4.125, (2 * 4.125 + 8) / 3),
        ({"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"targets": ["re:.*mlp.*"], "weights": FLOAT_4}}}, 16, 4.5),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {
            "-:.*attn.*": {}, "+:.*up_proj.*": {"bits": 8}}},
         16, (2 * (4 + 20 / 128) + 8 + 24 / 128) / 3),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
            f"model.layers.{layer}.mlp.down_proj": {"bits": 16} for layer in range(16)}},
         4 + 20 / 128, (5 * (4 + 20 / 128) + 16) / 6),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}},
          "layer_quant_config": {"*self_attn*": {"weight": {"dtype": "fp8_e4m3"}}}}, 8, 4.25),
        ({"quant_method": "awq", "bits": 4, "group_size": 128,
          "modules_to_not_convert": ["self_attn"]}, 16, 4 + 20 / 128),
    ],
    ids=["names", "others", "gptq", "auto-round", "quark", "awq"],
)  # fmt: skip
def test_modules_with_a_format_of_their_own_count_by_it(
    config: dict[str, Any], attention: float, ffn: float
) -> None:
    rest = 8_030_261_248 - ATTENTION - FFN
    by_hand = ATTENTION * attention / 8 + FFN * ffn / 8 + 2 * rest
    assert shipped(hf(quantization_config=config)) == pytest.approx(by_hand, rel=1e-9)


def test_layers_without_attention_are_no_part_of_its_mean() -> None:
    # The one layer in four that attends stays in bf16, though it is one of four only.
    jamba = {
        "model_type": "jamba", "num_hidden_layers": 4, "hidden_size": 128, "vocab_size": 512,
        "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 320,
        "attn_layer_period": 4, "attn_layer_offset": 2, "num_experts": 4, "num_experts_per_tok": 2,
        "expert_layer_period": 2, "expert_layer_offset": 1, "tie_word_embeddings": True,
        "quantization_config": {"quant_method": "fp8", "ignore": ["model.layers.2.self_attn"]},
    }  # fmt: skip
    weights = parse_config(json.dumps(jamba), "config.json", "jamba").declared.weights
    assert weights is not None
    assert stored(weights, "attention") == Stored(precision="bf16")
    assert stored(weights, "linear") == stored(weights, "experts") == Stored(precision="fp8")


def test_precisions_listed_module_by_module() -> None:
    listed = {"lm_head": {"quant_algo": "NVFP4"}}
    for layer in range(32):
        for module in ("q_proj", "k_proj", "v_proj", "o_proj"):
            listed[f"model.layers.{layer}.self_attn.{module}"] = {"quant_algo": "FP8"}
        if layer < 16:
            for module in ("gate_proj", "up_proj", "down_proj"):
                listed[f"model.layers.{layer}.mlp.{module}"] = {"quant_algo": "NVFP4"}
    config = {"quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    model = hf(quantization_config=config)
    attention, ffn = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024), 32 * 3 * 4096 * 14336
    head = 128_256 * 4096
    rest = 8_030_261_248 - attention - ffn - head
    # FFNs of half of the layers are in 4.5 bits, of the others in 16.
    by_hand = attention + ffn * 4.5 / 16 + ffn * 16 / 16 + head * 4.5 / 8 + 2 * rest
    assert shipped(model) == round(by_hand)


def test_modelopt_s_file_beside_the_configuration_is_read(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    said = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": said}))
    model = load_config(tmp_path / "config.json")
    assert model.declared.kv == "fp8"
    assert shipped(model) == of_products(4.5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "aqlm"}, "quantization_config.quant_method: 'aqlm' is not known here"),
        ({"quant_algo": "W1"}, "quantization_config.quant_algo: 'W1' is not known here"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {
            "num_bits": 3, "type": "int"}}}}, "weights of 3 bits are not known here"),
        ({"quant_method": "gptq", "bits": "4"}, "quantization_config.bits: '4' is not a whole"),
        (7, "quantization_config: 7 is not a group of keys"),
    ],
)  # fmt: skip
def test_a_format_that_is_not_known_is_refused_by_name(config: object, words: str) -> None:
    (fault,) = hf_faults(LLAMA_8B | {"quantization_config": config})
    assert words in fault


def test_one_precision_for_all_is_as_a_format_that_says_so() -> None:
    model = hf()
    for precision in ("bf16", "fp8", "int4"):
        usual = WeightFormat(usual=Stored(precision=precision))
        assert model.weight_bytes(precision) == model.weight_bytes(usual)
