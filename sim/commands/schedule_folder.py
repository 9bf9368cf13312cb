"""`ScheduleFolder`: schedules and their summary, complete or absent."""

import os
import secrets
import shutil
from pathlib import Path

from vsim.traces.faults import refuse

SUMMARY = "bound.json"


class ScheduleFolder:
    """A folder that appears at the end; stateful: it collects files until `finish`.

    Args:
        target: where the folder will be: new, empty, or a former result.

    Raises:
        InputError: the target holds anything else, or can't be made.
    """

    def __init__(self, target: str) -> None:
        self._target = Path(target).resolve()
        if self._target.exists() and not self._is_former():
            refuse("--out", f"{target} holds what this command did not write; name a new folder")
        self.path = self._target.with_name(f".{self._target.name}.vsim-{secrets.token_hex(8)}")
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            for left_over in self._target.parent.glob(f".{self._target.name}.vsim-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            self.path.mkdir()
        except OSError as error:
            refuse("--out", f"{target} can't be made: {os.strerror(error.errno or 0)}")

    def finish(self, summary: str) -> None:
        """Write the summary and put the folder in its place."""
        (self.path / SUMMARY).write_text(summary)
        if self._target.exists():
            former = self.path.with_name(self.path.name + "-former")
            os.rename(self._target, former)
            os.rename(self.path, self._target)
            shutil.rmtree(former)
        else:
            os.rename(self.path, self._target)

    def _is_former(self) -> bool:
        if not self._target.is_dir():
            return False
        names = {path.name for path in self._target.iterdir()}
        others = {name for name in names if name != SUMMARY and not name.endswith(".arrow")}
        return not others and (not names or SUMMARY in names)
