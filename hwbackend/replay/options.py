"""What a replay is asked for, as it stands on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.units import parse_bytes, parse_duration_ns

Mode = Literal["plan", "live"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay.

    Args:
        mode: `plan`: what was decided in simulation; `live`: decide again.
        window_ns: only this much of the trace, from its start; None: all.
        stand_ins: tiers that are replaced: (the scenario's, the machine's).
        repeats: how often a plan is carried out.
        gpu: on the GPUs of this computer.
        verify: whether pages are filled with what tells them apart, and looked at.
        disk: a folder on a local disk, where pages of an NVMe tier lie; None where there is none.
    """

    mode: Mode = "plan"
    window_ns: int | None = None
    stand_ins: tuple[tuple[str, str], ...] = ()
    repeats: int = 1
    gpu: bool = False
    verify: bool = False
    disk: str | None = None


def read_options(
    *,
    mode: str,
    window: str | None,
    stand_ins: Sequence[str],
    repeats: int,
    gpu: bool,
    verify: bool,
    hbm: str | None,
    disk: str | None = None,
) -> ReplayOptions:
    """Read the options of the command line. Raises InputError with every fault."""
    faults: list[Fault] = []
    if mode not in ("plan", "live"):
        faults.append(Fault("--mode", f"{mode!r} is no mode; write plan or live"))
    window_ns = None
    if window is not None:
        try:
            window_ns = parse_duration_ns(window)
            if window_ns == 0:
                faults.append(Fault("--window", "'0s' holds nothing; write it like 60s"))
        except ValueError as error:
            faults.append(Fault("--window", str(error)))
    if hbm is not None:
        try:
            parse_bytes(hbm)
        except ValueError as error:
            faults.append(Fault("--hbm", str(error)))
    pairs = []
    for text in stand_ins:
        tier, equals, other = text.partition("=")
        if not equals or not tier.strip() or not other.strip():
            faults.append(Fault("--stand-in", f"{text!r} names no two tiers; write lpddr=peer"))
        else:
            pairs.append((tier.strip(), other.strip()))
    if verify and not gpu:
        faults.append(Fault("--verify", "looks at pages on a GPU; write --gpu, or remove it"))
    if disk is not None and not gpu:
        faults.append(Fault("--disk", "is for a replay on a GPU; write --gpu, or remove it"))
    if repeats > 1 and mode == "live":
        message = f"{repeats} repeats of a live run decide differently; write --mode plan"
        faults.append(Fault("--repeats", message))
    if faults:
        raise InputError(faults)
    return ReplayOptions(
        mode="live" if mode == "live" else "plan",
        window_ns=window_ns,
        stand_ins=tuple(pairs),
        repeats=repeats,
        gpu=gpu,
        verify=verify,
        disk=disk,
    )


def with_stand_ins(scenario: Scenario, stand_ins: Sequence[tuple[str, str]]) -> Scenario:
    """Let other tiers of the machine stand in for those that a scenario names."""
    names = [tier.tier for tier in scenario.tiers]
    tiers = list(scenario.tiers)
    for tier, other in stand_ins:
        if tier not in names:
            known = ", ".join(names)
            refuse("--stand-in", f"{tier}={other} does nothing: the tiers are {known}; remove it")
        at = names.index(tier)
        if at == 0:
            refuse("--stand-in", f"{tier}={other}: nothing stands in for HBM; remove it")
        if other in names:
            refuse("--stand-in", f"{tier}={other}: {other} is a tier of the run already")
        names[at] = other
        written = tiers[at].model_fields_set
        tiers[at] = tiers[at].model_copy(update={"tier": other})
        tiers[at].model_fields_set.intersection_update(written)
    return scenario.model_copy(update={"tiers": tuple(tiers)})


def shown_tiers(names: Sequence[str], stand_ins: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of tiers as tables show them: a stand-in says for what it stands."""
    stands_for = {other: tier for tier, other in stand_ins}
    return tuple(f"{n} for {stands_for[n]}" if n in stands_for else n for n in names)
