"""Kernels' times within a server's steps, from those that tables have of them alone."""

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.machine.served import ServedAttention, ServedExperts
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.roofline import Bound, Floats


def served_attention_ns(
    alone_ns: Floats,
    served: ServedAttention,
    requests: ArrayLike,
    kv_heads: int,
    bound: Bound,
) -> Floats:
    """A layer's decode attention: the table's time, or floor and reading where that is longer.

    Args:
        alone_ns: by the tables; 0 where there are no requests.
        served: of this width of heads.
        requests: that decode.
        kv_heads: on this GPU.
        bound: of the same attention.
    """
    tiles = np.asarray(requests, dtype=np.float64) * kv_heads
    floor = np.interp(tiles, served.tiles, served.floor)
    least = floor + bound.bytes_ns / served.hbm_efficiency
    return np.where(tiles > 0, np.maximum(alone_ns, least), alone_ns)


def served_experts_ns(
    alone_ns: Floats, served: ServedExperts, tokens: ArrayLike, shape: ExpertShape
) -> Floats:
    """A layer's experts: the table's time, and less for so few tokens that none are sorted.

    Args:
        alone_ns: by the tables; 0 where there are no tokens.
        served: of these tables.
        tokens: of the step, as `experts_ns` takes them.
        shape: of the layer.
    """
    if shape.expert_parallel > 1:
        return alone_ns
    choices = np.asarray(tokens, dtype=np.float64) * shape.experts_per_token
    few = choices * served.spread <= shape.experts
    return np.where(few, np.maximum(alone_ns - served.saves, 0.0), alone_ns)
