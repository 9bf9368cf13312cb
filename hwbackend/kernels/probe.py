"""Measure the kernels of a serving step on this machine's GPU.

    python -m vsim.hwbackend.kernels.probe RESULTS.jsonl [--only NAME,NAME] [--until EPOCH_S]

Each row is written when it is measured; a part that fails says so and the next one runs.
"""

import argparse
import datetime
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

import torch

from vsim.hwbackend.kernels.board import Board
from vsim.hwbackend.kernels.rows import Measured

NAMES: Final = ("attention", "sampling", "small", "graph", "product", "clock", "pool")

Part = Callable[[], Iterator[Measured]]


def part_named(name: str) -> Part:
    """Return a part of the probe; what it needs is imported then, and nobody else's needs are."""
    modules = {"graph": "decode", "product": "products", "clock": "clocks"}
    module = modules.get(name, name)
    found: Part = getattr(import_module(f"vsim.hwbackend.kernels.{module}"), f"measure_{module}")
    return found


def version_of(package: str) -> str | None:
    """Return the version of what is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Say what is measured on, and with which versions; vLLM's kernels need it, clocks don't."""
    found = {name: version_of(name) for name in ("vllm", "torch", "triton")}
    return {
        "kind": "machine",
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
        "hardware": Board().machine(),
        "versions": {
            **{name: version for name, version in found.items() if version is not None},
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
        },
    }


def run(out: Path, only: tuple[str, ...], until_s: float) -> int:
    """Measure and write; returns how many parts failed or did not end."""
    failed = 0
    with out.open("a") as file, torch.inference_mode():
        file.write(json.dumps(machine()) + "\n")
        for name in NAMES:
            if name not in only:
                continue
            torch.manual_seed(0)
            started, count = time.monotonic(), 0
            try:
                for row in part_named(name)():
                    file.write(json.dumps({"kind": "row", **asdict(row)}) + "\n")
                    count += 1
                    if time.time() > until_s:
                        raise TimeoutError("out of time")
            except Exception:  # noqa: BLE001  # device time is short: the other parts still count
                failed += 1
                traceback.print_exc(limit=-6)
            torch.cuda.empty_cache()
            file.flush()
            print(f"=== {name}: {count} rows in {time.monotonic() - started:.1f} s", flush=True)
    return failed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure a serving step's kernels.")
    parser.add_argument("results", type=Path, help="JSON lines, appended to")
    parser.add_argument("--only", default=",".join(NAMES), help="these parts, comma-separated")
    parser.add_argument("--until", type=float, default=float("inf"), help="stop after this time")
    options = parser.parse_args()
    sys.exit(1 if run(options.results, tuple(options.only.split(",")), options.until) else 0)


if __name__ == "__main__":
    main()
