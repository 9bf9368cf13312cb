"""Nested configurations: where the decoder's keys stand in a model that also sees or hears."""

from collections.abc import Mapping
from typing import Any

from vsim.sim.model.reading.families import FAMILIES
from vsim.sim.model.reading.mamba_ssm import renamed

GROUPS = ("text_config", "llm_config", "language_config", "thinker_config", "llm_cfg",
          "language_model_config", "text_model_config", "decoder_config")  # fmt: skip
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_transformer_layers",
    "layers_block_type",
)
# What the decoder is where its own group does not say (transformers 5.24, the classes' defaults).
_INNER = {
    "apertus1p5": "apertus1p5_text", "aria": "aria_text", "audioflamingo3": "qwen2",
    "aya_vision": "cohere2", "blip-2": "opt", "cohere2_vision": "cohere2", "deepseek_vl": "llama",
    "deepseek_vl_hybrid": "llama", "emu3": "emu3_text_model", "exaone4_5": "exaone4",
    "fast_vlm": "qwen2", "fun_asr_nano": "qwen3", "fuyu": "persimmon", "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text", "gemma4": "gemma4_text", "gemma4_unified": "gemma4_unified_text",
    "glm46v": "glm4v_text", "glm4v": "glm4v_text", "glm4v_moe": "glm4v_moe_text",
    "glm_ocr": "glm_ocr_text", "glmasr": "llama", "glmga": "glm4v_text", "got_ocr2": "qwen2",
    "granite_speech": "granite", "granite_speech_plus": "granite",
    "hyperclovax_vision_v2": "hyperclovax", "idefics2": "mistral", "idefics3": "llama",
    "instructblip": "opt", "internvl": "qwen2", "internvl_chat": "qwen2", "janus": "llama",
    "kimi_k25": "deepseek_v3", "kimi_vl": "deepseek_v3", "lfm2_vl": "lfm2", "lfm3_vl": "lfm3",
    "lighton_ocr": "qwen3", "llama4": "llama4_text", "llava": "llama", "llava_next": "llama",
    "llava_next_video": "llama", "llava_onevision": "qwen2", "minicpm_ocr": "qwen3_5_text",
    "minicpmv4_6": "qwen3_5_text", "minicpmv4_7": "qwen3_5_text",
    "minimax_m3_vl": "minimax_m3_vl_text", "mistral3": "mistral", "mllama": "mllama_text_model",
    "moss_transcribe_diarize": "qwen3", "musicflamingo": "qwen2", "nemo_speechlm": "nemotron_h",
    "nemotron_h_omni": "nemotron_h", "omniasr": "llama", "ovis2": "qwen2",
    "paddleocr_vl": "paddleocr_vl_text", "paligemma": "gemma", "perception_lm": "llama",
    "pp_chart2table": "qwen2", "qianfan_ocr": "qwen3", "qwen2_5_omni": "qwen2_5_omni_text",
    "qwen2_5_omni_thinker": "qwen2_5_omni_text", "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_audio": "qwen2", "qwen2_vl": "qwen2_vl_text", "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text", "qwen3_asr": "qwen3",
    "qwen3_omni_moe": "qwen3_omni_moe_text", "qwen3_omni_moe_thinker": "qwen3_omni_moe_text",
    "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text",
    "shieldgemma2": "gemma3_text", "smolvlm": "llama", "step3p7": "step3p5", "vibevoice": "qwen2",
    "vibevoice_asr": "qwen2", "video_llama_3": "qwen2", "video_llava": "llama",
    "vipllava": "llama", "voxtral": "llama",
}  # fmt: skip
# Where the class of the whole leaves the head apart though that of its decoder would tie it.
_UNTIED = ("qwen2_5_omni", "qwen2_5_omni_thinker", "qwen3_vl_moe")


def decoder_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The decoder's own keys, and where they stand with a dot behind; the file itself if flat.

    What the outer group says of ties and precisions holds for the decoder, unless it says so
    itself.
    """
    if any(key in config for key in _LAYERS):
        return renamed(config), ""
    for name in GROUPS:
        inner = config.get(name)
        if not isinstance(inner, dict):
            continue
        found, place = decoder_of(inner)
        outer = str(config.get("model_type"))
        kind = found.get("model_type")
        if not isinstance(kind, str) or (kind == outer and place == ""):
            found["model_type"] = _INNER.get(outer, kind)
        for key in ("tie_word_embeddings", "quantization_config", "compression_config"):
            if found.get(key) is None and config.get(key) is not None:
                found[key] = config[key]
        if found.get("tie_word_embeddings") is None and outer in _UNTIED:
            found["tie_word_embeddings"] = False
        if isinstance(config.get("vision_config"), dict):
            found.setdefault("vision_config", config["vision_config"])
        return found, f"{name}.{place}"
    return dict(config), ""


def family_of(config: Mapping[str, Any]) -> str:
    """The family of a decoder: its model_type, or else the one that its class is named after."""
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in FAMILIES:
        return kind
    names = config.get("architectures")
    named = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    by_class = {_squeezed(family): family for family in FAMILIES}
    for ending in ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "Model"):
        found = by_class.get(_squeezed(named.removesuffix(ending)))
        if found is not None:
            return found
    return kind if isinstance(kind, str) else ""


def _squeezed(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
