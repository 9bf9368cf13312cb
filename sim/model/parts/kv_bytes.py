"""Bytes of cached vectors: keys, values, latents, index keys, in each precision of a KV cache."""

from collections.abc import Iterable

from vsim.sim.machine.precision import Precision

_NUMBER_BITS = {"bf16": 16, "fp8": 8, "fp8_scaled": 8, "int8": 8, "int4": 4, "mxfp4": 4, "nvfp4": 4}
_NUMBERS_OF_A_SCALE = {"mxfp4": 32, "nvfp4": 16}


def vector_bytes(vectors: Iterable[tuple[int, int]], precision: Precision) -> int:
    """Bytes of vectors, given as pairs of how many and how wide.

    bf16 takes 2 bytes a number; fp8 and int8 one, with a scale a tensor that is left out.
    fp8_scaled: and a 32-bit scale for each vector (vLLM's `fp8_per_token_head`). int4: half a byte
    and, for each vector, a 16-bit scale and a 16-bit zero point (arXiv 2402.02750, per-token
    groups). nvfp4: half a byte and an 8-bit scale for each 16 numbers (mxfp4: each 32); a scale a
    tensor is left out.
    """
    pairs = tuple(vectors)
    numbers = sum(count * width for count, width in pairs)
    plain = (numbers * _NUMBER_BITS[precision] + 7) // 8
    if precision in ("fp8_scaled", "int4"):
        return plain + 4 * sum(count for count, _ in pairs)
    group = _NUMBERS_OF_A_SCALE.get(precision)
    if group is not None:
        return plain + sum(count * -(-width // group) for count, width in pairs)
    return plain


def scaled_latent_bytes(latent: int, rotary: int) -> int:
    """fp8 latents with scales, as DeepSeek-V3.2 keeps them: 656 bytes for 512 + 64 numbers.

    An 8-bit number each, a 32-bit scale for each 128 of them, the rotary part in bf16 (FlashMLA,
    README, "FP8 KV cache").
    """
    return latent + 4 * -(-latent // 128) + 2 * rotary
