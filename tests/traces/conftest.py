"""Fixtures of the trace tests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vsim.traces.faults import InputError
from vsim.traces.requests import Requests

from .written import Put, Refused, seen


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def vsim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a `vsim` command in this process."""

    def run(*arguments: object) -> Ended:
        import vsim_app

        monkeypatch.setattr(sys, "argv", ["vsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            vsim_app.main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def requests() -> Requests:
    """Four requests: two of one session, a tenant without a name, a partial last block."""
    return Requests(
        id=np.array([10, 11, 7, 30]),
        arrival_ns=np.array([0, 5, 5, 9_000]),
        prompt_tokens=np.array([40, 8, 60, 1]),
        output_tokens=np.array([1, 2, 3, 4]),
        session=np.array([3, -1, 3, -1]),
        parent=np.array([-1, -1, 0, -1]),
        think_ns=np.array([-1, -1, 2, -1]),
        tenant=np.array([0, 1, 0, 2], dtype=np.int32),
        tenant_names=("ada", "", "bob"),
        priority=np.array([0, -1, 5, 0], dtype=np.int32),
        prefix_offsets=np.array([0, 3, 3, 7, 7]),
        prefix_ids=np.array([100, 101, 102, 100, 101, 103, 104]),
        block_tokens=16,
        source="a test",
    )


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Try to write where it must be refused; nothing may have changed."""

    def attempt(put: Put, *arguments: object, **more: object) -> str:
        before = seen(tmp_path)
        with pytest.raises(InputError) as caught:
            put(*arguments, **more)
        assert seen(tmp_path) == before
        (fault,) = caught.value.faults
        assert "\n" not in str(fault)
        return str(fault)

    return attempt
