"""The faults found in a file as its lines are read."""

from json import JSONDecodeError
from typing import Final

from vsim.traces.faults import Fault, InputError

MOST_FAULTS: Final = 20


class Faults:
    """Faults of one file, collected while it is read; state: the list of them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, message: str, *, line: int | None = None, place: str | None = None) -> None:
        """Keep a fault. Raises InputError with all of them once there are MOST_FAULTS."""
        self.found.append(Fault(self.file, message, line, None, place))
        if len(self.found) >= MOST_FAULTS:
            message = f"has {MOST_FAULTS} faults up to here; the rest was not read"
            self.found.append(Fault(self.file, message, line))
            self.settle()

    def settle(self) -> None:
        """Raise InputError if anything was found."""
        if self.found:
            raise InputError(self.found)


def json_cause(error: Exception) -> str:
    """Say in a few words why text is not JSON."""
    if isinstance(error, JSONDecodeError):
        return error.msg.removesuffix(" at").removesuffix(" starting")
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "a number of too many digits"
