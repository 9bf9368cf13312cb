"""One published model of each family, by the keys of its config.json, against its own count.

`published.json` holds the keys that bear on sizes. Counts are those of the models' cards or of the
sum of their checkpoints' tensors; KV bytes a token, in bf16, follow by hand: 2 bytes · (a key and a
value of each KV head, or a latent) · layers that keep tokens.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from vsim.sim.model.huggingface import parse_config
from vsim.sim.model.model import Model
from vsim.sim.model.reading.class_defaults import class_defaults
from vsim.sim.model.reading.families import FAMILIES

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "published.json").read_text()
)
ROUTER_BIASES = 2e-6  # which some counts leave out, as buffers


def read(name: str) -> Model:
    return parse_config(json.dumps(PUBLISHED[name]["config"]), name, "m")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_count_and_kv(name: str) -> None:
    model, published = read(name), PUBLISHED[name]
    assert model.parameters == pytest.approx(published["parameters"], rel=ROUTER_BIASES)
    assert model.kv_bytes_per_token("bf16") == published["kv_bytes_per_token"]


@pytest.mark.parametrize(
    ("name", "numbers", "layers"),
    [
        ("Mistral-7B", 2 * 8 * 128, 32),
        ("gemma-2b", 2 * 1 * 256, 18),
        ("falcon-40b", 2 * 8 * 64, 60),
        ("starcoder", 2 * 1 * 128, 40),
        ("DeepSeek-V2-Lite", 512 + 64, 27),
        ("dbrx", 2 * 8 * 128, 40),
        ("Zamba2-7B", 2 * 32 * 224, 13),  # the places where a shared layer stands
        ("Nemotron-Nano-9B-v2", 2 * 8 * 128, 4),
        ("LFM2-1.2B", 2 * 8 * 64, 6),
        ("Bamba-9B", 2 * 8 * 128, 3),
        ("Falcon-H1-0.5B", 2 * 2 * 64, 36),
        ("MiniMax-Text-01", 2 * 8 * 128, 10),
        ("recurrentgemma-2b", 2 * 1 * 256, 8),
        ("Mamba-Codestral", 0, 64),
        ("Jamba-mini-1.7", 2 * 8 * 128, 4),
        ("gemma-3n-E4B", 2 * 2 * 256, 20),  # the last 15 layers attend to others' keys
        ("chatglm3-6b", 2 * 2 * 128, 28),
        ("command-a", 2 * 8 * 128, 64),
    ],
)
def test_a_published_model_keeps_what_its_layers_keep(name: str, numbers: int, layers: int) -> None:
    assert read(name).kv_bytes_per_token("bf16") == 2 * numbers * layers


LAYERS = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 8, "vocab_size": 512,
          "tie_word_embeddings": True}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        # Keys and values of 16 wide heads, two numbers each, over the layers.
        ({"model_type": "deci", "num_key_value_heads_per_layer": [8, 8, 4, 1],
          "intermediate_size": 320}, 2 * 16 * (8 + 8 + 4 + 1)),
        ({"model_type": "gpt_bigcode", "multi_query": False, "n_positions": 64}, 2 * 16 * 8 * 4),
        ({"model_type": "gpt_bigcode", "multi_query": True, "n_positions": 64}, 2 * 16 * 1 * 4),
        # Where no kinds are listed: all layers keep a state, or every other one.
        ({"model_type": "granitemoehybrid", "mamba_n_heads": 8, "mamba_d_head": 32,
          "mamba_d_state": 16, "num_local_experts": 0, "shared_intermediate_size": 64}, 0),
        ({"model_type": "minimax", "num_key_value_heads": 2, "num_local_experts": 4,
          "num_experts_per_tok": 2, "intermediate_size": 64, "head_dim": 16}, 2 * 16 * 2 * 2),
        # Falcon-40B's first name: several KV heads, as its own key says.
        ({"model_type": "RefinedWeb", "n_head_kv": 2, "bias": False}, 2 * 16 * 2 * 4),
    ],
    ids=["deci", "mha", "mqa", "granite", "minimax", "RefinedWeb"],
)  # fmt: skip
def test_what_a_file_leaves_out_is_as_its_class_has_it(
    config: dict[str, Any], numbers: int
) -> None:
    model = parse_config(json.dumps(LAYERS | config), "config.json", "m")
    assert model.kv_bytes_per_token("bf16") == 2 * numbers


def test_no_default_is_kept_for_a_family_that_is_not_read() -> None:
    assert set(class_defaults()) <= set(FAMILIES)
