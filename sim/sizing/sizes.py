"""ModelSizes: what a model's weights and one sequence's KV take, by arithmetic alone."""

from dataclasses import dataclass
from typing import Self

from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.model import Model
from vsim.sim.model.weight_format import Weights


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """A model in numbers; bytes hold each number once, whatever it is split over.

    Args:
        model: whose.
        weights: precision of the weights, or of each part of them.
        kv: precision of the KV cache.
        tokens: length of the sequence, after its prefill.
        groups: what the layers of one kind keep, on one GPU.
        weight_bytes: of all weights.
        kv_bytes_per_token: what one token writes, over all layers that keep tokens.
        kv_bytes_held: of one sequence: full layers all of it, others their window or chunk.
        state_bytes_per_request: what a request takes whatever its length.
    """

    model: Model
    weights: Weights
    kv: Precision
    tokens: int
    groups: tuple[KvGroup, ...]
    weight_bytes: int
    kv_bytes_per_token: int
    kv_bytes_held: int
    state_bytes_per_request: int

    @classmethod
    def of(cls, model: Model, weights: Weights, kv: Precision, tokens: int) -> Self:
        """Work out a model's sizes with these precisions, for a sequence of so many tokens."""
        return cls(
            model,
            weights,
            kv,
            tokens,
            model.kv_groups(kv),
            model.weight_bytes(weights),
            model.kv_bytes_per_token(kv),
            model.kv_bytes_held(tokens, kv),
            model.state_bytes_per_request(kv),
        )
