"""`paired`: the operations that two runs have in common, where each decided by itself."""

from collections.abc import Hashable

from vsim.hwbackend.replay.plan import Plan, Planned


def paired(predicted: Plan, measured: Plan) -> list[tuple[Planned, Planned]]:
    """Pair operations that are alike, in the order in which each run submitted them.

    Steps are alike if their batches are: the same requests, each with the same new tokens behind
    the same context. Copies are if they carry as many bytes the same way.
    """
    waiting: dict[Hashable, list[Planned]] = {}
    for each in measured.operations:
        waiting.setdefault(_likeness(each), []).append(each)
    for found in waiting.values():
        found.reverse()
    return [
        (each, others.pop())
        for each in predicted.operations
        if (others := waiting.get(_likeness(each)))
    ]


def _likeness(planned: Planned) -> Hashable:
    operation = planned.operation
    if operation.kind == "copy":
        return operation.source_tier, operation.target_tier, operation.size_bytes
    batch = operation.batch
    assert batch is not None  # both runs are the engine's own
    parts = (batch.rows, batch.new_tokens, batch.context_tokens)
    return tuple(part.tobytes() for part in parts)
