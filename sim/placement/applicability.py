"""Settings of a placement scenario that can't act in it are refused, with the reason.

A setting counts as given only if it was written down (`model_fields_set`): a default that happens
to do nothing is no fault. What only the traces can tell is checked once they are read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from vsim.sim.inputs.model_faults import Place
from vsim.sim.placement.comparison import ROUNDING, policy_names
from vsim.sim.placement.policies import DRAWING, FOLLOWING_MASS
from vsim.sim.placement.scenario import DEFAULT_SPARSITY, PlacementScenario, SelectionSettings
from vsim.sim.placement.stack.comparison import stack_policy_names
from vsim.sim.placement.stack.policies import STACK_DRAWING, STACK_FOLLOWING_MASS
from vsim.sim.scenario.limits import MOST_SEARCH_S
from vsim.traces.faults import Fault, InputError, suggestion
from vsim.traces.page_reads import PageReads

Found = Iterator[tuple[Place, str]]

_WORTH_SAYING_S = 600.0

WINDOW_SHARE = "window-share"
SETTINGS_OF_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "top-share": ("sparsity", "score"),
        "top-mass": ("mass_share", "score"),
        "window": ("sinks", "window"),
        "dense": (),
    }
)


def refuse_what_cannot_act(scenario: PlacementScenario, *, writes: bool = True) -> None:
    """Check everything that no trace is needed for.

    Args:
        scenario: the settings.
        writes: whether results or schedules are written, or handed over in Python.

    Raises:
        InputError: one fault a setting, `scenario` as its file and the field as its place.
    """
    rules = (_policies, _repeated, _seed, _search, _drawn)
    found = [each for rule in rules for each in rule(scenario)]
    if "slow_tier" in scenario.memory.model_fields_set and not writes:
        message = "does nothing where no file names the tier; write --out or --json, or remove it"
        found.append((("memory", "slow_tier"), message))
    _refuse([*_selection(scenario.selection), *found])


def refuse_idle_selection(selection: SelectionSettings) -> None:
    """Check a selection alone.

    Raises:
        InputError: as above, with places under `selection`.
    """
    _refuse(_selection(selection))


def refuse_what_reads_ignore(scenario: PlacementScenario, recorded: PageReads) -> None:
    """Check settings against what was recorded: all its steps, in pages as they were recorded.

    Raises:
        InputError: as above.
    """
    _refuse(_shape(scenario, recorded))


def refuse_what_no_write_feels(scenario: PlacementScenario, reads: PageReads) -> None:
    """Check settings that act only where decode writes pages, against the reads of a case.

    Raises:
        InputError: as above.
    """
    _refuse(_duplex(scenario, reads))


def refuse_policies_without_mass(scenario: PlacementScenario) -> None:
    """Check the policies of a case whose trace tells no attention mass.

    Raises:
        InputError: as above.
    """
    following = STACK_FOLLOWING_MASS if scenario.memory.stacked else FOLLOWING_MASS
    _refuse(
        (
            ("policies", at),
            f"{name!r} follows attention mass; the trace has none, or pages were merged: leave it "
            "out",
        )
        for at, name in enumerate(scenario.policies or ())
        if name in following
    )


def _refuse(found: Iterable[tuple[Place, str]]) -> None:
    faults = [
        Fault("scenario", message, place=".".join(map(str, place))) for place, message in found
    ]
    if faults:
        raise InputError(faults)


def _selection(selection: SelectionSettings) -> Found:
    """Settings that are missing for the kind of selection, or that do nothing for it."""
    used = SETTINGS_OF_KIND[selection.kind]
    for name in ("sparsity", "score", "mass_share", "sinks", "window"):
        value = getattr(selection, name)
        if value is not None and name not in used:
            yield ("selection", name), f"does nothing for kind {selection.kind}; leave it out"
        if value is None and name in used and name not in ("score", "sparsity"):
            message = f"is missing, which kind {selection.kind} needs; write a number"
            yield ("selection", name), message


def _policies(scenario: PlacementScenario) -> Found:
    stacked = scenario.memory.stacked
    known = stack_policy_names() if stacked else policy_names()
    others = policy_names() if stacked else stack_policy_names()
    tiers = len(scenario.memory.tiers or "..")
    for at, name in enumerate(scenario.policies or ()):
        if name in known:
            if name == WINDOW_SHARE and tiers > 2:
                yield ("policies", at), f"{name} places two tiers only; leave it out"
        elif name in others:
            kind = "two inclusive tiers" if stacked else "memory.tiers or exclusive tiers"
            wanted = f"write some of {', '.join(known)}"
            yield ("policies", at), f"{name!r} is for {kind} only; {wanted}"
        else:
            yield ("policies", at), f"{name!r} is no policy{suggestion(name, known)}"


def _repeated(scenario: PlacementScenario) -> Found:
    lists: tuple[tuple[Place, Collection[object] | None], ...] = (
        (("policies",), scenario.policies),
        (("selection", "sparsity"), scenario.selection.sparsity),
        (("memory", "hbm_share"), scenario.memory.hbm_share),
    )
    for place, values in lists:
        seen: set[object] = set()
        for at, value in enumerate(values or ()):
            if value in seen:
                yield (*place, at), f"{value!r} is listed above already; remove one of them"
            seen.add(value)


def _seed(scenario: PlacementScenario) -> Found:
    drawing = STACK_DRAWING if scenario.memory.stacked else DRAWING
    if "seed" in scenario.model_fields_set and _none_of(scenario, drawing.__contains__):
        yield ("seed",), "does nothing: none of the policies draws; remove it"


def _search(scenario: PlacementScenario) -> Found:
    if "mip_seconds" not in scenario.model_fields_set:
        return
    if scenario.memory.stacked:
        yield ("mip_seconds",), "is for the rounding of two inclusive tiers; leave it out"
    elif _none_of(scenario, ROUNDING.__eq__):
        message = f"is for {ROUNDING}, which is not among the policies; add it, or remove this"
        yield ("mip_seconds",), message
    elif scenario.mip_seconds * scenario.cases > MOST_SEARCH_S:
        most = int(MOST_SEARCH_S) // scenario.cases
        yield (
            ("mip_seconds",),
            f"{_search_in_words(scenario)}; write at most {most}, or fewer cases",
        )


def _search_in_words(scenario: PlacementScenario) -> str:
    each, cases = scenario.mip_seconds, scenario.cases
    return f"{each:g} s of search in each of {cases:,} cases take {each * cases / 3600:,.1f} h"


def long_search(scenario: PlacementScenario) -> str | None:
    """Say what a search may take that lets its user wait, or None."""
    if scenario.mip_seconds * scenario.cases < _WORTH_SAYING_S:
        return None
    return f"mip_seconds: {_search_in_words(scenario)} where none ends early"


def _drawn(scenario: PlacementScenario) -> Found:
    chosen, drawn = scenario.selection, scenario.generate
    if drawn is None or chosen.kind != "top-share":
        return
    share = 1 - min(chosen.sparsity or (DEFAULT_SPARSITY,))
    if share > drawn.kept + 1e-9:
        message = f"{drawn.kept:g} of the pages are drawn, and {share:g} of them read at least"
        yield ("generate", "kept"), f"{message}; write {share:g} or more, or select fewer"


def _none_of(scenario: PlacementScenario, wanted: Callable[[str], bool]) -> bool:
    """Whether no policy is a wanted one; where none is named, all are run."""
    return scenario.policies is not None and not any(map(wanted, scenario.policies))


def _shape(scenario: PlacementScenario, recorded: PageReads) -> Found:
    written = scenario.model_fields_set
    if scenario.steps is not None and scenario.steps > recorded.steps:
        message = f"{scenario.steps} is more than the {recorded.steps} recorded; remove it"
        yield ("steps",), message
    context = int(recorded.position.max(initial=0)) + 1
    if scenario.page_factor > context:
        message = f"{scenario.page_factor} pages are more than the {context} of a whole context"
        yield ("page_factor",), f"{message}; write at most {context}"
    layers = len(np.unique(recorded.layer))
    if "time_per" in written and layers == 1:
        yield ("time_per",), "does nothing: the trace has one layer; remove it"
    heads = len(np.unique(recorded.kv_head))
    if "merge_heads" in written and heads == 1:
        yield ("merge_heads",), "does nothing: the trace has one KV head a layer; remove it"


def _duplex(scenario: PlacementScenario, reads: PageReads) -> Found:
    memory = scenario.memory
    writes = bool((reads.born >= 0).any())
    if "duplex" in memory.model_fields_set and not memory.stacked and not writes:
        message = "does nothing: no page is written, and an eviction is free where the slow tier"
        yield ("memory", "duplex"), f"{message} keeps a copy; remove it"
