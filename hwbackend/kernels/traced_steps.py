"""The kernels of some of a server's steps, out of a trace that `servers.play` took.

Of the table `traced`: of each group that decodes a step after all its prompts are done and before
any sequence ends, and the first of each prompt alone.
A step begins with the kernel that embeds its tokens and ends where the next one begins, so that the
last kernels in it prepare the next.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.servers.tables import tables

STEP_TOKENS: Final = 8192  # of the servers traced
FEW_OUTPUTS: Final = 3  # groups with no more are there for their prompts
NAME_LENGTH: Final = 64
GPU: Final = "DeviceType.CUDA"
COLUMNS: Final = ("start", "duration", "name")
FIRST_KERNEL: Final = "embedding"
WAIT: Final = "cudaEventSynchronize"  # the host waits for the tokens of the step before
GRAPH: Final = "cudaGraphLaunch"
FEW_CALLS: Final = 20  # nothing was launched
IDLE_NS: Final = 50_000_000
MANY_CALLS: Final = 100
MANY_GRAPHS: Final = 20


@dataclass(frozen=True, slots=True)
class Group:
    """Requests of the traced table that came together."""

    at_s: float
    count: int
    prompt: int
    output: int


def groups() -> list[Group]:
    """Return the groups of the traced table in order."""
    found: dict[int, list[Any]] = defaultdict(list)
    for row in tables()["traced"]:
        found[row.arrival_ns or 0].append(row)
    return [
        Group(at / 1e9, len(rows), rows[0].fresh_tokens, rows[0].output_tokens)
        for at, rows in sorted(found.items())
    ]


def _kernels(events: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    on_gpu = np.array([events["places"][place] == GPU for place in events["place"]])
    start, duration, name = (np.array(events[each])[on_gpu] for each in COLUMNS)
    return start, duration, name


def _short(name: str) -> str:
    """Cut a kernel's name, keeping what tells FlashAttention's kernels apart."""
    if "flash::FlashAttnFwdCombine" in name:
        return "flash::FlashAttnFwdCombine"
    if "flash::FlashAttnFwdSm90" in name:
        return "flash::FlashAttnFwdSm90"
    return name.removeprefix("void ")[:NAME_LENGTH]


def step_rows(
    case: str, label: Mapping[str, Any], names: Sequence[str], step: tuple[Any, Any, Any],
    period_ns: int,
) -> Iterator[Measured]:  # fmt: skip
    """Return a step's time, what of it kernels ran, its gaps, and its kernels by name: the mean,
    so that they sum up, since one name may stand for several products."""
    start, duration, name = step
    ends = start + duration
    gaps = np.maximum(start[1:] - np.maximum.accumulate(ends)[:-1], 0) / 1e3
    count = len(start)
    times = {
        "step until the next": [period_ns / 1e3],
        "step, all kernels": [float(duration.sum()) / 1e3],
    }
    for kernel, samples in times.items():
        yield Measured("trace", kernel, case, of_samples(samples), 1, calls=count, **label)
    yield Measured("trace", "gap", case, of_samples(gaps.tolist()), count - 1, calls=count, **label)
    by_name: dict[str, list[float]] = defaultdict(list)
    for number, ns in zip(name.tolist(), duration.tolist(), strict=True):
        by_name[_short(names[number])].append(ns / 1e3)
    for kernel, samples in sorted(by_name.items()):
        calls = len(samples)
        mean = (sum(samples) / calls, min(samples), max(samples))
        yield Measured("trace", kernel, case, mean, calls, calls=calls, **label)


def traced_rows(path: Path) -> Iterator[Measured]:
    """Return the rows of all traces in a file of `servers.play`."""
    with gzip.open(path, "rt") as file:
        for line in map(json.loads, file):
            if line["kind"] == "trace":
                yield from _rows_of(line["case"], line["events"])
                yield from host_rows(line["case"], line["events"])


def _launches(events: Mapping[str, Any]) -> Iterator[tuple[int, float, str, int]]:
    """Return what the host did between two waits: its start in ns, its us, what, its calls."""
    names, gpu = events["names"], events["places"].index(GPU)
    begin: int | None = None
    last = calls = graphs = 0
    columns = (events["start"], events["duration"], events["name"], events["place"])
    for start, duration, number, place in zip(*columns, strict=True):
        if place == gpu:
            continue
        if start - last > IDLE_NS:
            begin = None
        if begin is None:
            begin, calls, graphs = start, 0, 0
        if names[number] != WAIT:
            calls += 1
            graphs += names[number] == GRAPH
        else:
            if calls > FEW_CALLS:
                if graphs > MANY_GRAPHS:
                    what = "host: a graph in pieces, then one"
                elif calls > MANY_CALLS:
                    what = "host: no graph, then one" if graphs else "host: no graph"
                else:
                    what = "host: one graph"
                yield begin, (start - begin) / 1e3, what, calls
            begin, calls, graphs = start + duration, 0, 0
        last = start


def host_rows(case: str, events: Mapping[str, Any]) -> Iterator[Measured]:
    """Return, by group and by what was launched, how long the host took between two waits.

    Tracing makes it longer. A group's first row that is followed by another launch holds both.
    """
    sent = groups()
    found: dict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
    first_ns: int | None = None
    for begin, us, what, calls in _launches(events):
        first_ns = begin if first_ns is None else first_ns
        number = int(np.searchsorted([g.at_s - 0.3 for g in sent], (begin - first_ns) / 1e9)) - 1
        found[number, what].append((us, calls))
    for (number, what), launches in found.items():
        group = sent[number]
        is_decode = group.output > FEW_OUTPUTS
        yield Measured(
            "trace",
            what,
            case,
            of_samples([us for us, _ in launches]),
            len(launches),
            decodes=group.count if is_decode else None,
            prefill=group.prompt,
            calls=round(of_samples([calls for _, calls in launches])[0]),
        )


def _rows_of(case: str, events: Mapping[str, Any]) -> Iterator[Measured]:
    names = events["names"]
    start, duration, name = _kernels(events)
    order = np.argsort(start, kind="stable")
    start, duration, name = start[order], duration[order], name[order]
    first = np.array([FIRST_KERNEL in kernel for kernel in names])[name]
    begins = start[first]
    since_s = (begins - begins[0]) / 1e9
    sent = groups()
    owner = np.searchsorted([group.at_s - 0.3 for group in sent], since_s, "right") - 1
    for number, group in enumerate(sent):
        steps = np.flatnonzero(owner == number)
        is_decode = group.output > FEW_OUTPUTS
        # the first step may hold few of a group's prompts
        step = steps[1 + -(-group.count * group.prompt // STEP_TOKENS) if is_decode else 0]
        inside = (start >= begins[step]) & (start < begins[step + 1])
        context = group.prompt + group.output // 2
        label = (
            {"tokens": group.count, "decodes": group.count, "context": context}
            if is_decode
            else {"tokens": group.prompt, "prefill": group.prompt, "chunks": 1, "prefix": 0}
        )
        found = (start[inside], duration[inside], name[inside])
        yield from step_rows(case, label, names, found, int(begins[step + 1] - begins[step]))
