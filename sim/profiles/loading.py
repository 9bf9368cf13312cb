"""Profiles by name."""

from functools import cache
from pathlib import Path

from vsim.sim.inputs.yaml_input import load_yaml
from vsim.sim.profiles.profile import EngineProfile
from vsim.traces.faults import refuse, suggestion


def profile_names() -> list[str]:
    """Name the profiles that come with vsim."""
    return sorted(path.stem for path in _catalogue().glob("*.yaml"))


@cache
def load_profile(name: str) -> EngineProfile:
    """Load a profile by name. Raises InputError with the nearest name for an unknown one."""
    if name not in profile_names():
        known = suggestion(name, profile_names())
        refuse("scenario", f"'{name}' is no engine profile{known}", place="engine.profile")
    return load_yaml(_catalogue() / f"{name}.yaml", EngineProfile)


def _catalogue() -> Path:
    return Path(__file__).parent / "catalogue"
