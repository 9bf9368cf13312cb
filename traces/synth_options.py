"""Make a SynthSpec from command-line options, and name the option that is wrong."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.synth_spec import SynthSpec

_OPTION_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "requests": "--requests",
        "seed": "--seed",
        "arrivals": "--arrivals",
        "arrivals.process": "--arrivals",
        "arrivals.rate_per_s": "--rate",
        "arrivals.cv": "--cv",
        "arrivals.on_s": "--on",
        "arrivals.off_s": "--off",
        "prompt_tokens": "--prompt-quantiles",
        "output_tokens": "--output-quantiles",
        "sessions": "--turns",
        "sessions.turns_mean": "--turns",
        "sessions.think_s_mean": "--think",
        "sessions.follow_up_tokens": "--follow-up-quantiles",
        "sessions.most_tokens": "--most-tokens",
        "sessions.system_prompts": "--system-prompts",
        "sessions.system_prompt_tokens": "--system-prompt-tokens",
        "sessions.zipf": "--zipf",
        "tenants": "--tenant",
        "block_tokens": "--block-tokens",
    }
)


_FIELDS: Final = re.compile(
    r"\b(?:sessions\.|arrivals\.)?(process|cv|on_s|off_s|turns_mean|think_s_mean|follow_up_tokens"
    r"|most_tokens|system_prompts|system_prompt_tokens|zipf|block_tokens)\b"
)
_BY_FIELD: Final[Mapping[str, str]] = MappingProxyType(
    {field.rpartition(".")[2]: option for field, option in _OPTION_OF.items()}
)


def _fault(location: Sequence[int | str], message: str) -> Fault:
    """A fault of the specification, told of options: what the command line knows no fields of."""
    told = _FIELDS.sub(lambda field: _BY_FIELD[field[1]], message)
    option, _, rest = told.partition(" ")
    if option.startswith("--") and told != message:
        return Fault(option.removesuffix(":"), rest)
    return Fault(_option(location), told)


def _option(location: Sequence[int | str]) -> str:
    """Return the option of a place in the specification, or of the nearest place above it."""
    for end in range(len(location), 0, -1):
        name = _OPTION_OF.get(".".join(map(str, location[:end])))
        if name is not None:
            return name
    return "vsim trace synth"


def _tenant(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) not in (2, 3):
        refuse("--tenant", f"{text!r} is no tenant; write name:share or name:share:priority")
    given = dict(zip(("name", "share", "priority"), parts, strict=False))
    return {name: value for name, value in given.items() if value or name == "name"}


def spec_from_options(values: Mapping[str, Any], tenants: Sequence[str]) -> SynthSpec:
    """Make a specification. Raises InputError with one fault for each option that is wrong.

    A tenant is `name:share` or `name:share:priority`; a single one leaves its share out, `name:`.
    """
    try:
        return SynthSpec.model_validate({**values, "tenants": [_tenant(text) for text in tenants]})
    except ValidationError as error:
        faults = []
        for detail in error.errors():
            message = detail["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(detail["input"], dict | list) else f"{detail['input']!r}: "
            faults.append(_fault(detail["loc"], shown + message))
        raise InputError(faults) from None


def option_fault(fault: Fault) -> Fault:
    """Give a fault that drawing found, in a field of the specification, its option's name."""
    place = fault.place or ""
    return _fault(tuple(place.split(".")), fault.message)
