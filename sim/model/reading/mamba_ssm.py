"""The configurations of state-spaces' own Mamba checkpoints, in the words of transformers."""

from collections.abc import Mapping
from typing import Any

_KNOWN = ("d_state", "d_conv", "expand", "headdim", "ngroups", "layer")


def renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with `ssm_cfg` under transformers' names; any other as it is.

    Left out there: Mamba's own numbers, a tied head, and a vocabulary that is no multiple of
    `pad_vocab_size_multiple`, to which the embedding is padded (`mamba_ssm/models/config_mamba.py`,
    2.2).
    """
    ssm = config.get("ssm_cfg")
    if not isinstance(ssm, dict):
        return dict(config)
    if config.get("attn_layer_idx") or config.get("d_intermediate") or not set(ssm) <= {*_KNOWN}:
        return {"model_type": "mamba_ssm"}
    second = ssm.get("layer") == "Mamba2"
    found = {
        "model_type": "mamba2" if second else "mamba",
        "num_hidden_layers": config.get("n_layer"),
        "hidden_size": config.get("d_model"),
        "vocab_size": _padded(config),
        "tie_word_embeddings": config.get("tie_embeddings", True),
        "expand": ssm.get("expand", 2),
        "state_size": ssm.get("d_state", 128 if second else 16),
        "conv_kernel": ssm.get("d_conv", 4),
    }
    if second:
        found |= {
            "head_dim": ssm.get("headdim", 64),
            "n_groups": ssm.get("ngroups", 1),
            "num_heads": None,  # as many as fit
        }
    return found


def _padded(config: Mapping[str, Any]) -> Any:
    rows, multiple = config.get("vocab_size"), config.get("pad_vocab_size_multiple", 8)
    if type(rows) is not int or type(multiple) is not int or multiple < 1:
        return rows
    return -(-rows // multiple) * multiple
