"""`--cluster`: runs on a Dask cluster give what runs here give."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sim.goodput.queues import arriving, service_ns, studied

from vsim.sim.goodput.cluster import cluster_workers
from vsim.sim.goodput.workers import InTurn
from vsim.traces.faults import InputError


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("distributed", reason="the extra vsim[cluster] is not installed")
    distributed: Any = import_module("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tcp", host="127.0.0.1",
    ) as found:  # fmt: skip
        yield found


@pytest.mark.filterwarnings("ignore")  # of Dask's own
def test_a_search_on_a_cluster_ends_as_one_in_turn(cluster: Any, tmp_path: Path) -> None:
    requests = arriving(np.arange(100, dtype=np.int64) * 2 * service_ns())
    slo = f"ttft_p99={3 * service_ns() / 1e6}ms"
    here = studied(requests, slo, InTurn([requests]), tmp_path / "here")
    with cluster_workers(cluster.scheduler_address, [requests]) as hands:
        there = studied(requests, slo, hands, tmp_path / "there")
    assert here == there
    assert here.best is not None
    names = [{path.name for path in (tmp_path / place).iterdir()} for place in ("here", "there")]
    assert names[0] == names[1]


def test_an_address_where_nobody_answers_is_refused() -> None:
    pytest.importorskip("distributed", reason="the extra vsim[cluster] is not installed")
    with (
        pytest.raises(InputError, match=r"nobody answers at 'nowhere'.*as tcp://host:8786"),
        cluster_workers("nowhere", []),
    ):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"needs Dask; write pip install 'vsim\[cluster\]'"),
        cluster_workers("tcp://127.0.0.1:1", []),
    ):
        pass
