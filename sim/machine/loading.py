"""Machines by name or by path."""

from functools import cache
from pathlib import Path

from vsim.sim.inputs.yaml_input import load_yaml
from vsim.sim.machine.machine import Machine
from vsim.traces.faults import refuse, suggestion


def catalogue_names() -> list[str]:
    """Name the machines that come with vsim."""
    return sorted(path.stem for path in _catalogue().glob("*.yaml"))


def load_machine(name_or_path: str | Path) -> Machine:
    """Load a machine of the catalogue by name, or a user's own file by path.

    Raises:
        InputError: with every fault of the file, or the nearest name for an unknown one.
    """
    text = str(name_or_path)
    if text in catalogue_names():
        return _of_catalogue(text)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return _load(text)
    known = suggestion(text, catalogue_names())
    refuse("machine", f"'{text}' is not in the catalogue{known}; write such a name or a .yaml path")


def machine_path(name_or_path: str | Path) -> Path:
    """The file of a machine of the catalogue, or a user's own."""
    text = str(name_or_path)
    return _catalogue() / f"{text}.yaml" if text in catalogue_names() else Path(text)


@cache
def _of_catalogue(name: str) -> Machine:
    """Read a machine that comes with vsim, once: its file does not change while vsim runs."""
    return _load(_catalogue() / f"{name}.yaml")


def _load(path: str | Path) -> Machine:
    """Read a machine file; its table files are found from its own folder."""
    machine = load_yaml(path, Machine)
    folder = Path(path).parent
    kernels = tuple(
        each.model_copy(update={"file": str(folder / each.file)}) for each in machine.kernels
    )
    return machine.model_copy(update={"kernels": kernels})


def _catalogue() -> Path:
    return Path(__file__).parent / "catalogue"
