"""Near terms: the layers that see a part of the context only, how far back, and their share."""

from collections import Counter
from dataclasses import dataclass

from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.layer import Mixer
from vsim.sim.model.model import Model
from vsim.sim.model.parts.attention import GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.latent import LatentAttention

_Reach = tuple[int, bool]
_EVERYTHING: _Reach = 0, False


@dataclass(frozen=True, slots=True)
class NearTerms:
    """Layers that see a part of the context only: windows, chunks, and what an index chooses.

    Of several reaches it is that of which most bytes a token are read; layers of another reach
    count as seeing everything.

    Args:
        reach: tokens that one of them sees at most; 0 where there is none.
        chunked: whether it sees those since the last multiple of that, and not the last ones.
        bytes_share: their share of the KV bytes that are read for a token of context.
        layers_share: their share of the layers that attend to it.
        read_bytes: read for a token of context that all layers see, over all GPUs; layers that
            attend to another layer's keys read them too.
    """

    reach: int
    chunked: bool
    bytes_share: float
    layers_share: float
    read_bytes: float


def token_bytes(group: KvGroup) -> int:
    """HBM that one token takes in a group, over all its layers and GPUs, rounded up to a byte."""
    return -(-group.entry_bytes // group.tokens_per_entry) * group.copies


def near_terms(model: Model, kv: Precision, tensor: int) -> NearTerms:
    """Which of a model's layers are near.

    Args:
        model: whose.
        kv: precision of the KV cache.
        tensor: GPUs that share each layer.
    """
    layers: Counter[_Reach] = Counter()
    read: dict[_Reach, float] = {}
    for layer, count in model.kinds.items():
        for mixer in layer.mixers:
            for reach, size in _reads(mixer, kv, tensor):
                read[reach] = read.get(reach, 0) + count * size
            if not isinstance(mixer, GroupedAttention | LatentAttention | CompressedAttention):
                continue
            layers[_reach(mixer)] += count
    total = sum(read.values())
    found = [reach for reach in read if reach != _EVERYTHING]
    if not found:
        return NearTerms(0, False, 0.0, 0.0, total)
    near = max(found, key=lambda reach: read[reach])
    share = layers[near] / layers.total()
    return NearTerms(*near, read[near] / total, share, total)


def _reach(mixer: GroupedAttention | LatentAttention | CompressedAttention) -> _Reach:
    """How far a mixer sees, of most of what it reads."""
    if isinstance(mixer, GroupedAttention) and mixer.chunk:
        return mixer.chunk, True
    if not isinstance(mixer, LatentAttention) and mixer.window:
        return mixer.window, False
    return (mixer.index.top, False) if mixer.index else _EVERYTHING


def _reads(mixer: Mixer, kv: Precision, tensor: int) -> list[tuple[_Reach, float]]:
    """What a mixer reads of a token that it sees, over all GPUs, and how far back."""
    if isinstance(mixer, CompressedAttention):
        each, ratio = mixer.kv_bytes(kv) * tensor, mixer.ratio
        found: list[tuple[_Reach, float]] = [((mixer.window, False), each)]
        if ratio:
            kept = mixer.index.kept_bytes * tensor if mixer.index else 0
            found.append((_EVERYTHING, (each + kept) / ratio))
        return found
    if isinstance(mixer, LatentAttention):
        copies = tensor
    elif isinstance(mixer, GroupedAttention):
        copies = max(1, tensor // mixer.cached_heads)
    else:
        return []
    kept = mixer.index.kept_bytes if mixer.index else 0
    read = mixer.kv_bytes(kv) - kept
    found = [(_reach(mixer), read * copies)]
    return [*found, (_EVERYTHING, kept * copies)] if kept else found
