"""Near terms: the layers that see a part of the context only, how far back, and their share."""

from dataclasses import dataclass

from vsim.sim.model.kv_groups import KvGroup


@dataclass(frozen=True, slots=True)
class NearTerms:
    """Layers that see a part of the context only.

    Args:
        reach: tokens that one of them sees at most; 0 where there is none.
        chunked: whether it sees those since the last multiple of that, and not the last ones.
        bytes_share: their share of the KV bytes that a token takes.
        layers_share: their share of the layers that keep tokens.
    """

    reach: int = 0
    chunked: bool = False
    bytes_share: float = 0.0
    layers_share: float = 0.0


def token_bytes(group: KvGroup) -> int:
    """HBM that one token takes in a group, over all its layers and GPUs, rounded up to a byte."""
    return -(-group.entry_bytes // group.tokens_per_entry) * group.copies


def near_terms(groups: tuple[KvGroup, ...]) -> NearTerms:
    """Which of a model's groups are near; of several reaches, that of most bytes a token.

    Groups that reach elsewhere count as seeing everything.
    """
    tokens = [group for group in groups if group.kind not in ("state", "fixed")]
    found = [group for group in tokens if group.kind in ("window", "chunk")]
    if not found:
        return NearTerms()
    widest = max(found, key=token_bytes)
    near = [each for each in found if (each.kind, each.tokens) == (widest.kind, widest.tokens)]
    return NearTerms(
        reach=widest.tokens,
        chunked=widest.kind == "chunk",
        bytes_share=sum(map(token_bytes, near)) / sum(map(token_bytes, tokens)),
        layers_share=sum(each.layers for each in near) / sum(each.layers for each in tokens),
    )
