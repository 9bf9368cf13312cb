"""Of each field of a part: a part of its kind that has it, and what is written instead."""

from typing import Any

GQA: dict[str, Any] = {"kind": "gqa", "heads": 16, "kv_heads": 4, "head_dim": 64}
INDEX: dict[str, Any] = {"top": 64, "heads": 4, "head_dim": 128}
INDEXED = GQA | {"index": INDEX}
MLA: dict[str, Any] = {
    "kind": "mla", "heads": 16, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 768,
}  # fmt: skip
COMPRESSED: dict[str, Any] = {
    "kind": "compressed", "heads": 16, "head_dim": 512, "rotary_dim": 64, "q_lora_rank": 512,
    "output_groups": 4, "output_rank": 256, "window": 128, "ratio": 8,
}  # fmt: skip
CROSS: dict[str, Any] = GQA | {"kind": "cross", "tokens": 1000}
DELTA: dict[str, Any] = {"kind": "delta_net", "key_heads": 8, "value_heads": 16, "key_dim": 128,
                         "value_dim": 128}  # fmt: skip
KDA: dict[str, Any] = {"kind": "kda", "heads": 8, "head_dim": 128}
LIGHTNING: dict[str, Any] = {"kind": "lightning", "heads": 8, "head_dim": 128}
MAMBA: dict[str, Any] = {"kind": "mamba", "width": 2048, "step_rank": 64}
MAMBA2: dict[str, Any] = {"kind": "mamba2", "heads": 32, "head_dim": 64, "state": 128}
CONV: dict[str, Any] = {"kind": "short_conv", "width": 1024}
UNIT: dict[str, Any] = {"kind": "linear_unit", "width": 1024, "blocks": 8}
DENSE: dict[str, Any] = {"kind": "dense", "width": 2048}
MOE: dict[str, Any] = {"kind": "moe", "experts": 16, "experts_per_token": 2, "expert_hidden": 512}

PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kind": (GQA, {"kind": "cross", "tokens": 1000}),
    "heads": (GQA, {"heads": 32}),
    "kv_heads": (GQA, {"kv_heads": 8}),
    "head_dim": (GQA, {"head_dim": 128}),
    "value_dim": (GQA, {"value_dim": 32}),
    "window": (GQA, {"window": 100}),
    "chunk": (GQA, {"chunk": 100}),
    "qkv_bias": (GQA, {"qkv_bias": True}),
    "output_bias": (GQA, {"output_bias": True}),
    "qk_norm": (GQA, {"qk_norm": "all"}),
    "gate": (GQA, {"gate": "head"}),
    "sinks": (GQA, {"sinks": True}),
    "projects_kv": (GQA, {"projects_kv": False}),
    "values_are_keys": (GQA, {"values_are_keys": True}),
    "keeps_kv": (GQA, {"keeps_kv": False}),
    "query_latent": (GQA, {"query_latent": 256}),
    "inputs": (GQA, {"inputs": 2048}),
    "copies": (GQA, {"copies": 1}),
    "index.top": (INDEXED, {"index": INDEX | {"top": 32}}),
    "index.heads": (INDEXED, {"index": INDEX | {"heads": 8}}),
    "index.head_dim": (INDEXED, {"index": INDEX | {"head_dim": 64}}),
    "index.key_bytes": (INDEXED, {"index": INDEX | {"key_bytes": 256}}),
    "index.key_inputs": (INDEXED, {"index": INDEX | {"key_inputs": 512}}),
    "index.weighs_heads": (INDEXED, {"index": INDEX | {"weighs_heads": False}}),
    "index.norm_vectors": (INDEXED, {"index": INDEX | {"norm_vectors": 0}}),
    "kv_lora_rank": (MLA, {"kv_lora_rank": 256}),
    "qk_rope_head_dim": (MLA, {"qk_rope_head_dim": 32}),
    "qk_nope_head_dim": (MLA, {"qk_nope_head_dim": 64}),
    "v_head_dim": (MLA, {"v_head_dim": 64}),
    "q_lora_rank": (MLA, {"q_lora_rank": None}),
    "rotary_dim": (COMPRESSED, {"rotary_dim": 32}),
    "output_groups": (COMPRESSED, {"output_groups": 8}),
    "output_rank": (COMPRESSED, {"output_rank": 128}),
    "ratio": (COMPRESSED, {"ratio": 16}),
    "tokens": (CROSS, {"tokens": 2000}),
    "key_heads": (DELTA, {"key_heads": 16}),
    "value_heads": (DELTA, {"value_heads": 8}),
    "key_dim": (DELTA, {"key_dim": 64}),
    "conv_tokens": (DELTA, {"conv_tokens": 8}),
    "state_bytes": (DELTA, {"state_bytes": 4}),
    "decay_rank": (KDA, {"decay_rank": 64}),
    "gate_rank": (KDA, {"gate_rank": 64}),
    "gate_norm": (LIGHTNING, {"gate_norm": False}),
    "width": (MAMBA, {"width": 4096}),
    "state": (MAMBA, {"state": 32}),
    "step_rank": (MAMBA, {"step_rank": 128}),
    "conv_bias": (MAMBA, {"conv_bias": False}),
    "projection_bias": (MAMBA, {"projection_bias": True}),
    "norms": (MAMBA, {"norms": True}),
    "groups": (MAMBA2, {"groups": 8}),
    "norm": (MAMBA2, {"norm": False}),
    "bias": (CONV, {"bias": True}),
    "blocks": (UNIT, {"blocks": 4}),
    "gated": (DENSE, {"gated": False}),
    "experts": (MOE, {"experts": 32}),
    "experts_per_token": (MOE, {"experts_per_token": 4}),
    "expert_hidden": (MOE, {"expert_hidden": 256}),
    "shared_experts": (MOE, {"shared_experts": 1}),
    "shared_hidden": (MOE, {"shared_hidden": 256}),
    "router_bias": (MOE, {"router_bias": True}),
    "router_outputs": (MOE, {"router_outputs": 4}),
    "shared_gate": (MOE, {"shared_experts": 1, "shared_gate": True}),
    "latent": (MOE, {"latent": 256}),
    "latent_norm": (MOE | {"latent": 256}, {"latent_norm": True}),
}
"""Fields that several kinds have act in each of them alike; one stands for all."""
