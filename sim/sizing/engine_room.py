"""EngineRoom: what an engine holds for one sequence: whole blocks, by group, during its prefill.

An engine allocates blocks. Windows and chunks are let go of behind a step only, so that while a
prompt is computed a group holds its window and the step's tokens. Where an engine cuts its layers
into groups of equal size and gives all of them blocks of one size, as vLLM's hybrid cache manager
does (`vllm/v1/core/kv_cache_utils.py`, 0.25), the last group of each kind is padded with layers
that there are not, and the blocks of a kind with small entries get more tokens:

    layers of a group    the fewest that a kind has; the most, where that is less than 1.25 times
                         the fewest
    a block's bytes      of the largest layer; a state's bytes are one block, so that where there
                         are states, blocks of attention get as many tokens as that takes
"""

import math
from dataclasses import dataclass

from vsim.sim.model.kv_groups import KvGroup

_ALMOST_EQUAL = 1.25


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """What an engine holds of one group for one sequence.

    Args:
        group: whose.
        block_tokens: of one block; 0 for states.
        block_bytes: of one block, over all layers of the group, padding included.
        prefill_blocks: held at most while the prompt is computed.
        blocks: held after it.
    """

    group: KvGroup
    block_tokens: int
    block_bytes: int
    prefill_blocks: int
    blocks: int

    @property
    def prefill_bytes(self) -> int:
        """Bytes held at most while the prompt is computed."""
        return self.prefill_blocks * self.block_bytes

    @property
    def bytes(self) -> int:
        """Bytes held after the prefill."""
        return self.blocks * self.block_bytes


def engine_room(
    groups: tuple[KvGroup, ...],
    tokens: int,
    *,
    step_tokens: int,
    block_tokens: int,
    equal_groups: bool,
) -> tuple[HeldGroup, ...]:
    """What an engine holds for a sequence of so many tokens.

    Args:
        groups: what the layers keep, on one GPU.
        tokens: of the sequence.
        step_tokens: that a step computes at most.
        block_tokens: of a block, where nothing makes it longer.
        equal_groups: whether all groups have as many layers and blocks of one size.
    """
    if equal_groups and len({each.kind for each in groups}) > 1:
        return _equal(groups, tokens, step_tokens, block_tokens)
    return tuple(_own(each, tokens, step_tokens, block_tokens) for each in groups)


def _own(group: KvGroup, tokens: int, step_tokens: int, block_tokens: int) -> HeldGroup:
    """Blocks of a group's own size."""
    if group.kind in ("state", "fixed"):
        return HeldGroup(group, 0, group.request_bytes, 1, 1)
    entries = -(-block_tokens // group.tokens_per_entry)
    during, after = _blocks(group, tokens, step_tokens, block_tokens)
    return HeldGroup(group, block_tokens, entries * group.entry_bytes, during, after)


def _equal(
    groups: tuple[KvGroup, ...], tokens: int, step_tokens: int, block_tokens: int
) -> tuple[HeldGroup, ...]:
    """Groups of equally many layers, with blocks of one size."""
    fewest = min(each.layers for each in groups)
    most = max(each.layers for each in groups)
    layers = most if most < _ALMOST_EQUAL * fewest else fewest
    keeping = [each for each in groups if each.kind not in ("state", "fixed")]
    states = [each for each in groups if each.kind in ("state", "fixed")]
    largest = max((_token_bytes(each) for each in keeping), default=0.0)
    if states and largest:
        state = max(each.request_bytes / each.layers for each in states)
        block_tokens *= max(1, math.ceil(state / (largest * block_tokens)))
    layer_bytes = math.ceil(largest * block_tokens)
    if not keeping:
        layer_bytes = max(math.ceil(each.request_bytes / each.layers) for each in states)
    found = []
    for each in groups:
        parts = -(-each.layers // layers)
        block_bytes = parts * layers * layer_bytes
        if each.kind in ("state", "fixed"):
            found.append(HeldGroup(each, 0, block_bytes, 1, 1))
            continue
        longer = block_tokens * math.floor(largest / _token_bytes(each))
        during, after = _blocks(each, tokens, step_tokens, longer)
        found.append(HeldGroup(each, longer, block_bytes, during, after))
    return tuple(found)


def _token_bytes(group: KvGroup) -> float:
    """Bytes of one token in one layer of a group that keeps tokens."""
    return group.entry_bytes / group.tokens_per_entry / group.layers


def _blocks(group: KvGroup, tokens: int, step_tokens: int, block_tokens: int) -> tuple[int, int]:
    """Blocks of a sequence at most during its prefill, and after it.

    A window that begins within a block holds that one too, so that it takes one more.
    """
    all_of_it = -(-tokens // block_tokens)
    if group.kind == "full":
        return all_of_it, all_of_it
    if group.kind == "chunk":
        during = -(-min(group.tokens + step_tokens, tokens) // block_tokens)
        return min(during, all_of_it), min(-(-group.tokens // block_tokens), all_of_it)
    seen = group.tokens - 1
    during = -(-min(seen + step_tokens, tokens) // block_tokens) + 1
    after = -(-min(seen, tokens) // block_tokens) + 1
    return min(during, all_of_it), min(after, all_of_it)
