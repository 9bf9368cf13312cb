from collections.abc import Callable
from pathlib import Path

import pytest
from vsim_app import main

Refuse = Callable[..., list[str]]


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Refuse:
    """Run vsim on input that is wrong and return the faults it prints, one a line."""

    def run(*arguments: str) -> list[str]:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr("sys.argv", ["vsim", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert ended.value.code == 2, captured.err
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        lines = captured.err.splitlines()
        assert lines, "no fault was printed"
        return lines

    return run
