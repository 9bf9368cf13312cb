"""`TensorCarrier`: copies and steps of a model over several GPUs, each on its share at once."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.graphs import Graph, capture
from vsim.hwbackend.cuda.held import do_all
from vsim.hwbackend.replay.clocked_backend import Ticket
from vsim.hwbackend.replay.cuda_carrier import UnderWay, launch_before
from vsim.hwbackend.replay.gpu_share import GpuShare, wait_for
from vsim.hwbackend.replay.tensor_work import GpusWork
from vsim.sim.engine.backend import Operation


class _Together:
    """The same operation on every GPU. It ends with the last of them.

    Args:
        parts: of each GPU, in the order in which the host launched them.
        finish: looks at what was done.
        host_ns: of the host, to be counted apart.
        meets: whether the GPUs wait for each other on the way.
    """

    def __init__(
        self,
        parts: Sequence[UnderWay],
        finish: Callable[[], None],
        host_ns: int = 0,
        *,
        meets: bool = False,
    ) -> None:
        self.host_ns = host_ns
        self.closed = False
        self._parts, self._finish, self._meets = tuple(parts), finish, meets

    def done(self) -> bool:
        """Whether every GPU has ended; all are asked, so that a failure of any is found."""
        ended = [part.done() for part in self._parts]
        return all(ended)

    def took_ns(self) -> int:
        """Nanoseconds of the GPU that took longest; where they meet, of the one launched last.

        The others have waited for that one at the first meeting, and for the host to launch it.
        """
        taken = [part.took_ns() for part in self._parts]
        return taken[-1] if self._meets else max(taken)

    def apart_ns(self) -> int:
        """Nanoseconds by which the GPUs' times differ."""
        taken = [part.took_ns() for part in self._parts]
        return max(taken) - min(taken)

    def finish(self) -> None:
        """Give back what is held, and look at what was done."""
        self.close()
        self._finish()

    def close(self) -> None:
        """Give events and graphs back."""
        self.closed = True
        do_all([part.close for part in self._parts])


class TensorCarrier:
    """Carries operations out on several GPUs, each on its share. Holds memory until `close`.

    As `CudaCarrier` does on one. A copy takes from its submission to the last GPU's end. Of a step
    each GPU has a graph, in which the sums wait for those of the others. A time between events is
    of one GPU: each has a pair of its own, around its graph.

    A server of several GPUs has a process for each, which launch and map pages at once; here it is
    done one after the other. So a step takes as long as on the GPU that is launched last, when all
    others are under way, and the host's time for mapping is the longest of the GPUs'.

    Args:
        shares: of the GPUs, in the order of ranks; closed with it.
        work: launches steps.
        verify: whether what steps compute is looked at.
    """

    def __init__(self, shares: Sequence[GpuShare], work: GpusWork, *, verify: bool = False) -> None:
        self.verified = 0
        """Outputs of attention that were held against a reference, those of each GPU."""
        self.apart_ns = 0
        """By which GPUs' times of steps differed, in all: mostly what launching on others took."""
        self._shares, self._work, self._verify = tuple(shares), work, verify
        self._streams = [share.compute for share in self._shares]
        self._prepared: tuple[list[Graph], int] | None = None
        self._under_way: list[_Together] = []
        self._is_broken = self._is_closed = False

    def prepare(self, operation: Operation) -> None:
        """Put a step's pages where its kernels will look, capture its graphs and launch it once."""
        batch = operation.batch
        if batch is None:
            raise ValueError("a step without a batch can't be carried out")
        self._drop_prepared()
        batches, mapped_ns = [], 0
        for share in self._shares:
            share.context.make_current()
            before = share.room.mapped_ns
            batches.append(replace(batch, indices=share.room.units(batch)))
            mapped_ns = max(mapped_ns, share.room.mapped_ns - before)
        with self._or_broken():
            self._work.prepare(self._streams, batches)
            wait_for(self._shares)
            self._prepared = self._captured(), mapped_ns
            self._launch_before(self._prepared[0])

    def start(self, operation: Operation) -> Ticket:
        """Start a copy, or the step prepared last."""
        self._under_way = [each for each in self._under_way if not each.closed]
        made = self._copy(operation) if operation.kind == "copy" else self._step(operation)
        self._under_way.append(made)
        return made

    def close(self) -> None:
        """Wait for what is under way, and give the streams back. A second time does nothing.

        Graphs go before the sums that they hold; where a GPU has failed, or was not reached, the
        others are told not to wait for it.
        """
        if self._is_closed:
            return
        try:
            if not self._is_broken:
                with suppress(CudaError), self._or_broken():
                    wait_for(self._shares)
        finally:
            self._is_closed = True
            self._give_back()

    def _give_back(self) -> None:
        with suppress(CudaError):
            self._drop_prepared()
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            if not each.closed:
                with suppress(CudaError):
                    each.close()
        if self._is_broken:
            with suppress(CudaError):
                self._work.abort()
            with suppress(CudaError):
                wait_for(self._shares)
        for share in self._shares:
            with suppress(CudaError):
                share.close()

    def _or_broken(self) -> ExitStack:
        """Whatever ends the block but its end: some GPUs may wait for a sum that never comes."""
        stack = ExitStack()

        def ended(kind: type[BaseException] | None, *_: object) -> None:
            self._is_broken |= kind is not None

        stack.push(ended)
        return stack

    def _captured(self) -> list[Graph]:
        """One graph a GPU, of all that `launch` puts on its stream."""
        graphs = []
        with ExitStack() as undo:
            with ExitStack() as captures:
                for share in self._shares:
                    share.context.make_current()
                    graph = captures.enter_context(capture(share.compute))
                    captures.callback(share.context.make_current)  # where its capture ends
                    graphs.append(undo.enter_context(graph))
                self._work.launch(self._streams)
            undo.pop_all()
        return graphs

    def _launch_before(self, graphs: Sequence[Graph]) -> None:
        def launch() -> None:
            for share, graph in zip(self._shares, graphs, strict=True):
                share.context.make_current()
                graph.launch(share.compute)
            wait_for(self._shares)

        launch_before(launch)

    def _drop_prepared(self) -> None:
        if self._prepared is not None:
            graphs, self._prepared = self._prepared[0], None
            do_all([graph.close for graph in graphs])

    def _copy(self, operation: Operation) -> _Together:
        with ExitStack() as undo:
            graphs = []
            for share in self._shares:
                share.context.make_current()
                graphs.append(undo.enter_context(share.copies(operation)))
            parts = []
            for share, graph in zip(self._shares, graphs, strict=True):
                share.context.make_current()
                part = share.launched(graph, share.way(operation), from_now=True)
                undo.callback(part.close)
                parts.append(part)
            undo.pop_all()
        return _Together(parts, lambda: self._copied(operation))

    def _step(self, operation: Operation) -> _Together:
        if self._prepared is None:
            raise RuntimeError("a step has to be prepared before it starts")
        graphs, mapped_ns = self._prepared
        with self._or_broken(), ExitStack() as undo:
            parts = []
            for share, graph in zip(self._shares, graphs, strict=True):
                share.context.make_current()
                part = share.launched(graph, share.compute, from_now=False)
                undo.callback(part.close)
                parts.append(part)
            undo.pop_all()
        self._prepared = None
        made = _Together(parts, lambda: self._stepped(operation, made), mapped_ns, meets=True)
        return made

    def _copied(self, operation: Operation) -> None:
        for share in self._shares:
            if share.contents is not None:
                share.context.make_current()
                share.contents.copied(operation, share.room, share.compute)

    def _stepped(self, operation: Operation, step: _Together) -> None:
        self.apart_ns += step.apart_ns()
        if self._verify:
            self.verified += self._work.verify(self._streams)
        for share in self._shares:
            if share.contents is not None:
                share.context.make_current()
                share.contents.stepped(operation, share.room, share.compute)
