"""Precisions of a run: those that a scenario writes, else those that the checkpoint declares."""

from vsim.sim.machine.precision import Precision
from vsim.sim.model.model import Model
from vsim.sim.model.weight_format import WeightFormat, Weights
from vsim.sim.scenario.scenario import Precisions


def weights_of(written: Precisions, model: Model) -> Weights:
    """Precision of the weights: as written, as declared, else bf16."""
    return written.weights or model.declared.weights or "bf16"


def kv_of(written: Precisions, model: Model) -> Precision:
    """Precision of the KV cache: as written, as declared, else bf16."""
    return written.kv or model.declared.kv or "bf16"


def taken_from_checkpoint(written: Precisions, model: Model) -> tuple[str, ...]:
    """Which of the two are neither written nor the default: `weights`, `kv`."""
    declared = model.declared
    found = (("weights", written.weights, declared.weights), ("kv", written.kv, declared.kv))
    return tuple(name for name, own, said in found if own is None and said is not None)


def weight_words(weights: Weights) -> str:
    """Name the precision of weights in a few words, as `mxfp4 (attention, head bf16)`."""
    if not isinstance(weights, WeightFormat):
        return weights
    usual = weights.usual.precision
    others: dict[str, list[str]] = {}
    for role in ("attention", "linear", "dense", "shared", "experts", "head"):
        stored = getattr(weights, role)
        if stored is not None and stored.precision != usual:
            others.setdefault(stored.precision, []).append(role)
    if not others:
        return usual
    parts = [f"{', '.join(roles)} {name}" for name, roles in others.items()]
    return f"{usual} ({'; '.join(parts)})"
