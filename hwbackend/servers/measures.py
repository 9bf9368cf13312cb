"""Short forms of what a repeat measured: gaps between tokens, clocks and power, counters."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

ITL_QUANTILES: Final = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
BIN_RATIO: Final = 1.02


def gaps_us(play: Mapping[str, Any]) -> Any:
    """Return all gaps between tokens at the client, microseconds."""
    return np.concatenate([request["times_ns"][1:] for request in play["requests"]]) / 1e3


def gap_summary(gaps: Any) -> dict[str, Any]:
    """Summarise the gaps between tokens: quantiles that occurred, and a histogram.

    Args:
        gaps: all gaps of a repeat, microseconds.

    Returns:
        `quantiles_us` by percent; `bins`, pairs of k and how many gaps lie within
        [1.02^k, 1.02^(k + 1)) microseconds, those under one microsecond in bin 0.
    """
    values = np.percentile(gaps, ITL_QUANTILES, method="nearest")
    bins = np.floor(np.log(np.maximum(gaps, 1.0)) / np.log(BIN_RATIO)).astype(int)
    numbers, counts = np.unique(bins, return_counts=True)
    return {
        "n": len(gaps),
        "mean_us": round(float(np.mean(gaps)), 1),
        "quantiles_us": {
            f"{q:g}": round(float(v)) for q, v in zip(ITL_QUANTILES, values, strict=True)
        },
        "bins": [[int(k), int(n)] for k, n in zip(numbers, counts, strict=True)],
    }


def gpu_summary(play: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise clocks and power while requests ran, and give about one sample a second."""
    gpu, start = play["gpu"], play["start_ns"]
    end = start + max(sum(r["times_ns"]) for r in play["requests"])
    gpus = sorted({sample[1] for sample in gpu["samples"]})
    summary: dict[str, Any] = {"millijoules": gpu["millijoules"], "gpus": []}
    for index in gpus:
        taken = np.array([s for s in gpu["samples"] if s[1] == index and start <= s[0] <= end])
        every = taken[::4]
        summary["gpus"].append(
            {
                "sm_mhz": [int(f(taken[:, 2])) for f in (np.min, np.mean, np.max)],
                "memory_mhz": [int(f(taken[:, 3])) for f in (np.min, np.mean, np.max)],
                "watts": [int(f(taken[:, 4]) // 1000) for f in (np.min, np.mean, np.max)],
                "celsius_max": int(taken[:, 5].max()),
                "throttle_bits": int(np.bitwise_or.reduce(taken[:, 6])),
                "samples": {
                    "ms": [int(t - start) // 1_000_000 for t in every[:, 0]],
                    "sm_mhz": every[:, 2].tolist(),
                    "watts": (every[:, 4] // 1000).tolist(),
                },
            }
        )
    return summary


def statistics_summary(play: Mapping[str, Any]) -> dict[str, Any]:
    """Return vLLM's counters of a repeat; of the transfers' sizes, their quantiles in bytes."""
    statistics = play["statistics"]
    sizes = {
        name: np.percentile(values, (0, 50, 100), method="nearest").tolist()
        for name, values in statistics["lists"].items()
    }
    peaks = {f"{name}_peak": value for name, value in statistics.get("peaks", {}).items()}
    return {"steps": len(statistics["steps"]), **statistics["sums"], **peaks, **sizes}


def expert_balance(experts: Sequence[Mapping[str, Any]], case: str) -> dict[str, Any]:
    """Return, by kind of weights, how often each layer's busiest expert was chosen, mean = 1."""
    return {
        line["drawn"]: {
            "busiest_over_mean": [
                round(max(counts) * len(counts) / sum(counts), 3)
                for counts in line["chosen"].values()
            ],
            "never_chosen": sum(counts.count(0) for counts in line["chosen"].values()),
        }
        for line in experts
        if line["case"] == case
    }
