"""Gather the runs of `run.sh throughput` into one JSON file.

    python reports/allocation/throughput.py FOLDER OUT.json

FOLDER holds NAME-WAY.json, summaries of `vsim run`; ways are max, exact and paged.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

WAYS: Final = ("max", "exact", "paged")


def main(folder: str, out: str) -> None:
    """Write tokens a second of every run, and how many times those of reservation at maximum."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(folder).glob("*-max.json")):
        name = path.stem.removesuffix("-max")
        runs = {way: json.loads((Path(folder) / f"{name}-{way}.json").read_text()) for way in WAYS}
        base = runs["max"]["throughput"]["output_tokens_per_s"]
        found[name] = {
            way: {
                "output_tokens_per_s": run["throughput"]["output_tokens_per_s"],
                "times_max": run["throughput"]["output_tokens_per_s"] / base,
                "held": run["concurrent_requests"]["mean"],
                "preemptions": run["preemptions"],
            }
            for way, run in runs.items()
        }
    text = json.dumps(found, indent=1) + "\n"
    Path(out).write_text(text)  # repository only: run by hand
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
