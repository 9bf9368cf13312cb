"""The small kernels, compiled once for this computer."""

import pytest
from tests.hwbackend.dense.host_gpu import compiled_kernels

from vsim.hwbackend.dense.small_kernels import SmallKernels


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> SmallKernels:
    return compiled_kernels(tmp_path_factory.mktemp("kernels"))
