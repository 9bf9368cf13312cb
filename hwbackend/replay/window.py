"""What of a source lies in the window that is replayed."""

import numpy as np
import pyarrow as pa

from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.plan import Plan
from vsim.traces.requests import Requests


def requests_in_window(requests: Requests, options: ReplayOptions, notes: list[str]) -> Requests:
    """Keep the requests of the window, and note how many these are."""
    if options.window_ns is None or not len(requests):
        return requests
    until = int(requests.arrival_ns[0]) + options.window_ns
    count = int(np.searchsorted(requests.arrival_ns, until))
    if count < len(requests):
        seconds = options.window_ns / 1e9
        notes.append(f"the first {seconds:g} s: {count:,} of {len(requests):,} requests")
    return requests.head(count) if count < len(requests) else requests


def note_window(plan: Plan, table: pa.Table, options: ReplayOptions, notes: list[str]) -> None:
    """Note how many of the steps the window has, where it has not all."""
    if options.window_ns is None:
        return
    steps = len(table.column("step").unique())
    if plan.steps < steps:
        seconds = options.window_ns / 1e9
        notes.append(f"the first {seconds:g} s: {plan.steps:,} of {steps:,} steps")
