"""Which models and engine settings are recorded, and which tables each plays.

Shapes are those of the models' published configurations; the weights are drawn, see `worker`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

LLAMA_8B: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    }
)
QWEN3_30B_A3B: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    }
)
GEMMA3_12B: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
        "layer_types": [
            "full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(48)
        ],
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 2,
        "eos_token_id": 1,
    }
)
MODELS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {"llama-3.1-8b": LLAMA_8B, "qwen3-30b-a3b": QWEN3_30B_A3B, "gemma-3-12b": GEMMA3_12B}
)
MAX_MODEL_TOKENS: Final = 40_960  # one sequence must fit the small KV caches, too


@dataclass(frozen=True, slots=True)
class Play:
    """A table played `repeats` times with weights `drawn` as worker.WeightsExtension says."""

    table: str
    repeats: int = 2
    drawn: str = "normal"


@dataclass(frozen=True, slots=True)
class Case:
    """An engine and what it is played.

    Args:
        model: a key of MODELS.
        plays: in this order.
        engine: arguments of vLLM's engine besides `engine_arguments`.
        routing: whether to count how often each expert is chosen, after the plays.
        traced: whether to trace the kernels of a few steps, after all else.
    """

    model: str
    plays: tuple[Play, ...]
    engine: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    routing: bool = False
    traced: bool = False


def _plays(*tables: str) -> tuple[Play, ...]:
    return tuple(Play(name, 1 if name.startswith("alone") else 2) for name in tables)


_DUMMY: Final = (Play("burst", 1, "dummy"), Play("alone_short", 1, "dummy"))
_NORMAL: Final = (Play("alone_short", 1),)
_SMALL: Final[Mapping[str, Any]] = MappingProxyType({"num_gpu_blocks_override": 3000})

CASES: Final[Mapping[str, Case]] = MappingProxyType(
    {
        "8b_room": Case(
            "llama-3.1-8b",
            _plays("alone", "chat_4", "chat_16", "burst", "sessions", "long", "chat_32", "chat_24")
            + _plays("alone_middle")
            + _NORMAL
            + _DUMMY,
            traced=True,
        ),
        "8b_short": Case(
            "llama-3.1-8b", _plays("sessions", "growing_16", "growing_40", "growing_28"), _SMALL
        ),
        "8b_offload": Case(
            "llama-3.1-8b",
            _plays("sessions", "growing_16", "growing_40"),
            MappingProxyType({**_SMALL, "kv_offloading_size": 24.0}),
        ),
        "8b_offload_short": Case(
            "llama-3.1-8b",
            _plays("sessions", "growing_16", "growing_40"),
            MappingProxyType({**_SMALL, "kv_offloading_size": 6.0}),
        ),
        "8b_limits": Case(
            "llama-3.1-8b",
            _plays("chat_16", "long", "chat_32", "alone_middle"),
            MappingProxyType({"max_num_batched_tokens": 2048, "max_num_seqs": 32}),
        ),
        "8b_fp8": Case(
            "llama-3.1-8b",
            _plays("alone", "chat_16", "burst", "sessions", "long"),
            MappingProxyType({"quantization": "fp8"}),
            traced=True,
        ),
        "moe": Case(
            "qwen3-30b-a3b",
            _plays("alone", "chat_8", "burst", "sessions", "long") + _NORMAL + _DUMMY,
            routing=True,
            traced=True,
        ),
        "windows": Case("gemma-3-12b", _plays("alone", "chat_8", "sessions", "long"), traced=True),
        "8b_tp2": Case(
            "llama-3.1-8b",
            _plays("burst", "chat_16", "alone", "sessions"),
            MappingProxyType({"tensor_parallel_size": 2}),
        ),
    }
)


def engine_arguments(case: Case) -> dict[str, Any]:
    """Return the arguments of vLLM's engine for a case, less the model's folder."""
    return {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "block_size": 16,
        "max_model_len": MAX_MODEL_TOKENS,
        "disable_log_stats": False,
        "enable_log_requests": False,
        **case.engine,
    }
