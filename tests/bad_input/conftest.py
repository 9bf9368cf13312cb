from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command_line import run

Refuse = Callable[..., list[str]]


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Refuse:
    """Run vsim on input that is wrong and return the faults it prints, one a line."""

    def refuse(*arguments: str) -> list[str]:
        before = sorted(tmp_path.rglob("*"))
        code = run(monkeypatch, *arguments)
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        lines = captured.err.splitlines()
        assert lines, "no fault was printed"
        return lines

    return refuse
