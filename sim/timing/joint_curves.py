"""JointCurves: what servers in lockstep take for the tokens of all of them.

vLLM 0.25 serves a model with experts on replicas so: attention and dense parts are each replica's
own, the routed experts lie on the GPUs of all, and before and after them tokens are exchanged. So
no replica is through a layer before the slowest is, and a step takes as long as

    T = max over replicas (its own parts) + experts(tokens of all) + exchange(tokens of all)

of which `StepCurves` has the first. Its default exchange (`allgather_reducescatter`) gathers the
tokens of all on every GPU and scatters the sums back. Batches that a captured graph takes are
padded to the largest replica's (`coordinate_batch_across_dp`), and a replica without any computes a
token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vsim.sim.timing.curve import Curve


@dataclass(frozen=True, slots=True, eq=False)
class JointCurves:
    """Times over the tokens of all servers together, nanoseconds. All layers are in them.

    Args:
        experts: routed experts, on the most loaded GPU.
        arithmetic: the part of them that FLOPs bound.
        exchange: bringing tokens to their experts and back.
    """

    experts: Curve
    arithmetic: Curve
    exchange: Curve


def dealt_tokens(tokens: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
    """To how many tokens each server pads its batch, 0 for as it is; and the tokens of all.

    Args:
        tokens: of each server's batch; 0 where it has none.
        sizes: of captured batches, ascending.
    """
    most = max(tokens)
    padded = next((size for size in sizes if size >= most), 0)
    if padded:
        return padded, padded * len(tokens)
    return 0, sum(max(each, 1) for each in tokens)
