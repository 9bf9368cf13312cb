"""Keys: a configuration's keys by their aliases, and which of them were understood."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vsim.sim.inputs.model_faults import show
from vsim.traces.faults import Fault

_MOST = 2**40


class Keys:
    """A group of keys. Remembers which were asked for, and collects the faults of wrong ones.

    Args:
        values: as the file has them.
        file: the name that faults give.
        defaults: what the model's class takes for keys that the file leaves out.
        place: where in the file the group is, with a dot behind it.
        faults: where faults go.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        file: str,
        defaults: Mapping[str, Any] | None = None,
        place: str = "",
        faults: list[Fault] | None = None,
    ) -> None:
        self.values = values
        self.file = file
        self.defaults = defaults or {}
        self.place = place
        self.faults: list[Fault] = [] if faults is None else faults
        self.seen: set[str] = set()
        kind = values.get("model_type")
        self.kind = kind if isinstance(kind, str) else ""

    def complain(self, key: str, message: str) -> None:
        """Note a fault of a key, its first one: what else is wrong with it follows from that."""
        place = f"{self.place}{key}"
        if place not in (fault.place for fault in self.faults):
            self.faults.append(Fault(self.file, message, place=place))

    def is_faulty(self, *keys: str) -> bool:
        """Whether what the first of the keys holds stands for a value that could not be read."""
        place = f"{self.place}{self._key_of(keys)}"
        return place in (fault.place for fault in self.faults)

    def see(self, *keys: str) -> None:
        """Note keys as understood."""
        self.seen.update(keys)

    def forget_default(self, key: str) -> None:
        """Take no default for a key that has another meaning here."""
        self.defaults = {name: each for name, each in self.defaults.items() if name != key}

    def raw(self, *keys: str) -> Any:
        """The value of the first of the keys that is there and not null, else its default.

        A key that is null takes no default: the file says that there is none.
        """
        self.see(*keys)
        source = self._source(keys)
        return next((source[key] for key in keys if source.get(key) is not None), None)

    def _source(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """Where the keys are looked for: in the file where it has one of them, even as null."""
        return self.values if any(key in self.values for key in keys) else self.defaults

    def has(self, *keys: str) -> bool:
        """Whether the file itself has one of the keys, not null."""
        return any(self.values.get(key) is not None for key in keys)

    def whole(self, *keys: str, least: int = 1) -> int | None:
        """The first of the keys as a whole number; a list of equal ones counts as one of them."""
        value = self.raw(*keys)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            value = value[0]
        if value is None:
            return None
        key = self._key_of(keys)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
            self.complain(key, f"{show(value)} is not a whole number from {least} to {_MOST - 1}")
            return least
        return value

    def need(self, meaning: str, *keys: str, least: int = 1) -> int:
        """As `whole`, and a fault if there is none; returns 1 then, so that reading goes on."""
        value = self.whole(*keys, least=least)
        if value is None:
            others = f" (or {', '.join(keys[1:])})" if keys[1:] else ""
            self.complain(keys[0], f"is missing{others}; write {meaning}")
        return 1 if value is None else value

    def yes(self, *keys: str, default: bool = False) -> bool:
        """The first of the keys as true or false."""
        value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.complain(self._key_of(keys), f"{show(value)} is not true or false")
            return default
        return value

    def word(self, *keys: str) -> str | None:
        """The first of the keys as a word."""
        value = self.raw(*keys)
        if value is None or isinstance(value, str):
            return value
        self.complain(self._key_of(keys), f"{show(value)} is not a word; put it in quotes")
        return None

    def each(self, layers: int, *keys: str) -> list[Any] | None:
        """The first of the keys as a list with an item a layer; more items than layers are cut."""
        value = self.raw(*keys)
        if value is None:
            return None
        key = self._key_of(keys)
        if not isinstance(value, list) or len(value) < layers:
            if key in self.values:
                message = f"{show(value)} is not a list of {layers}, one for each layer"
                self.complain(key, message)
            return None
        return value[:layers]

    def numbers(self, *keys: str) -> list[int] | None:
        """The first of the keys as a list of whole numbers."""
        value = self.raw(*keys)
        if value is None:
            return None
        if isinstance(value, list) and all(type(each) is int for each in value):
            return value
        self.complain(self._key_of(keys), f"{show(value)} is not a list of whole numbers")
        return None

    def inner(self, key: str) -> "Keys | None":
        """A group of keys inside this one."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.complain(key, f"{show(value)} is not a group of keys")
            return None
        return Keys(value, self.file, place=f"{self.place}{key}.", faults=self.faults)

    def unread(self) -> Iterator[str]:
        """Keys of the file that nothing asked for."""
        return (key for key in self.values if key not in self.seen)

    def _key_of(self, keys: Sequence[str]) -> str:
        source = self._source(keys)
        return next((key for key in keys if source.get(key) is not None), keys[0])
