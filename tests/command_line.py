"""Commands of `vsim` in the test's own process, which starting anew would cost seconds."""

import pytest
import vsim_app


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command; its exit code."""
    monkeypatch.setattr("sys.argv", ["vsim", *arguments])
    with pytest.raises(SystemExit) as ended:
        vsim_app.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code
