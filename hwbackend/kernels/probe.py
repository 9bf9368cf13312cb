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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch

from vsim.hwbackend.kernels.board import Board
from vsim.hwbackend.kernels.rows import Measured

NAMES: Final = ("attention", "sampling", "small", "graph", "product", "clock")

Part = Callable[[], Iterator[Measured]]


def parts() -> Mapping[str, Part]:
    """Return the parts of the probe by name, in the order in which they run."""
    from vsim.hwbackend.kernels.attention import measure_attention
    from vsim.hwbackend.kernels.clocks import measure_clocks
    from vsim.hwbackend.kernels.decode import measure_decode
    from vsim.hwbackend.kernels.products import measure_products
    from vsim.hwbackend.kernels.sampling import measure_sampling
    from vsim.hwbackend.kernels.small import measure_small

    return {
        "attention": measure_attention,
        "sampling": measure_sampling,
        "small": measure_small,
        "graph": measure_decode,
        "product": measure_products,
        "clock": measure_clocks,
    }


def machine() -> dict[str, Any]:
    """Say what is measured on, and with which versions."""
    import triton
    import vllm

    return {
        "kind": "machine",
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
        "hardware": Board().machine(),
        "versions": {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "triton": triton.__version__,
            "python": platform.python_version(),
        },
    }


def run(out: Path, only: tuple[str, ...], until_s: float) -> int:
    """Measure and write; returns how many parts failed or did not end."""
    failed = 0
    with out.open("a") as file, torch.inference_mode():
        file.write(json.dumps(machine()) + "\n")
        for name, part in parts().items():
            if name not in only:
                continue
            torch.manual_seed(0)
            started, count = time.monotonic(), 0
            try:
                for row in part():
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
