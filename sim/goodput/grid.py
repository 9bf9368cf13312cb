"""The grid of `--over`: what is varied, and the configurations that come of it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, log
from typing import Final, NoReturn

from vsim.sim.inputs.yaml_input import read_yaml
from vsim.sim.scenario.scenario import EngineSettings, Scenario, TierSettings
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.units import parse_bytes

OPTION: Final = "--over"
_MOST_VALUES: Final = 64
_MOST_CONFIGURATIONS: Final = 1024
_STEP: Final = 4
_LOWEST_OF: Final = 64
_RANGE: Final = re.compile(r"(?P<low>[^.|/]+)\.\.(?P<high>[^|/]+?)(?:/(?P<count>\d+))?")
_TIER: Final = re.compile(r"tiers\.(\d+)\.capacity")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Axis:
    """A field and its values, as `--set` takes them.

    Args:
        field: a dotted key of the scenario.
        values: as written; of a tier's capacity, 0 leaves the tier out.
    """

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One scenario of a grid.

    Args:
        changes: what `--over` made of the file, `tiers.1.capacity=64GiB`; empty without `--over`.
        labels: of each, its field in a word: `host`.
        scenario: the whole.
    """

    changes: tuple[str, ...]
    labels: tuple[str, ...]
    scenario: Scenario

    @property
    def values(self) -> tuple[str, ...]:
        """What each field was set to."""
        return tuple(change.partition("=")[2] for change in self.changes)

    @property
    def name(self) -> str:
        """Its changes in one line; `as written` where there are none."""
        parts = (
            f"no {label}" if value == "0" and _TIER.match(change) else f"{label} {value}"
            for change, label, value in zip(self.changes, self.labels, self.values, strict=True)
        )
        return ", ".join(parts) or "as written"


def parse_over(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Read `tiers.1.capacity=0..1TiB` or `machine=h100|h200`; several with commas between them.

    A range of sizes rises from its lower to its upper end in equal steps of a factor of four or
    less; one from 0 goes on from there with a sixty-fourth. `0..1TiB/8` asks for eight values.

    Raises:
        InputError: with every fault found.
    """
    faults: list[Fault] = []
    axes: list[Axis] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        field, equals, values = (piece.strip() for piece in part.partition("="))
        try:
            if not equals or not field or not values:
                _refuse(f"'{part}' varies nothing; write it like tiers.1.capacity=0..1TiB")
            if any(axis.field == field for axis in axes):
                _refuse(f"{field} is there twice; keep one of them")
            axes.append(Axis(field, _values(field, values)))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return tuple(axes)


def configurations(
    path: str, overrides: Sequence[str], axes: Sequence[Axis]
) -> list[Configuration]:
    """Read a scenario file once for each combination of values, the last axis fastest.

    Raises:
        InputError: with the faults of the first combination that has some.
    """
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > _MOST_CONFIGURATIONS:
        _refuse(f"asks for {count:,} configurations; write at most {_MOST_CONFIGURATIONS:,}")
    return [
        _configuration(path, overrides, [(a.field, v) for a, v in zip(axes, values, strict=True)])
        for values in product(*(axis.values for axis in axes))
    ]


def _configuration(
    path: str, overrides: Sequence[str], changes: Sequence[tuple[str, str]]
) -> Configuration:
    left_out = [field for field, value in changes if value == "0" and _TIER.fullmatch(field)]
    written = [f"{field}={value}" for field, value in changes if field not in left_out]
    try:
        document = read_yaml(path, [*overrides, *written])
        scenario = document.validate(Scenario).read_with([*overrides, *written])
    except InputError as error:
        raise InputError(as_over(fault, changes) for fault in error.faults) from None
    fields = [field for field, _ in changes]
    return Configuration(
        tuple(f"{field}={value}" for field, value in changes),
        _labels(fields, scenario),
        _without(scenario, left_out),
    )


def _labels(fields: Sequence[str], scenario: Scenario) -> tuple[str, ...]:
    """Name fields in a word: a tier's capacity by the tier, others by their last part."""
    found = []
    for field in fields:
        tier = _TIER.fullmatch(field)
        number = len(scenario.tiers) if tier is None else int(tier[1])
        of_tier = scenario.tiers[number].tier if number < len(scenario.tiers) else None
        found.append(of_tier or field.rpartition(".")[2])
    return tuple(
        label if found.count(label) == 1 else field
        for field, label in zip(fields, found, strict=True)
    )


def as_over(fault: Fault, changes: Sequence[tuple[str, str]]) -> Fault:
    """Name the option that a value was written with."""
    fields = {f"--set {field}": f"{OPTION} {field}" for field, _ in changes}
    return replace(fault, file=fields.get(fault.file, fault.file))


def _without(scenario: Scenario, left_out: Sequence[str]) -> Scenario:
    """Leave tiers out by the numbers that they have in the file."""
    if not left_out:
        return scenario
    numbers = {int(field.split(".")[1]) for field in left_out}
    if 0 in numbers:
        refuse(f"{OPTION} tiers.0.capacity", "0 leaves HBM out; write sizes above 0")
    if over := [number for number in numbers if number >= len(scenario.tiers)]:
        message = (
            f"there is no tier {over[0]}; they are counted from 0 to {len(scenario.tiers) - 1}"
        )
        refuse(f"{OPTION} tiers.{over[0]}.capacity", message)
    tiers = tuple(tier for at, tier in enumerate(scenario.tiers) if at not in numbers)
    engine = _without_tiers(scenario.engine, tiers[1:])
    return scenario.model_copy(update={"tiers": tiers, "engine": engine})


def _without_tiers(engine: EngineSettings, lower: Sequence[TierSettings]) -> EngineSettings:
    """Leave out, with tiers, the settings that are about such tiers and could now do nothing."""
    idle: set[str] = set()
    if not any(tier.access == "promote" for tier in lower):
        idle |= {"loading", "prefetch_requests", "max_loading_requests"}
    if not any(tier.access == "in_place" for tier in lower):
        idle |= {"placement"}
    if not lower:
        idle |= {"offloading", "preemption"}
    return EngineSettings(**{f: getattr(engine, f) for f in engine.model_fields_set - idle})


def _values(field: str, text: str) -> tuple[str, ...]:
    if ".." in text:
        values = tuple(_range(field, text))
    else:
        values = tuple(_plain(value.strip()) for value in text.split("|"))
    if not all(values):
        _refuse(f"{field}: '{text}' holds an empty value; write values with | between them")
    if len(set(values)) < len(values):
        _refuse(f"{field}: '{text}' holds a value twice; keep one of them")
    if len(values) > _MOST_VALUES:
        _refuse(f"{field}: {len(values):,} values are too many; write at most {_MOST_VALUES}")
    return values


def _range(field: str, text: str) -> Iterator[str]:
    match = _RANGE.fullmatch(text)
    if match is None:
        _refuse(f"{field}: '{text}' is no range; write it like 0..1TiB, 16GiB..1TiB or 0..1TiB/8")
    low, high = (_size(field, match[name].strip()) for name in ("low", "high"))
    if high <= low or high < _MIB:
        _refuse(f"{field}: '{text}' does not rise; write it like 16GiB..1TiB")
    least = low if low else max(high // _LOWEST_OF, 1)
    zero = 0 if low else 1
    steps = ceil(round(log(high / least, _STEP), 9)) if match["count"] is None else None
    if steps is None:
        steps = int(match["count"]) - 1 - zero
        if not 1 <= steps < _MOST_VALUES:
            _refuse(f"{field}: '{text}' asks for {match['count']} values; write {2 + zero} to 64")
    if zero:
        yield "0"
    for step in range(steps + 1):
        yield _written(least if step == 0 else round(least * (high / least) ** (step / steps)))


def _size(field: str, text: str) -> int:
    if text == "0":
        return 0
    try:
        return parse_bytes(text)
    except ValueError as error:
        _refuse(f"{field}: {error}")


def _plain(value: str) -> str:
    """Write the sizes that are nothing as 0."""
    try:
        return "0" if parse_bytes(value) == 0 else value
    except ValueError:
        return value


def _written(size: int) -> str:
    """Write a size as people do, where it is a whole number of some unit; else in whole MiB."""
    for unit, exponent in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if size % (1 << exponent) == 0:
            return f"{size >> exponent}{unit}"
    return f"{max(1, round(size / _MIB))}MiB"


def _refuse(message: str) -> NoReturn:
    refuse(OPTION, message)
