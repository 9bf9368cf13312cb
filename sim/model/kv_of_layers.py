"""From layers to KV groups: layers that keep the same of a token, together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import Kind, KvGroup
from vsim.sim.model.layer import Layer, Mixer
from vsim.sim.model.parts.attention import CrossAttention, GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.latent import LatentAttention

_ORDER: tuple[Kind, ...] = ("full", "chunk", "window", "state", "fixed")


@dataclass(frozen=True, slots=True)
class _Key:
    """What the layers of a group have in common."""

    kind: Kind
    tokens: int
    tokens_per_entry: int
    copies: int

    @property
    def name(self) -> str:
        if self.kind in ("window", "chunk"):
            return f"{self.kind}_{self.tokens}"
        if self.tokens_per_entry > 1:
            return f"{self.kind}_{self.tokens_per_entry}"
        return self.kind


_Kept: TypeAlias = tuple[_Key, int, int]
"""What one layer adds to a group: bytes of an entry, and bytes of a request."""


def kv_groups(stack: Sequence[Layer], kv: Precision, tensor: int = 1) -> tuple[KvGroup, ...]:
    """The groups of some layers: full attention, chunks, windows, states, what is fixed.

    Args:
        stack: the layers.
        kv: precision of the KV cache.
        tensor: GPUs that share each layer.
    """
    layers: Counter[_Key] = Counter()
    entries: Counter[_Key] = Counter()
    requests: Counter[_Key] = Counter()
    for layer, count in Counter(stack).items():
        kept = [each for mixer in layer.mixers for each in _kept(mixer, kv, tensor)]
        for key in {key for key, _, _ in kept}:
            layers[key] += count
        for key, entry, request in kept:
            entries[key] += count * entry
            requests[key] += count * request
    keys = sorted(layers, key=_place)
    names = Counter(key.name for key in keys)
    return tuple(
        KvGroup(
            name=key.name if names[key.name] == 1 else f"{key.name}_x{key.copies}",
            kind=key.kind,
            layers=layers[key],
            entry_bytes=entries[key],
            tokens_per_entry=key.tokens_per_entry,
            tokens=key.tokens,
            request_bytes=requests[key],
            copies=key.copies,
        )
        for key in keys
    )


def _place(key: _Key) -> tuple[int, int, int, int]:
    return _ORDER.index(key.kind), key.tokens_per_entry, key.tokens, key.copies


def _kept(mixer: Mixer, kv: Precision, tensor: int) -> list[_Kept]:
    """What one mixer keeps; nothing where it attends to another layer's keys."""
    if isinstance(mixer, CrossAttention):
        copies = max(1, tensor // mixer.kv_heads)
        return [(_Key("fixed", 0, 1, copies), 0, mixer.request_bytes(kv))]
    if isinstance(mixer, CompressedAttention):
        return _kept_compressed(mixer, kv, tensor)
    if isinstance(mixer, LatentAttention):
        return [(_Key("full", 0, 1, tensor), mixer.kv_bytes(kv), 0)]
    if isinstance(mixer, GroupedAttention):
        if not mixer.keeps_kv:
            return []
        copies = max(1, tensor // mixer.cached_heads)
        kind: Kind = "window" if mixer.window else "chunk" if mixer.chunk else "full"
        tokens = mixer.window or mixer.chunk or 0
        return [(_Key(kind, tokens, 1, copies), mixer.kv_bytes(kv), 0)]
    return [(_Key("state", 0, 1, 1), 0, mixer.request_bytes)]


def _kept_compressed(mixer: CompressedAttention, kv: Precision, tensor: int) -> list[_Kept]:
    """A window of single vectors, and one entry for each `ratio` tokens; every GPU has them."""
    each = mixer.kv_bytes(kv)
    kept: list[_Kept] = [(_Key("window", mixer.window, 1, tensor), each, 0)]
    if mixer.ratio:
        index = mixer.index.kept_bytes if mixer.index else 0
        kept.append((_Key("full", 0, mixer.ratio, tensor), each + index, 0))
    return kept
