"""What vsim reads of a config.json, against transformers' own class on the meta device.

Needs `pip install 'vsim[hf]'`, and is skipped without.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vsim.sim.model.huggingface import load_config
from vsim.sim.model.model import Model
from vsim.sim.sizing.transformers_count import available, count

pytestmark = [
    pytest.mark.skipif(not available(), reason="needs transformers and torch: vsim[hf]"),
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers, about themselves
]

STANDARD = {
    "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 320, "vocab_size": 512, "max_position_embeddings": 4096,
    "pad_token_id": 0,
}  # fmt: skip
LATENT = {
    "num_key_value_heads": 8, "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
EXPERTS = {
    "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 48, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MAMBA = {
    "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_d_head": 32,
    "mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_conv_bias": True, "mamba_proj_bias": False,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "head_dim": 32,
}  # fmt: skip
WINDOWED = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
LINEAR = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]


def standard(**keys: Any) -> dict[str, Any]:
    return STANDARD | keys


# Small models with the keys that published files have, by architecture and model_type.
CONFIGS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("LlamaForCausalLM", "llama"): standard(tie_word_embeddings=False),
    ("MistralForCausalLM", "mistral"): standard(head_dim=32, sliding_window=128),
    ("MixtralForCausalLM", "mixtral"): standard(num_local_experts=4, num_experts_per_tok=2),
    ("Qwen2ForCausalLM", "qwen2"): standard(tie_word_embeddings=True, use_sliding_window=False),
    ("Qwen2MoeForCausalLM", "qwen2_moe"): standard(
        num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48,
        shared_expert_intermediate_size=96, decoder_sparse_step=1,
    ),
    ("Qwen3ForCausalLM", "qwen3"): standard(head_dim=32, tie_word_embeddings=False),
    ("Qwen3MoeForCausalLM", "qwen3_moe"): standard(
        head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48,
        decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False,
    ),
    ("Qwen3NextForCausalLM", "qwen3_next"): standard(
        num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48, full_attention_interval=4,
        shared_expert_intermediate_size=48, decoder_sparse_step=1, **DELTA,
    ),
    ("Gemma2ForCausalLM", "gemma2"): standard(head_dim=32, sliding_window=128),
    ("Gemma3ForCausalLM", "gemma3_text"): standard(
        head_dim=32, sliding_window=128, sliding_window_pattern=2
    ),
    ("Phi3ForCausalLM", "phi3"): standard(sliding_window=128, tie_word_embeddings=False),
    ("PhiForCausalLM", "phi"): standard(num_key_value_heads=8, tie_word_embeddings=False),
    ("FalconForCausalLM", "falcon"): {
        "num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 8, "vocab_size": 512,
        "multi_query": True, "parallel_attn": True, "bias": False, "num_kv_heads": 2,
        "new_decoder_architecture": True,
    },
    ("GPT2LMHeadModel", "gpt2"): {
        "n_layer": 3, "n_embd": 128, "n_head": 8, "n_positions": 256, "vocab_size": 512,
    },
    ("GPTBigCodeForCausalLM", "gpt_bigcode"): {
        "n_layer": 3, "n_embd": 128, "n_head": 8, "n_positions": 256, "vocab_size": 512,
        "multi_query": True,
    },
    ("GPTNeoXForCausalLM", "gpt_neox"): {
        "num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 8, "vocab_size": 512,
        "intermediate_size": 512, "tie_word_embeddings": False,
    },
    ("GPTJForCausalLM", "gptj"): {
        "n_layer": 3, "n_embd": 128, "n_head": 8, "n_positions": 256, "vocab_size": 512,
        "n_inner": None, "rotary_dim": 8, "tie_word_embeddings": False,
    },
    ("OPTForCausalLM", "opt"): {
        "num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 8, "ffn_dim": 512,
        "vocab_size": 512, "word_embed_proj_dim": 64, "max_position_embeddings": 256,
        "do_layer_norm_before": True,
    },
    ("BloomForCausalLM", "bloom"): {
        "n_layer": 3, "hidden_size": 128, "n_head": 8, "vocab_size": 512,
    },
    ("MptForCausalLM", "mpt"): {
        "d_model": 128, "n_heads": 8, "n_layers": 3, "expansion_ratio": 4, "vocab_size": 512,
        "max_seq_len": 256, "no_bias": True,
    },
    ("Starcoder2ForCausalLM", "starcoder2"): standard(use_bias=True, sliding_window=128),
    ("CohereForCausalLM", "cohere"): standard(use_qk_norm=False),
    ("Cohere2ForCausalLM", "cohere2"): standard(
        head_dim=32, sliding_window=128, sliding_window_pattern=4
    ),
    ("OlmoForCausalLM", "olmo"): standard(tie_word_embeddings=False),
    ("Olmo2ForCausalLM", "olmo2"): standard(tie_word_embeddings=False),
    ("Olmo3ForCausalLM", "olmo3"): standard(
        sliding_window=128, layer_types=WINDOWED, tie_word_embeddings=False
    ),
    ("OlmoeForCausalLM", "olmoe"): standard(num_experts=8, num_experts_per_tok=2),
    ("GraniteForCausalLM", "granite"): standard(tie_word_embeddings=True),
    ("GraniteMoeForCausalLM", "granitemoe"): standard(num_local_experts=8, num_experts_per_tok=2),
    ("GraniteMoeHybridForCausalLM", "granitemoehybrid"): standard(
        num_local_experts=8, num_experts_per_tok=2, shared_intermediate_size=96,
        layer_types=["mamba", "mamba", "attention", "mamba"], tie_word_embeddings=True, **MAMBA,
    ),
    ("BambaForCausalLM", "bamba"): standard(attn_layer_indices=[2], attn_rotary_emb=8, **MAMBA),
    ("FalconH1ForCausalLM", "falcon_h1"): standard(
        head_dim=32, mamba_d_ssm=256, mamba_rms_norm=False, **MAMBA
    ),
    ("JambaForCausalLM", "jamba"): standard(
        attn_layer_offset=1, attn_layer_period=2, expert_layer_offset=1, expert_layer_period=2,
        num_experts=4, num_experts_per_tok=2, mamba_d_state=16, mamba_d_conv=4, mamba_expand=2,
        mamba_dt_rank=8, mamba_conv_bias=True, mamba_proj_bias=False, tie_word_embeddings=False,
    ),
    ("NemotronHForCausalLM", "nemotron_h"): standard(
        hybrid_override_pattern="M-M*", head_dim=32, mamba_head_dim=32, mamba_num_heads=8,
        n_groups=2, ssm_state_size=16, conv_kernel=4, use_conv_bias=True, expand=2,
        tie_word_embeddings=False,
    ),
    ("MambaForCausalLM", "mamba"): {
        "num_hidden_layers": 3, "hidden_size": 128, "state_size": 16, "vocab_size": 512,
        "expand": 2, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True,
        "time_step_rank": 8, "intermediate_size": 256,
    },
    ("Mamba2ForCausalLM", "mamba2"): {
        "num_hidden_layers": 3, "hidden_size": 128, "state_size": 16, "vocab_size": 512,
        "expand": 2, "n_groups": 1, "head_dim": 32, "num_heads": 8, "conv_kernel": 4,
        "use_bias": False, "use_conv_bias": True, "tie_word_embeddings": True,
    },
    ("Lfm2ForCausalLM", "lfm2"): {
        "num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 8, "vocab_size": 512,
        "num_key_value_heads": 2, "block_ff_dim": 480, "block_auto_adjust_ff_dim": True,
        "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 64, "conv_L_cache": 3,
        "conv_bias": False, "layer_types": ["conv", "full_attention", "conv"],
    },
    ("DeepseekV2ForCausalLM", "deepseek_v2"): standard(
        **LATENT | EXPERTS | {"q_lora_rank": None}, tie_word_embeddings=False
    ),
    ("DeepseekV3ForCausalLM", "deepseek_v3"): standard(
        **LATENT, **EXPERTS, tie_word_embeddings=False
    ),
    ("DeepseekV32ForCausalLM", "deepseek_v32"): standard(
        **LATENT, **EXPERTS, index_n_heads=4, index_head_dim=32, index_topk=64,
        tie_word_embeddings=False,
    ),
    ("Glm4MoeForCausalLM", "glm4_moe"): standard(
        **EXPERTS, head_dim=32, attention_bias=True, use_qk_norm=True, tie_word_embeddings=False
    ),
    ("Glm4ForCausalLM", "glm4"): standard(head_dim=32, tie_word_embeddings=False),
    ("GptOssForCausalLM", "gpt_oss"): standard(
        head_dim=32, num_local_experts=8, num_experts_per_tok=2, sliding_window=128,
        tie_word_embeddings=False,
    ),
    ("Llama4ForCausalLM", "llama4_text"): standard(
        head_dim=32, num_local_experts=4, num_experts_per_tok=1, intermediate_size_mlp=512,
        interleave_moe_layer_step=2, attention_chunk_size=128, tie_word_embeddings=False,
    ),
    ("MiniMaxM2ForCausalLM", "minimax_m2"): standard(
        head_dim=32, num_local_experts=8, num_experts_per_tok=2, use_qk_norm=True,
        tie_word_embeddings=False,
    ),
    ("MiniMaxForCausalLM", "minimax"): standard(
        head_dim=32, num_local_experts=4, num_experts_per_tok=2, layer_types=LINEAR
    ),
    ("Exaone4ForCausalLM", "exaone4"): standard(sliding_window=128, layer_types=WINDOWED),
    ("Ernie4_5_MoeForCausalLM", "ernie4_5_moe"): standard(
        moe_num_experts=8, moe_k=2, moe_intermediate_size=48, moe_layer_start_index=1,
        moe_layer_end_index=3, moe_num_shared_experts=2, tie_word_embeddings=True,
    ),
    ("SmolLM3ForCausalLM", "smollm3"): standard(tie_word_embeddings=True),
    ("ApertusForCausalLM", "apertus"): standard(tie_word_embeddings=False),
    ("SeedOssForCausalLM", "seed_oss"): standard(head_dim=32, tie_word_embeddings=False),
    ("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"): standard(head_dim=32),
    ("DbrxForCausalLM", "dbrx"): {
        "d_model": 128, "n_heads": 8, "n_layers": 3, "vocab_size": 512, "max_seq_len": 256,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 320, "moe_num_experts": 4, "moe_top_k": 2},
        "tie_word_embeddings": False,
    },
}  # fmt: skip


def read(config: Mapping[str, Any], folder: Path) -> Model:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    return load_config(file)


@pytest.mark.parametrize(("architecture", "kind"), CONFIGS)
def test_a_small_model_has_the_weights_of_transformers_class(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    keys = CONFIGS[architecture, kind]
    config = {"architectures": [architecture], "model_type": kind, **keys}
    counted, model = count(config), read(config, tmp_path)
    assert counted.name == architecture
    # routers' biases, which transformers keeps as buffers, are some tens here; OLMo's norms have
    # no weights, and vsim counts those of the last one
    more = 8 * 4 if kind != "olmo" else 128
    assert 0 <= model.parameters - counted.parameters <= more
    assert 0 <= model.active_parameters - counted.active_parameters <= more


# Falcon's class keeps a copy for each query head, and DBRX's does not run as its file says.
CACHED = [each for each in CONFIGS if each[1] not in ("falcon", "dbrx")]


@pytest.mark.parametrize(("architecture", "kind"), CACHED)
def test_a_small_model_keeps_what_transformers_cache_keeps(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    """Of 200 tokens; a window or chunk of 128 keeps one less there: not the next token's own."""
    torch, transformers = (importlib.import_module(name) for name in ("torch", "transformers"))
    config = {"architectures": [architecture], "model_type": kind, **CONFIGS[architecture, kind]}
    known = transformers.CONFIG_MAPPING[kind].from_dict(json.loads(json.dumps(config)))
    built = transformers.AutoModelForCausalLM.from_config(known).eval()
    with torch.no_grad():
        out = built(torch.ones(1, 200, dtype=torch.long), use_cache=True)
    cache = getattr(out, "past_key_values", None) or out.cache_params
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    numbers = sum(each.numel() for each in kept if isinstance(each, torch.Tensor))
    groups = read(config, tmp_path).kv_groups("bf16")
    index = sum(36 * each.layers * 200 for each in groups if kind == "deepseek_v32")
    seen = {"full": 200, "window": 127, "chunk": 127}
    held = sum(each.entry_bytes * seen.get(each.kind, 0) for each in groups)
    assert held - index == 2 * numbers


def _published() -> list[Path]:
    folder = os.environ.get("VSIM_MODELS")
    return sorted(Path(folder, "configs").glob("*.json")) if folder else []


# Where the two differ, which is right and why.
OTHERWISE = {
    "bert-base-uncased": "an encoder, which vsim refuses",
    "whisper-large-v3": "an encoder with a decoder, which vsim refuses",
}


@pytest.mark.parametrize("path", _published(), ids=lambda path: path.stem)
def test_a_published_model_has_the_weights_of_transformers_class(path: Path) -> None:
    if path.stem in OTHERWISE:
        pytest.skip(OTHERWISE[path.stem])
    try:
        counted = count(json.loads(path.read_text()))
    except LookupError as error:
        pytest.skip(str(error))
    model = load_config(path)
    assert model.parameters == pytest.approx(counted.parameters, rel=1e-4)
    assert model.active_parameters == pytest.approx(counted.active_parameters, rel=1e-4)


def test_a_type_that_transformers_has_not_is_named() -> None:
    with pytest.raises(LookupError, match="'nothing_like_it'"):
        count({"architectures": ["X"], "model_type": "nothing_like_it"})
