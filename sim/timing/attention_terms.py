"""AttentionTerm: what one mixer's attention reads and multiplies, in decodes and in prefills.

MLA. A decode attends to latents in their absorbed form: one KV head, whose kv_lora_rank + rotary
numbers are read once for scores and values alike; 2 · (2 · kv_lora_rank + rotary) FLOPs a head and
pair. Two products absorb what a prefill makes with one (`Absorbed`). A prefill makes keys and
values of the latents first and attends to those, in bf16: 2 · (nope + rotary + v) FLOPs. Making
them again for a context that earlier chunks computed is left out: a few per cent of what attending
to it takes.

Sparse attention reads its index keys of the whole context, on every GPU, and of keys and values or
latents no more than the index chooses.

Compressed attention reads one entry for several tokens, beside a window of single ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.machine.precision import Precision
from vsim.sim.model.layer import Mixer
from vsim.sim.model.parts.attention import GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.indexer import Indexer
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.latent_attention import absorbed_heads, unabsorbed_heads
from vsim.sim.timing.roofline import Floats


@dataclass(frozen=True, slots=True)
class Absorbed:
    """W_UK and W_UV of one GPU's heads, as a decode multiplies by them: a matrix a head of each.

    Args:
        heads: query heads.
        nope: width of a query's part that W_UK takes.
        rank: of the latent.
        value: width of a value.
    """

    heads: int
    nope: int
    rank: int
    value: int


@dataclass(frozen=True, slots=True)
class AttentionTerm:
    """One kernel of attention, on one GPU.

    Args:
        decode: heads as a decode has them.
        prefill: as a prefill has them.
        decode_kv: precision of what a decode reads.
        prefill_kv: precision of what a prefill multiplies.
        reach: tokens that it sees at most; 0 for all.
        chunk: whether it sees those since the last multiple of `reach`, not the last ones.
        ratio: tokens of the context that one entry stands for.
        absorbed: of latents, what a decode multiplies by in place of making keys and values.
    """

    decode: HeadShape
    prefill: HeadShape
    decode_kv: Precision
    prefill_kv: Precision
    reach: int = 0
    chunk: bool = False
    ratio: int = 1
    absorbed: "Absorbed | None" = None

    def entries(self, context: ArrayLike) -> Floats:
        """Entries that are kept of so many tokens."""
        return np.asarray(context, dtype=np.float64) / self.ratio

    def seen(self, context: ArrayLike) -> Floats:
        """Entries that a query attends to, behind so many tokens."""
        kept = self.entries(context)
        return np.minimum(kept, self.reach) if self.reach else kept


def attention_terms(mixer: Mixer, tensor: int, kv: Precision) -> Iterator[AttentionTerm]:
    """The kernels of a mixer's attention to its context.

    There are none of states and of cross attention: what these keep of a request is read as it is,
    whatever the context (`StepCost.state_bytes_per_request`, `fixed_bytes_per_request`).

    Args:
        mixer: with all its numbers.
        tensor: GPUs that share it.
        kv: precision of the KV cache.
    """
    if isinstance(mixer, GroupedAttention):
        yield from _grouped(mixer, tensor, kv)
    elif isinstance(mixer, LatentAttention):
        yield from _latent(mixer, tensor, kv)
    elif isinstance(mixer, CompressedAttention):
        yield from _compressed(mixer, tensor, kv)


def _grouped(mixer: GroupedAttention, tensor: int, kv: Precision) -> Iterator[AttentionTerm]:
    reach = mixer.window or mixer.chunk or (mixer.index.top if mixer.index else 0)
    both = mixer.key_width + mixer.value_width
    own = 0 if both == 2 * mixer.key_width else both
    heads, kv_heads = (max(n // tensor, 1) for n in (mixer.query_heads, mixer.cached_heads))
    shape = HeadShape(heads, kv_heads, mixer.key_width, reach, own, own)
    yield AttentionTerm(shape, shape, kv, kv, reach, chunk=mixer.chunk is not None)
    yield from _index(mixer.index)


def _latent(mixer: LatentAttention, tensor: int, kv: Precision) -> Iterator[AttentionTerm]:
    reach = mixer.index.top if mixer.index else 0
    rank, rotary = mixer.kv_lora_rank, mixer.qk_rope_head_dim
    heads = max(mixer.query_heads // tensor, 1)
    decode = absorbed_heads(heads, rank + rotary, rank, reach)
    prefill = unabsorbed_heads(heads, mixer.key_width, mixer.v_head_dim, reach)
    absorbed = Absorbed(heads, mixer.qk_nope_head_dim, rank, mixer.v_head_dim)
    yield AttentionTerm(decode, prefill, kv, "bf16", reach, absorbed=absorbed)
    yield from _index(mixer.index)


def _compressed(mixer: CompressedAttention, tensor: int, kv: Precision) -> Iterator[AttentionTerm]:
    heads, width = max(mixer.query_heads // tensor, 1), mixer.head_dim
    near = HeadShape(heads, 1, width, mixer.window, width, 2 * width)
    yield AttentionTerm(near, near, kv, kv, mixer.window)
    if mixer.ratio:
        top = mixer.index.top if mixer.index else 0
        far = near._replace(window=top)
        yield AttentionTerm(far, far, kv, kv, top, ratio=mixer.ratio)
        yield from _index(mixer.index, mixer.ratio)


def _index(index: Indexer | None, ratio: int = 1) -> Iterator[AttentionTerm]:
    """The scan of index keys, as they are kept; none where another layer's choice is taken."""
    if index is None or index.heads is None:
        return
    kept = index.kept_bytes
    shape = HeadShape(index.heads, 1, index.head_dim, 0, kept, index.head_dim)
    yield AttentionTerm(shape, shape, "fp8", "fp8", ratio=ratio)
