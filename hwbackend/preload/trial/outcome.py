"""Outcome: what a part of the trial found."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from vsim.hwbackend.preload.environment import Mode
from vsim.hwbackend.preload.trial.bench import Ran

GIB: Final = 1 << 30
MIB: Final = 1 << 20
MODES: Final[tuple[Mode | None, ...]] = (None, "record", "manage")


@dataclass(slots=True)
class Outcome:
    """What a part found; gathers rows and faults while it goes on.

    Args:
        rows: what was measured, ready for JSON.
        faults: what is wrong, a sentence each.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, ran: Ran) -> None:
        """Keep a run."""
        self.rows.append({"name": name, **asdict(ran)})


def show(name: str, ran: Ran) -> None:
    """Print a run in a line."""
    print(f"{name:34} {ran.mode:7} exit {ran.code:3} {ran.wall_s:5.1f} s  {ran.said}"
          + (f"  {ran.did}" if ran.did else ""), flush=True)  # fmt: skip
