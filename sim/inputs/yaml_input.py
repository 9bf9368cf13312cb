"""YAML that people write: read with positions, then checked against a pydantic model.

Every fault names file, line, column and field, and all of a file's faults are raised at once.
Scalars follow YAML 1.2's core schema, so that `1e9` is a number and `on` a word; anchors may be
used, tags may not.
"""

import json
import math
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic import ValidationError as _PydanticError

from vsim.sim.inputs.model_faults import FieldsError, Place, explain, show
from vsim.traces.faults import Fault, InputError, refuse, refuse_empty_name
from vsim.traces.units import parse_bandwidth, parse_bytes, parse_duration_ns, parse_flops

__all__ = [
    "Bandwidth",
    "Bytes",
    "DurationNs",
    "FieldsError",
    "Flops",
    "YamlDocument",
    "load_yaml",
    "parse_yaml",
    "read_text",
    "read_yaml",
]

M = TypeVar("M", bound=BaseModel)

_DEEPEST = 60  # levels of nesting; also what ends an alias that contains itself
_MOST_VALUES = 100_000  # ends aliases that multiply
_LONGEST_PLACE = 200  # characters of a dotted path in a fault
_LARGEST_FILE_BYTES = 16 * 2**20
# What libyaml reads as PyYAML does: none of the characters that only few files need, lines that
# people write, and brackets so few that no nesting of them is deep.
_UNUSUAL = re.compile(
    "[^\n -~\u00a1-\u2027\u202a-\ud7ff]|[&*!?\\\\|@]|^(---|\\.\\.\\.|%)|>(?!-?\n)", re.M
)
_LONGEST_LINE = 500
_MOST_BRACKETS = 1000

_NOT_YAML = "is not YAML here (check indentation, quotes and brackets)"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _quantity(parse: Any, least: float, most: float, words: str) -> BeforeValidator:
    """Read text with a unit, within limits; a value built in Python may be the number itself.

    The limits hold any machine that there is or that one could think of, and keep every sum and
    quotient of such numbers far from where arithmetic ends.
    """

    def read(value: object, info: ValidationInfo) -> object:
        plain = info.mode == "python" and not isinstance(value, str)
        try:
            number = value if plain else parse(value)
        except ValueError as error:  # it quotes the value whole, however long that is
            raise ValueError(str(error).replace(repr(value), show(value))) from None
        if isinstance(number, int | float) and not least <= number <= most:
            raise ValueError(f"{show(value)} is out of range; write from {words}")
        return number

    return BeforeValidator(read)


def _written(unit_pattern: str, *examples: str) -> WithJsonSchema:
    """Show editors what is written in the file rather than the number it becomes."""
    pattern = rf"^\s*[0-9][0-9_]*\.?[0-9]*([eE][+-]?[0-9]+)?\s*({unit_pattern})\s*$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


_SIZE = "B|[kKMGTP]B|[KMGTP]iB"
Bytes = Annotated[
    int,
    _quantity(parse_bytes, 1, 2**60, "1B to 1024PiB"),
    _written(_SIZE, "80GiB", "2MiB"),
]
"""A size in bytes above zero, written like `80GiB`."""
DurationNs = Annotated[
    int,
    _quantity(parse_duration_ns, 0, 10**12, "0s to 1000s"),
    _written("[nuµm]?s|min|h", "12us", "500ms"),
]
"""A duration in nanoseconds, written like `12us`."""
Bandwidth = Annotated[
    float,
    _quantity(parse_bandwidth, 1e6, 1e18, "1MB/s to 1000PB/s"),
    _written(f"({_SIZE})/s", "3.35TB/s", "55GB/s"),
]
"""A bandwidth in bytes per second, written like `3.35TB/s`."""
ComparedBandwidth = Annotated[
    float,
    _quantity(parse_bandwidth, 1, 1e18, "1B/s to 1000PB/s"),
    _written(f"({_SIZE})/s", "5TB/s", "500GB/s"),
]
"""As `Bandwidth`, for studies of placement, where only the ratio of two counts."""
Flops = Annotated[
    float,
    _quantity(parse_flops, 1e9, 1e21, "1GFLOP/s to 1000000PFLOP/s"),
    _written("[GTP]FLOP/s", "989TFLOP/s"),
]
"""An arithmetic rate in operations per second, written like `989TFLOP/s`."""


def load_yaml(path: str | Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """Read a YAML file into a pydantic model; `overrides` are `a.b=value`, as `--set` takes them.

    Raises:
        InputError: with every fault of the file and of the overrides.
    """
    return read_yaml(path, overrides).validate(model)


def parse_yaml(text: str, file: str, model: type[M], overrides: Sequence[str] = ()) -> M:
    """Read YAML text into a pydantic model; `file` is the name that faults give."""
    return YamlDocument(text, file, overrides).validate(model)


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> "YamlDocument":
    """Read a YAML file and keep its positions, for faults that are found later."""
    return YamlDocument(read_text(path), str(path), overrides)


def read_text(path: str | Path) -> str:
    """Read a text file that a user named. Raises InputError if it can't be read."""
    file = str(path)
    refuse_empty_name(file)
    _refuse_special(file, path)
    try:
        with Path(path).open("rb") as handle:
            raw = handle.read(_LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        refuse(file, "there is no such file; write the path of one")
    except IsADirectoryError:
        refuse(file, "is a folder; write the path of a file in it")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        refuse(file, f"can't be read: {getattr(error, 'strerror', None) or error}")
    if len(raw) > _LARGEST_FILE_BYTES:
        refuse(file, "is larger than 16 MiB; that is no hand-written file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        refuse(file, f"byte {error.start} is not UTF-8 text; save the file as UTF-8", line=line)


def _refuse_special(file: str, path: str | Path) -> None:
    """Refuse what would never end or never begin: devices, sockets, and pipes that have a name.

    A pipe without one, such as a shell's `<(…)`, has a writer already.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return  # opening it says why
    if stat.S_ISFIFO(mode) and not file.startswith(("/dev/", "/proc/")):
        refuse(file, "is a pipe; save what comes out of it, and write the path of that file")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        refuse(file, "is a device or a socket; write the path of a file")


class YamlDocument:
    """A document's plain values (dict, list, str, int, float, bool, None) and where each stands.

    Args:
        text: the YAML text.
        file: the name that faults give.
        overrides: `a.b=value`, applied in order on top of the text.

    Raises:
        InputError: for a syntax error, a duplicate key, NaN or infinity, or a wrong override.
    """

    data: Any

    def __init__(self, text: str, file: str, overrides: Sequence[str] = ()) -> None:
        self.file = file
        self._overridden: dict[Place, str] = {}
        if not self._read_quickly(text):
            self._begin()
            root = self._compose(text)
            self.data = None if root is None else self._build(root, ())
        refused = self.data is None and bool(self._faults)  # what stood there is named already
        if self.data is None and not refused:
            self._faults.append(Fault(file, "is empty; write at least one field, like `name: x`"))
        elif not (refused or isinstance(self.data, dict)):
            found = "a list" if isinstance(self.data, list) else "a single value"
            self._faults.append(
                Fault(file, f"holds {found}; write fields, one a line, like `name: x`", 1)
            )
        if not self._faults:
            for override in overrides:
                self._override(override)
        if self._faults:
            raise InputError(self._faults)

    def _begin(self) -> None:
        self.data = None
        self._keys: dict[Place, tuple[int, int]] = {}
        self._values: dict[Place, tuple[int, int]] = {}
        self._count = 0
        self._faults: list[Fault] = []
        self._has_empty = False

    def _read_quickly(self, text: str) -> bool:
        """Read a usual text with libyaml, in a fifth of the time; whether that says all there is.

        Faults are left to PyYAML's own parser, whose words they are given in, and so are values
        that are left out, since the two differ in where these stand.
        """
        if (
            not yaml.__with_libyaml__
            or _UNUSUAL.search(text)
            or max(map(len, text.split("\n"))) > _LONGEST_LINE
            or text.count("[") + text.count("{") > _MOST_BRACKETS
        ):
            return False
        self._begin()
        try:
            root = yaml.CBaseLoader(text).get_single_node()
            if root is not None:
                self.data = self._build(root, ())
        except (yaml.YAMLError, InputError):
            return False
        return root is not None and not self._faults and not self._has_empty

    def validate(self, model: type[M]) -> M:
        """Check the document against a model and build it. Raises InputError with every fault."""
        try:
            # JSON, so that strict mode still turns a list into a tuple and a word into an enum.
            return model.model_validate_json(json.dumps(self.data), strict=True)
        except _PydanticError as error:
            found = [
                self.fault(place, message, at_key=at_key)
                for place, message, at_key in explain(error, self.data, model)
            ]
            found.sort(key=lambda fault: (fault.line or 0, fault.column or 0))
            raise InputError(found) from None

    def fault(self, place: Place, message: str, *, at_key: bool = False) -> Fault:
        """Make a fault that names the line, column and field of `place`, or the `--set` it is from.

        Args:
            place: keys and indices from the root, such as `("tiers", 1, "capacity")`; a field that
                was not written takes its parent's position.
            message: what was found and what to write instead.
            at_key: point at the key rather than at its value.
        """
        field = _dotted(place)
        message = _printable(message)  # a key may hold anything
        for end in range(len(place), -1, -1):
            prefix = place[:end]
            if prefix in self._overridden:
                option = self._overridden[prefix]
                return Fault(option, message, place=None if option == f"--set {field}" else field)
            table = self._keys if at_key and end == len(place) else self._values
            if prefix in table:
                line, column = table[prefix]
                return Fault(self.file, message, line, column, field or None)
        return Fault(self.file, message, place=field or None)

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.BaseLoader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            problem = (error.problem or str(error.context)).strip()
            mark = error.problem_mark or error.context_mark
            where = (mark.line + 1, mark.column + 1) if mark else (None, None)
            self._faults.append(Fault(self.file, f"{_NOT_YAML}: {problem}", *where))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            shown = f"character {error.character!r} is not allowed in YAML; remove it"
            self._faults.append(Fault(self.file, shown, line))
        except RecursionError:
            self._faults.append(Fault(self.file, "is nested too deeply; write it flatter"))
        raise InputError(self._faults)

    def _build(self, node: yaml.Node, place: Place) -> Any:
        position = (node.start_mark.line + 1, node.start_mark.column + 1)
        self._values[place] = position
        self._count += 1
        if self._count > _MOST_VALUES or len(place) > _DEEPEST:
            message = "holds too many or too deeply nested values; write fewer aliases"
            refuse(self.file, message, line=position[0], column=position[1])
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in (
            "str", "seq", "map",
        ):  # fmt: skip
            self._complain(place, f"tag {node.tag!r} is not allowed; write the plain value")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*place, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # the third of YAML's three kinds
        return self._scalar(node, place)

    def _build_mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, value in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if not isinstance(key, yaml.ScalarNode):
                message = "a key must be a word; write it like `name: value`"
                self._faults.append(Fault(self.file, message, line, column, _dotted(place) or None))
                continue
            inner = (*place, key.value)
            if _SURROGATE.search(key.value):
                message = "a key holds half a character; write it whole"
                self._faults.append(Fault(self.file, message, line, column, _dotted(inner)))
                continue
            if key.value in fields:
                first = self._keys[inner][0]
                message = f"is written twice (first on line {first}); keep one of them"
                self._faults.append(Fault(self.file, message, line, column, _dotted(inner)))
                continue
            self._keys[inner] = (line, column)
            fields[key.value] = self._build(value, inner)
        return fields

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> str | int | float | bool | None:
        text: str = node.value
        if _SURROGATE.search(text):
            self._complain(place, f"{ascii(text)[:60]} holds half a character; write it whole")
            return ""
        if node.style:  # quoted or a block: text, whatever it looks like
            return text
        if _NULL.fullmatch(text):
            self._has_empty |= not text
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _INT.fullmatch(text) and len(text) < 40:
            return int(text)
        if _NOT_FINITE.fullmatch(text):
            self._complain(place, f"{text} is not a finite number; write an ordinary number")
        elif _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            self._complain(place, f"{text[:40]} is too large a number; write a smaller one")
        return text

    def _complain(self, place: Place, message: str) -> None:
        self._faults.append(self.fault(place, message))

    def _override(self, override: str) -> None:
        """Apply one `a.b=value`; the value is read as YAML, a number names an item of a list."""
        dotted, equals, text = override.partition("=")
        name = f"--set {dotted}"
        keys = dotted.split(".")
        if not equals or not all(keys):
            message = f"{override!r} is not a setting; write it like engine.token_budget=4096"
            self._faults.append(Fault("--set", message))
            return
        if "\n" in text:
            self._faults.append(Fault(name, f"{show(text)} holds a line break; write one line"))
            return
        # A document of its own gives the value the same scalars and the same faults as a file.
        try:
            value = YamlDocument(f"value: {text}", name).data["value"]
        except InputError as error:
            self._faults += [Fault(name, _of_value(text, each.message)) for each in error.faults]
            return
        place: Place = ()
        target = self.data
        for index, key in enumerate(keys):
            step = _step(target, key)
            if step is None:
                where = f"'{_dotted(place)}'" if place else "the top"
                found = (
                    f"{where} is a list of {len(target)}, counted from 0"
                    if isinstance(target, list)
                    else f"{where} is a single value and has no fields"
                )
                self._faults.append(Fault(name, f"{found}; there is no '{key}' in it"))
                return
            place = (*place, step)
            if index == len(keys) - 1:
                target[step] = value
            elif isinstance(target, dict) and target.get(step) is None:
                target[step] = {}
                if place not in self._values:  # the option made this field
                    self._overridden[place] = name
            target = target[step]
        for table in (self._keys, self._values):
            for known in [known for known in table if known[: len(place)] == place]:
                del table[known]
        kept = {p: option for p, option in self._overridden.items() if p[: len(place)] != place}
        self._overridden = {**kept, place: name}


def _of_value(text: str, message: str) -> str:
    """A fault of an override's value, which is named once."""
    return message if message.startswith(text[:40]) else f"{show(text)} {message}"


def _step(target: object, key: str) -> str | int | None:
    """Turn a key of a dotted path into one that fits its container; None if there is no such."""
    if isinstance(target, dict):
        return key
    if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
        return int(key)
    return None


def _dotted(place: Iterable[str | int]) -> str:
    text = _printable(".".join(map(str, place)))
    return text if len(text) <= _LONGEST_PLACE else f"{text[:_LONGEST_PLACE]}…"


def _printable(text: str) -> str:
    """Put a text on one line, and write characters that no terminal shows as escapes."""
    line = " ".join(text.splitlines())
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
