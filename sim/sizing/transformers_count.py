"""An independent count: the weights of transformers' own class for a config.json.

The class is built on PyTorch's meta device, where a weight is a shape and takes no memory. Needs
`pip install 'vsim[hf]'`; nothing is downloaded.
"""

import copy
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_DECODERS: Final = ("thinker_config", "text_config", "llm_config", "language_config")
_EXPERTS_PER_TOKEN: Final = (
    "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts",
    "num_selected_experts",
)  # fmt: skip
# What changes no shape, and would be looked for on the network or on a GPU.
_LEFT_OUT: Final = ("quantization_config", "compression_config", "auto_map", "dtype", "torch_dtype")
_STACKED: Final = (
    "input_linear.weight",
    "output_linear.weight",
)  # Granite's experts, in one tensor
_BESIDE: Final = ("vision", "visual", "audio", "multi_modal_projector")


@dataclass(frozen=True, slots=True)
class Counted:
    """What transformers counts.

    Args:
        name: of its class.
        parameters: weights of the language model, tied ones once.
        active_parameters: of these, those that a token meets: the LM head, not the embedding, and
            as many experts as it goes through.
    """

    name: str
    parameters: int
    active_parameters: int


def available() -> bool:
    """Whether transformers and torch are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("transformers", "torch"))


def count(config: Mapping[str, Any]) -> Counted:
    """Count the weights of a configuration's language model.

    Args:
        config: as config.json has it.

    Raises:
        LookupError: transformers has no class for it, or can't read it.
    """
    transformers, torch = (importlib.import_module(name) for name in ("transformers", "torch"))
    transformers.logging.set_verbosity_error()
    raw = _without(config)
    kind = raw.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise LookupError(f"transformers {transformers.__version__} has no model_type '{kind}'")
    try:
        whole = transformers.CONFIG_MAPPING[kind].from_dict(copy.deepcopy(raw))
    except (AttributeError, KeyError, TypeError) as error:  # parts of it have no defaults
        raise LookupError(f"transformers does not read '{kind}': {error}") from error
    text = whole
    wider = whole
    for key in _DECODERS:
        inner = getattr(text, key, None)
        if inner is not None:
            wider, text = text, inner
    if text is not whole and "tie_word_embeddings" in raw:
        text.tie_word_embeddings = raw["tie_word_embeddings"]
    with torch.device("meta"):
        if type(text) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            model = transformers.AutoModelForCausalLM.from_config(text)
        elif type(wider) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            model = transformers.AutoModelForImageTextToText.from_config(wider)
        else:
            names = [name for name in raw.get("architectures") or () if hasattr(transformers, name)]
            if not names:
                raise LookupError(f"transformers has no class that generates for '{kind}'")
            model = getattr(transformers, names[0])(whole)
    model.tie_weights()
    inner = getattr(text, "ffn_config", None)  # DBRX's
    chosen = _first(text, _EXPERTS_PER_TOKEN) or getattr(inner, "moe_top_k", None)
    return _counted(model, chosen, getattr(inner, "moe_num_experts", None))


def _first(config: Any, keys: tuple[str, ...]) -> int | None:
    """The first key that is there; of a list of one number a layer, its first."""
    found = next((getattr(config, key) for key in keys if hasattr(config, key)), None)
    return found[0] if isinstance(found, list) else found


def _counted(model: Any, experts_per_token: int | None, routed: int | None) -> Counted:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    lists = {
        name: len(module)
        for name, module in model.named_modules()
        if name.endswith("experts") and type(module).__name__ == "ModuleList"
    }
    total, met = 0, 0
    for name, weight in model.named_parameters():
        if any(word in name for word in _BESIDE):
            continue
        total += weight.numel()
        if weight is embedding.weight and not tied:
            continue
        experts = next((n for path, n in lists.items() if name.startswith(f"{path}.")), None)
        stacked = name.endswith(_STACKED) and weight.dim() == 3
        if experts is None and (".experts." in name or stacked):
            experts = weight.shape[0] if routed is None else routed
        share = experts_per_token if experts and experts_per_token else None
        met += weight.numel() if share is None else weight.numel() * share // int(experts or 1)
    return Counted(type(model).__name__, total, met)


def _without(config: Any) -> Any:
    """A copy without keys that change no shape."""
    if isinstance(config, Mapping):
        return {key: _without(value) for key, value in config.items() if key not in _LEFT_OUT}
    return config
