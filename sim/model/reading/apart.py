"""Weights beside the decoder: what predicts further tokens, and what sees."""

from vsim.sim.model.model import Model
from vsim.sim.model.reading.keys import Keys

_MTP = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers")
_GATED_TOWERS = {"qwen2_5_vl", "qwen2_5_vl_vision", "pixtral", "glm4v", "glm4v_vision"}


def weights_apart(keys: Keys, model: Model) -> dict[str, int]:
    """Weights that are no part of the decoder, by name; what a file does not say is left out.

    `mtp`: layers that predict further tokens, each as the decoder's last, with a matrix from two
    residual streams to one and three norms (DeepSeek-V3, arXiv 2412.19437, section 2.2). `vision`:
    a tower of attention and FFNs, its patches' embedding, and a projection to the residual stream;
    its norms and biases are left out.
    """
    found: dict[str, int] = {}
    layers = keys.whole(*_MTP, least=0)
    if layers:
        each = model.layer_parameters(model.layers - 1)
        found["mtp"] = layers * (each + 2 * model.hidden**2 + 3 * model.hidden)
    vision = _vision(keys, model)
    if vision:
        found["vision"] = vision
    return found


def _vision(keys: Keys, model: Model) -> int:
    tower = keys.inner("vision_config")
    if tower is None:
        return 0
    width = _size(tower, "hidden_size", "embed_dim", "width")
    layers = _size(tower, "num_hidden_layers", "depth", "layers")
    inner = _size(tower, "intermediate_size") or 4 * width
    if not width or not layers:
        return 0
    matrices = 3 if tower.kind in _GATED_TOWERS or keys.kind in _GATED_TOWERS else 2
    patch = _size(tower, "patch_size", "spatial_patch_size") or 14
    merge = _size(tower, "spatial_merge_size") or 1
    wide = merge**2 * width
    projection = wide * model.hidden + (wide**2 if merge > 1 else model.hidden**2)
    return layers * (4 * width**2 + matrices * width * inner) + 3 * patch**2 * width + projection


def _size(tower: Keys, *keys: str) -> int:
    """A size of the tower, 0 where the file does not say it as a whole number."""
    value = tower.raw(*keys)
    return value if type(value) is int and value > 0 else 0
