"""Models by name or by path."""

from functools import cache
from pathlib import Path

from vsim.sim.inputs.yaml_input import load_yaml
from vsim.sim.model.huggingface import load_config
from vsim.sim.model.model import Model
from vsim.traces.faults import refuse, refuse_empty_name, suggestion


def catalogue_names() -> list[str]:
    """Name the models that come with vsim."""
    return sorted(path.stem for path in _catalogue().glob("*.yaml"))


def load_model(name_or_path: str | Path) -> Model:
    """Load a model of the catalogue by name, a model YAML, or a Hugging Face `config.json`.

    A folder stands for the `config.json` in it.

    Raises:
        InputError: with every fault of the file, or the nearest name for an unknown one.
    """
    text = str(name_or_path)
    refuse_empty_name(text)
    path = Path(text)
    if text in catalogue_names():
        return _of_catalogue(text)
    if text.endswith(".json") or (path / "config.json").is_file():
        return load_config(path if text.endswith(".json") else path / "config.json")
    if path.is_dir():
        refuse(text, "is a folder without a config.json; write the path of one, or of a .yaml file")
    if "/" in text and not path.exists():
        what = "there is no such file, and vsim downloads none; write a name of the catalogue"
        refuse(text, f"{what}, a .yaml path or the path of a Hugging Face config.json")
    if "/" in text or text.endswith((".yaml", ".yml")):
        return load_yaml(path, Model)
    known = suggestion(text, catalogue_names())
    refuse(
        "model",
        f"'{text}' is not in the catalogue{known}; write such a name, a .yaml path or the path of"
        " a Hugging Face config.json",
    )


@cache
def _of_catalogue(name: str) -> Model:
    """Read a model that comes with vsim, once: its file does not change while vsim runs."""
    return load_yaml(_catalogue() / f"{name}.yaml", Model)


def _catalogue() -> Path:
    return Path(__file__).parent / "catalogue"
