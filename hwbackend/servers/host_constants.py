"""The host's times in vLLM's profile that more than a table of `host_times` is needed for.

    python -m vsim.hwbackend.servers.host_constants FOLDER

All but one are of prompts alone, on servers that are idle otherwise: what a client sees beside the
engine, launches by workers, launches of experts without graphs, and how much slower one machine's
host is than another's. What a request costs that comes in with a step beside others is of steps
behind preemptions, where vLLM offloads and dozens come back at once: of the one run that preempts
in a repeat and not in the other, where no prediction does.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from vsim.hwbackend.servers.host_times import LENGTHS, read_steps
from vsim.traces.server_runs import Run, read_run

SHORT: Final = 1024
"""Tokens of prompts for which the host is slower than the GPU, in most cases."""
PROMPT_TOKEN_NS: Final = 250.0
JOINS: Final = "8b_offload_growing_16"
ALONE: Final = ("8b_room_alone", "8b_room_alone_middle", "8b_fp8_alone", "moe_alone")
WORKERS: Final = "8b_tp2_alone"
GROWING: Final = ("8b_short_growing_16", "8b_short_growing_28", "8b_short_growing_40")
STORING: Final = ("8b_offload_growing_16", "8b_offload_growing_40", "8b_offload_short_growing_16",
                  "8b_offload_short_growing_40")  # fmt: skip
SHORTER: Final = 700
"""Tokens of prompts whose launch is over when the GPU has them."""
EXPERTS: Final = "moe_alone"


def _columns(run: Run, *names: str) -> list[Any]:
    return [run.repeats[0].column(name).to_numpy() for name in names]


def client_ms(runs: Mapping[str, Run]) -> tuple[float, float, float]:
    """Return medians over prompts alone, ms: from sending to the engine, without what grows with
    the prompt; from the engine to the client of a first token, and of a last one."""
    names = ("prompt_tokens", "sent_ns", "queued_ns", "engine_first_ns", "first_token_ns",
             "engine_last_ns", "last_token_ns")  # fmt: skip
    found: list[list[Any]] = [[], [], []]
    for run in runs.values():
        prompt, sent, queued, first, seen_first, last, seen_last = _columns(run, *names)
        short = prompt <= SHORT
        found[0].append((queued - sent - PROMPT_TOKEN_NS * prompt)[short])
        found[1].append(seen_first - first)
        found[2].append(seen_last - last)
    arrival, first, last = (float(np.median(np.concatenate(each))) / 1e6 for each in found)
    return arrival, first, last


def alone_mean_ms(run: Run) -> dict[int, float]:
    """Return, by length, the mean time from being taken in to the first token in the engine, ms."""
    prompt, queued, first = _columns(run, "prompt_tokens", "queued_ns", "engine_first_ns")
    return {int(each): float((first - queued)[prompt == each].mean()) / 1e6 for each in LENGTHS
            if (prompt == each).any()}  # fmt: skip


def slowdown(runs: Mapping[str, Run], others: Mapping[str, Run]) -> float:
    """How many times as long short prompts alone take in all on other machines."""
    here = there = 0.0
    for name in runs.keys() & others.keys():
        ours, theirs = alone_mean_ms(runs[name]), alone_mean_ms(others[name])
        for length in ours.keys() & theirs.keys():
            if length <= SHORT:
                here += ours[length]
                there += theirs[length]
    return there / here


def joins_ms(end_ns: Any, preempted: Any) -> tuple[float, float]:
    """Return what the step behind one that preempts takes, ms: with nobody, and for each victim.

    All victims come back one step later, whose launch it holds. The slope is the median over all
    pairs of such steps (Theil and Sen), since some wait for loads, too.
    """
    gaps = np.diff(end_ns, prepend=end_ns[0]) / 1e6
    behind = np.flatnonzero(preempted[:-1] > 0) + 1
    counts, took = preempted[behind - 1], gaps[behind]
    i, j = np.triu_indices(len(behind), 1)
    apart = counts[i] != counts[j]
    slope = float(np.median((took[j] - took[i])[apart] / (counts[j] - counts[i])[apart]))
    return float(np.median(took - slope * counts)), slope


def decode_launches_ms(steps: Sequence[tuple[Any, ...]]) -> tuple[float, float]:
    """Return what the launch of a step takes that decodes, ms: of one request, and each other.

    It is seen where the GPU waits for it: behind short prompts, with no others and no preemptions
    beside them. The slope is the median over all pairs (Theil and Sen).

    Args:
        steps: of each run, when steps ended, ns; tokens of prompts that ended in them; tokens that
            they generated; and how many they preempted.
    """
    took, counts = [], []
    for end_ns, prompts, generated, preempted in steps:
        gaps, k = np.diff(end_ns) / 1e6, np.arange(1, len(end_ns) - 1)
        quiet = (prompts[k - 1] == 0) & (prompts[k + 1] == 0)
        for beside in (-1, 0, 1):
            quiet &= preempted[k + beside] == 0
        k = k[quiet & (prompts[k] > 0) & (prompts[k] <= SHORTER)]
        took.append(gaps[k - 1])
        counts.append(generated[k].astype(float))
    y, x = np.concatenate(took), np.concatenate(counts)
    i, j = np.triu_indices(len(x), 1)
    apart = np.abs(x[i] - x[j]) > 2
    slope = float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart]))
    return float(np.median(y - slope * (x - 1))), slope


def behind_prompts_ms(run: Run, end_ns: Any, lengths: tuple[int, ...]) -> float:
    """How much longer than the next one the step behind a prompt alone takes, ms: the median."""
    prompt, first = _columns(run, "prompt_tokens", "engine_first_ns")
    at = np.searchsorted(end_ns, first[np.isin(prompt, lengths)] - 1_000)
    return float(np.median(np.diff(end_ns)[at] - np.diff(end_ns)[at + 2])) / 1e6


def told(folder: Path) -> Iterator[str]:
    """Say each constant in a line."""
    runs = {name: read_run(folder / f"{name}.arrow") for name in ALONE}
    others = {name: read_run(folder / f"h100_{name}.arrow") for name in ALONE}
    arrival, first, last = client_ms(runs)
    yield f"to the engine {arrival:.2f} ms; to the client {first:.2f}, a last token {last:.2f} ms"
    yield f"the H100's host takes {slowdown(runs, others):.2f} times as long"
    experts = alone_mean_ms(runs[EXPERTS])
    yield f"experts, 1,024 and 2,048 tokens: {(experts[1024] + experts[2048]) / 2:.1f} ms"
    end_ns, preempted = read_steps(folder / f"{JOINS}.arrow", "end_ns", "preempted")
    least, each = joins_ms(end_ns, preempted)
    yield f"behind preemptions {least:.1f} ms and {each:.2f} ms for each"
    columns = ("end_ns", "finished_prompt_tokens", "generated_tokens", "preempted")
    for what, names in (("behind prompts", GROWING), ("with their stores", STORING)):
        steps = [read_steps(folder / f"{name}.arrow", *columns) for name in names]
        one, other = decode_launches_ms(steps)
        yield f"a decode {what} {one:.1f} ms, and {1e3 * other:.0f} us for each other request"
    run = read_run(folder / f"{WORKERS}.arrow")
    (end_ns,) = read_steps(folder / f"{WORKERS}.arrow", "end_ns")
    later = behind_prompts_ms(run, end_ns, (128, 1024))
    two = np.median(_two_gpus_ms(run))
    yield f"two GPUs: {two:.1f} ms, then {later:.2f} ms later than another step"


def _two_gpus_ms(run: Run) -> Any:
    prompt, queued, first = _columns(run, "prompt_tokens", "queued_ns", "engine_first_ns")
    return ((first - queued) / 1e6)[prompt == min(LENGTHS)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Estimate the host's times from recordings.")
    parser.add_argument("folder", type=Path)
    print("\n".join(told(parser.parse_args().folder)))


if __name__ == "__main__":
    main()
