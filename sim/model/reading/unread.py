"""Keys that nobody asked for: harmless, or a part of the model that would go missing."""

import re

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.class_defaults import class_keys
from vsim.sim.model.reading.keys import Keys

# Words of keys that change no size: positions, activations, scales, training, generation, names.
_HARMLESS = re.compile(
    r"^_|^(?:architectures|auto_map|dtype|torch_dtype|model_type|transformers_version|id2label"
    r"|label2id|torchscript|top_k|top_p|top_h|typical_p|temperature|prefix|seed|license|language"
    r"|task_type|mode|fp16|bf16|fp32|softmax_type|unsloth_\w+|is_decoder|is_causal|causal"
    r"|position_embedding_type|max_attn_value|attn_temperature_tuning|scale_attn_weights"
    r"|query_pre_attn_scalar|chunk_size_feed_forward|norm_topk_prob|n_group|topk_group"
    r"|num_expert_group|num_experts_groups|num_logits_to_keep|scoring_func|normalization|normalization_function"
    r"|norm_type|mlp_type|qk_norm_type|output_gate_type|residual_in_fp32|rescale_prenorm_residual"
    r"|order_of_interleaved_layers|for_llm_compressor|language_model_only|expert_dtype"
    r"|use_parallel_block|use_parallel_embedding|use_gated_activation|max_window_layers"
    r"|no_rope_layers|no_rope_layer_interval|nope_layer_interval|rope_layers|mla_use_nope"
    r"|use_mla_nope|attn_scale|slow_but_exact|chunk_size|mamba_chunk_size|block_size"
    r"|kv_cache_dtype|cache_implementation|shared_expert_combination_strategy"
    r"|expert_selection_fn|mup_enabled|use_mamba_kernels|use_mambapy|use_mem_eff_path"
    r"|use_associative_scan|kda_safe_gate|moe_renormalize|apply_residual_connection_post_layernorm"
    r"|residual_post_layernorm|attention_softmax_in_fp32|apply_query_key_layer_scaling"
    r"|original_rope|interleaved_qkv|layer_norm_elementwise_affine|attn_res_block_size|use_mixed_mlp_moe|use_gemma_norm"
    r"|postnorm|norm_before_gate|mamba_norm_before_gate|index_share_for_mtp_iteration|block_dim|conv_dim"
    r"|mlp_expansion_factor|num_heads_in_group|interleave_moe_layer_type|index_topk_pattern|indexer_rope_interleave)$"
    r"|rope|rotary|yarn|dropout|pdrop|_eps$|epsilon|^eps$|init|loss|aux|jitter|hidden_act"
    r"|activation|_act$|scaling|_scale$|^scale_|multiplier|soft_?cap|_dtype$|name_or_path|beam"
    r"|penalty|max_length|min_length|max_position|max_seq|max_source|max_target|model_max|n_ctx"
    r"|n_positions|seq_length|context_length|token_id|token_index|_token$|tokens_per_image"
    r"|use_cache|output_(?:router|hidden|attention)|return_dict|finetuning|problem_type|labels"
    r"|pretraining|attn_implementation|flash|fused|_autoset|vision|image|video|audio|speech"
    r"|projector|mm_|spatial|temporal|time_step|dt_(?:min|max|init|floor)|a_log|routed_scal"
    r"|route_scale|router_(?!hidden|rank|lora)|capacity|drop_tokens|freq_alloc|moe_gate$|norm_min|swiglu|alpha|_beta"
    r"|kernels|gradient|checkpointing|quantization|compression_config|tokenizer|pad_|pooling"
    r"|classifier|summary_|mtp|nextn|num_mtp|kda_lower_bound|rescale_every|ep_size|tp_size"
    r"|forced_|suppress|decoder_start|diversity|no_repeat|num_return|remove_invalid|tie_encoder"
    r"|tie_word|pruned_heads|sep_token|task_specific|bad_words|early_stopping|do_sample|fetch"
    r"|logn|use_dynamic_ntk|onnx|kernel_|softmax_in|clip_qkv|logit_scale|logits_scal|qk_clip"
)
# Words of keys that say of what widths and counts a layer is built.
_STRUCTURAL = re.compile(
    r"lora|rank|latent|expert|moe|ssm|mamba|conv_|compress|index|recur|loop|hyper|ngram|memory"
    r"|window|sliding|chunk|linear_|swa_|kv_|_kv|cross_attn|gate|sparse|layer_types|block_types"
    r"|pattern|interval|period|freq"
)
# The same of yes or no and of words, which seldom are anything but a choice of kernels.
_FLAG = re.compile(
    r"gate|bias|lora|latent|compress|recur|loop|hyper|ngram|memory|cla$|cross_attn|sink|k_eq_v"
    r"|residual_moe|double|linear_attn|tie_|share_|_ple|second"
)
_GATED = {"silu", "swish", "swiglu", "silu_and_mul", "fast-swiglu"}
_NEUTRAL: tuple[object, ...] = (None, False, 0, 1, "", [], {})
# Decoders whose layers are built in a way that is not known here, and why.
_UNKNOWN = {
    "beam": "layers of its own", "bert-generation": "layers of its own",
    "biogpt": "layers of its own", "git": "layers of its own",
    "blt": "a hierarchy of bytes and patches",
    "ctrl": "layers of its own", "doge": "attention and experts of its own",
    "ernie4_5_moe_vl": "experts for text and for images apart",
    "ernie4_5_vl_moe_text": "experts for text and for images apart",
    "ernie4_5_vl_moe": "experts for text and for images apart",
    "dory": "layers of its own", "hrm_text": "layers that are passed several times",
    "hy_v4": "hyper-connections", "inkling2_loop_text": "layers that are passed several times",
    "inkling2_text": "layers of its own", "inkling_text": "layers of its own",
    "iquestloopcoder": "layers that are passed several times",
    "jetmoe": "a choice of attention heads", "lara_mini": "linear attention of its own",
    "moshi": "a decoder over sound", "ouro": "layers that are passed several times",
    "axk2": "gated norms and attention", "dots3_note_text": "latents that differ by layer",
    "mistral_large4_text": "latents that layers share", "glm5_next_text": "hyper-connections",
    "qwen4_exp_text": "hyper-connections and an n-gram memory",
    "reformer": "hashed attention", "rwkv": "a time mix in place of attention",
    "rwkv5": "a time mix in place of attention", "rwkv6": "a time mix in place of attention",
    "rwkv7": "a time mix in place of attention", "rwkv6qwen2": "a time mix in place of attention",
    "hymba": "attention and a state space that share projections, and KV across layers",
    "mamba_ssm": "attention, FFNs or other numbers beside its Mamba layers",
    "phi4flash": "a memory that half of its layers share",
    "xglm": "layers of its own", "xlnet": "two-stream attention", "xlstm": "an xLSTM",
    "zaya": "convolutional attention", "openai-gpt": "layers of its own",
    "gpt_neox_japanese": "layers of its own", "modernbert-decoder": "layers of its own",
    "cohere_compass_text": "layers of its own", "gemma4_assistant": "a draft's layers",
    "gemma4_unified_assistant": "a draft's layers", "trocr": "a decoder over images",
    "blenderbot-small": "an encoder", "musicgen_melody": "a decoder over sound",
    "roc_bert": "an encoder", "dots3_note": "latents that differ by layer",
    "qwen4_exp": "hyper-connections and an n-gram memory", "blt_local_decoder": "patches of bytes",
    "cpmant": "layers of its own", "musicgen": "a decoder over sound",
}  # fmt: skip


def complain_of_kind(keys: Keys) -> bool:
    """Refuse decoders that are known to be built otherwise; whether it was one."""
    why = _UNKNOWN.get(keys.kind)
    if why is not None:
        message = f"'{keys.kind}' has {why}, which is not known here; {_ELSE}"
        keys.complain("model_type", message)
    return why is not None


def complain_of_unread(keys: Keys, known: bool) -> None:
    """Refuse keys that may change a model's structure and were not understood.

    A family that is known has code whose keys are known, so that only such a key counts there as
    is named like what later layers of other models have: experts, latents, states, indexers. Of
    an unknown one every key counts that is not known to change nothing.
    """
    kind = keys.kind or "none"
    if not known:
        _complain_of_activation(keys, kind)
    of_class = class_keys(kind)
    for key in keys.unread():
        value = keys.values[key]
        if _is_neutral(value) or _HARMLESS.search(key):
            continue
        if known and (key in of_class or not _STRUCTURAL.search(key)):
            continue
        if known and isinstance(value, dict | float):
            continue  # another network's group, such as a vision tower's; or a factor
        if known and isinstance(value, bool | str) and not _FLAG.search(key):
            continue
        message = f"{show(value)} may change how layers are built, and is not understood"
        keys.complain(key, f"{message} for model_type '{kind}'; {_ELSE}")


def _complain_of_activation(keys: Keys, kind: str) -> None:
    """An FFN has three matrices with some activations, with others two or three."""
    value = keys.word("hidden_act", "activation_function", "hidden_activation")
    if value is not None and value.lower() not in _GATED:
        message = f"{show(value)} goes with FFNs of two matrices or of three, and which is not"
        message += f" known for model_type '{kind}'; {_ELSE}"
        keys.complain("hidden_act", message)


_ELSE = "write the model as a .yaml file of parts and a pattern"


def _is_neutral(value: object) -> bool:
    """Whether a value says that there is none, or the plain case."""
    return any(value is each or (value == each and type(value) is type(each)) for each in _NEUTRAL)
