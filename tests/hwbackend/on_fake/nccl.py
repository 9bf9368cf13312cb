"""Nccl: what stands for NCCL's bindings on the fake driver."""

from vsim.hwbackend.cuda.calls import call


class Nccl:
    """Stands for nccl4py's bindings: notes which sums were put on which streams.

    Args:
        fails_at: of how many groups of calls the last one fails; never where left out.
    """

    NCCLError = RuntimeError

    def __init__(self, fails_at: int = 0) -> None:
        self._groups_left = fails_at
        self.sums: list[tuple[int, int, int]] = []
        self.aborted: list[int] = []
        self.destroyed: list[int] = []

    def comm_init_all(self, count: int, ordinals: list[int]) -> list[int]:
        call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", ordinals[-1]))  # as NCCL does
        call("cuDevicePrimaryCtxRelease", ordinals[-1])
        return list(range(count))

    def all_reduce(self, source: int, target: int, count: int, *rest: int) -> None:
        assert source == target
        self.sums.append((count, rest[-2], rest[-1]))

    def group_start(self) -> None: ...

    def group_end(self) -> None:
        self._groups_left -= 1
        if self._groups_left == 0:
            raise RuntimeError("unhandled cuda error")

    def comm_abort(self, communicator: int) -> None:
        self.aborted.append(communicator)

    def comm_destroy(self, communicator: int) -> None:
        self.destroyed.append(communicator)
