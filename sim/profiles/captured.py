"""captured_sizes: the batch sizes that an engine captures as graphs."""

from collections.abc import Sequence

from vsim.sim.model.model import Model
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.profiles.profile import SizesUpTo

_VLLM = (1, 2, 4, *range(8, 256, 8))


def captured_sizes(parts: Sequence[SizesUpTo] | None, largest: int) -> tuple[int, ...]:
    """Batch sizes up to the largest, ascending.

    Args:
        parts: sizes at equal distances, part by part; None: vLLM's, which are 1, 2, 4, by 8 up to
            256, by 16 above.
        largest: of all.
    """
    if parts is None:
        sizes = [*_VLLM, *range(256, largest + 1, 16)]
        return tuple(size for size in sizes if size <= largest)
    found: list[int] = []
    last = 0
    for part in parts:
        found += range(last + part.apart, min(part.last, largest) + 1, part.apart)
        last = part.last
    return tuple(found)


def with_largest(sizes: tuple[int, ...], largest: int) -> tuple[int, ...]:
    """The same with the largest itself, as SGLang's decode batches have it."""
    return sizes if not largest or largest in sizes else (*sizes, largest)


def has_latents(model: Model) -> bool:
    """Whether a model's attention is latent, for which SGLang captures other sizes of prompts."""
    mixers = (mixer for layer in model.stack for mixer in layer.mixers)
    return any(isinstance(mixer, LatentAttention) for mixer in mixers)
