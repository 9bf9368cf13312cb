"""The rooms of the project: who may import whom, and why a check is ignored."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.conftest import KINDS, TESTS, in_two_shares, kind_of

import vsim.sim
from vsim.sim.placement.bounding import bound
from vsim.sim.results.output import Result
from vsim.sim.scenario.scenario import Scenario, load_scenario
from vsim.sim.simulation import simulate

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("traces", "sim", "reports", "hwbackend")
# From the top down; a room may import those after it.
ROOMS = (
    "commands", "fidelity", "goodput", "simulation", "feasibility", "attention_run", "results",
    "placement", "prefixes", "bounds", "schedules", "engine", "sizing", "profiles", "scenario",
    "eviction", "allocators", "calibration", "timing", "model", "machine", "inputs", "compiled",
)  # fmt: skip


@cache
def imports() -> dict[str, set[str]]:
    """Every module of the project, and the project's modules that it imports."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found["vsim." + ".".join(p for p in parts if p != "__init__")] = set()
    for name in found:
        path = REPOSITORY.joinpath(*name.split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.exists():
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vsim"):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found[name].add(inner if inner in found else str(node.module))
            elif isinstance(node, ast.Import):
                found[name] |= {a.name for a in node.names if a.name.startswith("vsim.")}
    return {name: targets - {name} for name, targets in found.items()}


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Paths that come back to where they started."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield path[path.index(name) :]
            return
        if name in done:
            return
        for target in sorted(graph.get(name, ())):
            yield from walk(target, [*path, name])
        done.add(name)

    for name in sorted(graph):
        yield from walk(name, [])


def test_no_files_import_each_other_in_a_circle() -> None:
    # The package's front names modules for type checkers only.
    graph = {name: targets for name, targets in imports().items() if name != "vsim.sim"}
    assert list(circles(graph)) == []


def test_a_room_imports_only_rooms_under_it() -> None:
    floor = {room: at for at, room in enumerate(ROOMS)}
    wrong = [
        f"{name} -> {target}"
        for name, targets in imports().items()
        for target in targets
        if name.startswith("vsim.sim.")
        and target.startswith("vsim.sim.")
        and floor[target.split(".")[2]] < floor[name.split(".")[2]]
    ]
    assert wrong == []


def test_packages_import_only_those_under_them() -> None:
    allowed = {"traces": set(), "sim": {"traces"}, "reports": {"traces"},
               "hwbackend": {"traces", "sim"}}  # fmt: skip
    wrong = [
        f"{name} -> {target}"
        for name, targets in imports().items()
        for target in targets
        if target.split(".")[1] not in {*allowed[name.split(".")[1]], name.split(".")[1]}
    ]
    assert wrong == []


def test_the_simulator_s_front_offers_its_functions_and_classes() -> None:
    assert vsim.sim.simulate is simulate
    assert vsim.sim.load_scenario is load_scenario
    assert vsim.sim.Scenario is Scenario
    assert vsim.sim.Result is Result
    assert vsim.sim.bound is bound
    assert set(vsim.sim.__all__) <= set(dir(vsim.sim))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vsim.sim.nothing  # type: ignore[attr-defined]  # noqa: B018 - that is the test


def test_no_module_of_the_front_bears_a_function_s_name() -> None:
    for name in vsim.sim.__all__:
        assert not (REPOSITORY / "sim" / name).exists()
        assert not (REPOSITORY / "sim" / f"{name}.py").exists()


def test_every_ignored_check_carries_its_reason() -> None:
    """Behind the last ignore of a line, after a dash or a hash of its own."""
    ignored = re.compile(r"# (?:noqa|type: ignore)\b")
    reason = re.compile(r"(?: - | # )\S+(?: \S+)+$")
    without = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if ignored.search(line) and not reason.search(ignored.split(line)[-1])
    ]
    assert without == []


def test_tests_that_compile_are_named_by_paths_that_there_are() -> None:
    assert [name for names in KINDS for name in names if not (TESTS / name).exists()] == []
    paths = ("sim/engine/test_x.py", "traces/test_x.py", "fuzz/test_x.py",
             "sim/bounds/test_x.py", "scenarios/test_settings.py")  # fmt: skip
    assert [kind_of(path) for path in paths] == [0, 3, 1, 2, 0]
    assert in_two_shares([3, 3, 0, 2, 3, 1, 3, 3]) == [2, 5, 0, 1, 3, 4, 6, 7]
