"""What is not understood is refused by name, with what kind of thing it is and what to do."""

import json
from typing import Any

import pytest
from tests.sim.model.test_model import LLAMA_8B, hf

from vsim.sim.model.huggingface import load_config, parse_config
from vsim.sim.model.loading import load_model
from vsim.traces.faults import InputError

OF_PARTS = "write the model as a .yaml file of parts and a pattern"


def faults(config: dict[str, Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_config(json.dumps(config), "config.json", "m")
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bert"}, "model_type: 'bert' is an encoder: it keeps no keys or values"),
        ({"model_type": "new", "architectures": ["NewForMaskedLM"]}, "'new' is an encoder"),
        ({"model_type": "t5"}, "'t5' is an encoder with a decoder that attends to it"),
        ({"model_type": "new", "is_encoder_decoder": True}, "is an encoder with a decoder"),
        ({"model_type": "llada"}, "'llada' denoises all tokens again at each step"),
        (
            {"ssm_cfg": {}, "attn_layer_idx": [3]},
            "'mamba_ssm' has attention, FFNs or other numbers",
        ),
        ({"model_type": "rwkv"}, "'rwkv' has a time mix in place of attention, which is not known"),
        ({"model_type": "xlstm"}, "'xlstm' has an xLSTM, which is not known here"),
    ],
)
def test_what_is_no_decoder_of_a_known_kind_is_said_to_be_what_it_is(
    config: dict[str, Any], words: str
) -> None:
    (fault,) = faults(LLAMA_8B | config)
    assert words in fault


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ssm_state_size", 128),
        ("attention_gate_rank", 64),
        ("kv_compression", {"ratio": 4}),
        ("layers_per_block", 2),
        ("use_hyper_network", True),
    ],
)
def test_a_key_that_may_change_layers_is_refused(key: str, value: object) -> None:
    """Of a family that is known, keys of widths and counts; of any other, all that are not."""
    fault, *others = faults(LLAMA_8B | {"model_type": "something_new", key: value})
    assert not others
    assert f"{key}: " in fault
    assert f"is not understood for model_type 'something_new'; {OF_PARTS}" in fault


def test_a_known_family_is_refused_with_a_width_that_its_code_does_not_know() -> None:
    (fault,) = faults(LLAMA_8B | {"moe_latent_size_of_keys": 64})
    assert "moe_latent_size_of_keys: 64 may change how layers are built" in fault


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_scaling": {"factor": 8.0}, "rope_theta": 500000.0, "partial_rotary_factor": 0.5},
        {"torch_dtype": "bfloat16", "transformers_version": "4.1", "_name_or_path": "a/b"},
        {"attention_dropout": 0.1, "initializer_range": 0.02, "rms_norm_eps": 1e-5},
        {"pretraining_tp": 2, "use_cache": True, "eos_token_id": [1, 2], "pad_token_id": 0},
        {"num_experts": 0, "moe_intermediate_size": None, "q_lora_rank": None},
    ],
)
def test_keys_that_change_no_size_are_taken_from_anybody(keys: dict[str, Any]) -> None:
    plain = hf(model_type="something_new")
    assert hf(model_type="something_new", **keys).parameters == plain.parameters


def test_an_unknown_family_that_does_not_say_whether_it_ties_its_embedding_is_refused() -> None:
    config = {key: value for key, value in LLAMA_8B.items() if key != "tie_word_embeddings"}
    (fault,) = faults(config | {"model_type": "something_new"})
    assert "tie_word_embeddings: is missing, and what a model of this model_type does" in fault


def test_an_unknown_family_whose_ffn_may_have_two_matrices_is_refused() -> None:
    (fault,) = faults(LLAMA_8B | {"model_type": "something_new", "hidden_act": "gelu"})
    assert "hidden_act: 'gelu' goes with FFNs of two matrices or of three" in fault
    assert hf(model_type="something_new", hidden_act="silu").parameters == 8_030_261_248


def test_a_kind_of_layer_that_is_not_known_is_refused_by_name() -> None:
    (fault, *_) = faults(LLAMA_8B | {"layer_types": ["wavelet"] * 32})
    assert f"layer_types: 'wavelet' is a kind of layer that is not known here; {OF_PARTS}" in fault
    (fault,) = faults(LLAMA_8B | {"layer_types": ["linear_attention"] * 32})
    assert "'linear_attention' is a kind of layer that model_type 'llama' is not known to" in fault
    (fault,) = faults(LLAMA_8B | {"layer_types": ["full_attention"] * 31})
    assert "layer_types: a list of 31 is not a list of 32, one for each layer" in fault


def test_faults_inside_a_group_say_where_they_are() -> None:
    inner = {key: value for key, value in LLAMA_8B.items() if key != "vocab_size"}
    (fault,) = faults({"model_type": "sees", "text_config": inner | {"model_type": "x"}})
    assert "text_config.vocab_size: is missing" in fault


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("parts", {"parts": {"dense": {"kind": "linear"}}}, "is the model's own part"),
        ("parts", {"parts": {"it": {"kind": "linear"}}}, "does nothing without a pattern"),
        ("pattern", {"pattern": [{"layers": ["attention dens"]}] * 2}, "no part 'dens'"),
        ("layers", {"pattern": [{"layers": ["attention dense"]}]}, "2 is not the pattern's 1"),
        ("unused", {"parts": {"it": {"kind": "linear"}},
                    "pattern": [{"times": 2, "layers": ["attention dense"]}]}, "no layer has it"),
        ("window", {"sliding_window": {"tokens": 4, "layers": 1},
                    "pattern": [{"times": 2, "layers": ["attention dense"]}]},
         "sliding_window: does nothing beside a pattern"),
        ("ffn", {"pattern": [{"times": 2, "layers": ["attention"]}]}, "no layer has the part"),
        ("moe", {"pattern": [{"times": 2, "layers": ["attention dense experts"]}]},
         "moe: is missing; write the experts that the pattern names"),
        ("heads", {"heads": None}, "heads"),
        ("both", {"parts": {"it": {"kind": "gqa", "window": 4, "chunk": 4}},
                  "pattern": [{"times": 2, "layers": ["it dense"]}]},
         "parts.it.chunk: stands beside a window"),
        ("divide", {"parts": {"it": {"kind": "gqa", "kv_heads": 3}},
                    "pattern": [{"times": 2, "layers": ["it dense"]}]},
         "parts.it.kv_heads: 3 does not divide the 2 heads"),
        ("kind", {"parts": {"it": {"kind": "wavelet"}}}, "kind 'wavelet' is not known here"),
    ],
)  # fmt: skip
def test_a_model_file_that_contradicts_itself_is_refused(
    name: str, change: dict[str, Any], words: str
) -> None:
    from tests.sim.model.small import model
    from tests.sim.model.test_ffn_kinds import BASE

    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        model(BASE | change)


def test_a_folder_without_a_configuration_is_refused_as_that(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"is a folder without a config\.json"):
        load_model(str(tmp_path))


def test_a_model_is_named_after_its_folder_or_its_file(tmp_path: Any) -> None:
    for name in ("config.json", "small.json"):
        (tmp_path / name).write_text(json.dumps(LLAMA_8B))
    assert load_config(tmp_path / "config.json").name == tmp_path.name
    assert load_config(tmp_path / "small.json").name == "small"
