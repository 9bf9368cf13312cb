"""Workers on a cluster that is there already: Dask's, by the address of its scheduler."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from vsim.sim.goodput.measured import Measured
from vsim.sim.goodput.point import Point, program_hash
from vsim.sim.goodput.workers import Done, Traces
from vsim.traces.faults import Fault, InputError, first_line, refuse

OPTION: Final = "--cluster"
_PATIENCE_S: Final = 10


class OnCluster:
    """Runs points on a Dask cluster, which has the traces; stateful: what is under way.

    Args:
        distributed: the package.
        client: connected.
        traces: the requests, sent once to every worker.
    """

    def __init__(self, distributed: Any, client: Any, traces: Traces) -> None:
        self._distributed, self._client = distributed, client
        self._traces = client.scatter(traces, broadcast=True)
        self._numbers: dict[str, int] = {}
        self._under_way = distributed.as_completed(loop=client.loop)

    def submit(self, number: int, point: Point) -> None:
        """Hand a point to the cluster."""
        # not pure: the store says what was run before, and Dask's own hash of a point is no key
        future = self._client.submit(measure, point, self._traces, pure=False)
        self._numbers[future.key] = number
        self._under_way.add(future)

    def next_done(self) -> Done:
        """Wait for a point. Raises InputError where a run is refused, or the cluster went away."""
        future = next(self._under_way)
        if future.status != "finished":
            refuse(OPTION, f"a run came to nothing ({future.status}); look at the cluster's logs")
        kind, content = future.result()
        if kind == "fault":
            raise InputError(content)
        return Done(self._numbers.pop(future.key), Measured.model_validate_json(content))


def measure(point: Point, traces: Traces) -> tuple[str, Any]:
    """Run a point on a worker; what was refused comes back as faults."""
    try:
        return "done", point.measure(traces).model_dump_json()
    except InputError as error:
        return "fault", error.faults


@contextmanager
def cluster_workers(address: str, traces: Traces) -> Iterator[OnCluster]:
    """Connect to a cluster, and leave it with the block; it goes on.

    Raises:
        InputError: Dask is missing, nobody answers, or workers have another vsim.
    """
    try:
        distributed: Any = import_module("distributed")
    except ModuleNotFoundError:
        refuse(OPTION, "needs Dask; write pip install 'vsim[cluster]', here and on the workers")
    try:
        client = distributed.Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        message = f"nobody answers at '{address}' ({first_line(error)})"
        refuse(OPTION, f"{message}; write the scheduler's address, as tcp://host:8786")
    try:
        _check_workers(client)
        yield OnCluster(distributed, client, traces)
    finally:
        client.close()


def _check_workers(client: Any) -> None:
    """Refuse a cluster without workers, and workers whose runs would be another program's."""
    try:
        found = client.run(program_hash)
    except Exception as error:  # noqa: BLE001 - whatever a worker raises where vsim is missing
        refuse(OPTION, f"workers can't run vsim ({first_line(error)}); install it there")
    if not found:
        refuse(OPTION, "the cluster has no workers; start some")
    own = program_hash()
    faults = [
        Fault(OPTION, f"worker {name} has another vsim, or other libraries; install the same")
        for name, program in sorted(found.items())
        if program != own
    ]
    if faults:
        raise InputError(faults)
