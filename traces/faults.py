"""Faults in what a user wrote: what they are, and the one error that carries them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NoReturn

_MOST_TO_COMPARE: Final = 1000  # names; more take minutes to compare, and are no help
_LONGEST_PLACE: Final = 200
_LONGEST_MESSAGE: Final = 1200  # characters; what a file holds may be quoted in a message


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in the input.

    Prints as `file:line:column: field: what was found; what to write`, each part only if known.

    Args:
        file: path as the user gave it, or the name of an option such as `--set`.
        message: what was found and what to write instead, one line.
        line: 1-based line, or None where the format has no lines.
        column: 1-based column within that line.
        place: field path such as `tiers.1.capacity`, or `row 7, column arrival_ns`.
    """

    file: str
    message: str
    line: int | None = None
    column: int | None = None
    place: str | None = None

    def __str__(self) -> str:
        where = _clipped(self.file, _LONGEST_MESSAGE)
        if self.line is not None:
            where += f":{self.line}"
            if self.column is not None:
                where += f":{self.column}"
        place = [_clipped(self.place, _LONGEST_PLACE)] if self.place else []
        return one_line(": ".join([where, *place, _clipped(self.message, _LONGEST_MESSAGE)]))


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str) -> str:
    """Show text from a file on one line of a terminal: what does not print is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: Exception) -> str:
    """Return the first line of what an error of a library says, its name where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class InputError(Exception):
    """The input is wrong. Carries every fault found, not only the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


def refuse(
    file: str,
    message: str,
    *,
    line: int | None = None,
    column: int | None = None,
    place: str | None = None,
) -> NoReturn:
    """Raise an InputError that carries one fault."""
    raise InputError([Fault(file, message, line, column, place)])


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which known word is meant: ` (did you mean 'capacity'?)`, or list them all."""
    names = sorted(known)
    if len(names) > _MOST_TO_COMPARE:
        return f" (known: {len(names):,} names)"
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (known: {', '.join(names)})"


def refuse_empty_name(name: str) -> None:
    """Refuse a file's name that has no letter, which paths would take for this folder.

    Raises:
        InputError: it is empty.
    """
    if not name:
        refuse("''", "is an empty name; write a file's")


def refuse_other_type(name: str, value: object, wanted: type, hint: str) -> None:
    """Refuse an argument of another type than a function takes.

    Args:
        name: the argument.
        value: what was given.
        wanted: its type.
        hint: where such a value comes from.

    Raises:
        InputError: it is of another type.
    """
    if not isinstance(value, wanted):
        refuse(name, f"is {type(value).__name__}; give {wanted.__name__}, {hint}")
