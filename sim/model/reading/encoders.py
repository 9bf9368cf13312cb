"""Encoders and denoisers: models that keep no keys from one step to the next, refused as such."""

from collections.abc import Mapping
from typing import Any

_ENCODERS = frozenset({
    "albert", "bert", "big_bird", "camembert", "canine", "clip", "clip_text_model", "colpali",
    "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
    "esm", "eurobert", "flaubert", "funnel", "ibert", "jina_embeddings_v3", "layoutlm",
    "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "nezha",
    "nomic_bert", "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roformer",
    "siglip", "siglip2", "splinter", "squeezebert", "vit", "wav2vec2", "xlm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
_BOTH = frozenset({
    "bart", "bigbird_pegasus", "blenderbot", "florence2", "fsmt", "led", "longt5", "m2m_100",
    "marian", "mbart", "moonshine", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart",
    "prophetnet", "seamless_m4t", "seamless_m4t_v2", "speech_to_text", "switch_transformers", "t5",
    "t5gemma", "t5gemma2", "udop", "umt5", "whisper",
})  # fmt: skip
_DENOISERS = frozenset({
    "Dream", "diffusion_gemma", "diffusion_gemma_text", "dream", "llada", "llada_moe",
})  # fmt: skip


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a model is not a decoder; None if it is."""
    named = config.get("model_type")
    kind = named if isinstance(named, str) else "it"
    if kind in _BOTH or config.get("is_encoder_decoder") is True:
        return (
            f"'{kind}' is an encoder with a decoder that attends to it, not a decoder alone;"
            " only decoders can be simulated"
        )
    if kind in _DENOISERS:
        return (
            f"'{kind}' denoises all tokens again at each step, so that no key lasts and it has no"
            " KV cache; only decoders can be simulated"
        )
    names = config.get("architectures")
    masked = isinstance(names, list) and any(
        isinstance(name, str) and name.endswith("ForMaskedLM") for name in names
    )
    if kind in _ENCODERS or masked:
        return (
            f"'{kind}' is an encoder: it keeps no keys or values between steps, so it has no KV"
            " cache; only decoders can be simulated"
        )
    return None
