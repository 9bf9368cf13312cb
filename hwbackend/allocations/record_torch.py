"""Record what programs ask PyTorch's caching allocator for, with what it took from the driver.

    python -m vsim.hwbackend.allocations.record_torch OUT [PROGRAM:SETTING ...]

Each program of `programs` runs in a process of its own, since the allocator's settings are read
once: recording begins before the first allocation, so that no block is there before it. What is
written is an Arrow file of kind `allocations` a run, with the peaks that PyTorch itself counted
(`torch.cuda.memory_stats`), its version and the settings in the metadata. Needs PyTorch 2.11 with a
GPU, numpy and pyarrow; nothing else of vsim than `vsim.traces`.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vsim.hwbackend.allocations.programs import PROGRAMS, SETTINGS, fraction, runs

MOST_EVENTS: Final = 2_000_000
_STATISTICS: Final = {
    "peak_reserved_bytes": "reserved_bytes.all.peak",
    "peak_allocated_bytes": "allocated_bytes.all.peak",
    "peak_active_bytes": "active_bytes.all.peak",
    "peak_requested_bytes": "requested_bytes.all.peak",
    "reserved_bytes": "reserved_bytes.all.current",
    "segments_allocated": "num_device_alloc",
    "segments_freed": "num_device_free",
    "retries": "num_alloc_retries",
    "out_of_memory": "num_ooms",
}


def main(arguments: list[str]) -> int:
    """Record all runs, or those named; the exit code is 1 where one failed."""
    if len(arguments) == 4 and arguments[0] == "--one":
        _record(arguments[1], arguments[2], Path(arguments[3]))
        return 0
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    wanted = [tuple(name.split(":", 1)) for name in arguments[1:]] or runs()
    failed = 0
    for program, setting in wanted:
        path = out / f"{program}-{setting}.arrow"
        environment = dict(os.environ)
        environment.pop("PYTORCH_ALLOC_CONF", None)
        environment["PYTORCH_CUDA_ALLOC_CONF"] = SETTINGS[setting]
        command = [sys.executable, "-m", "vsim.hwbackend.allocations.record_torch", "--one"]
        ended = subprocess.run(
            [*command, program, setting, str(path)], env=environment, check=False
        )
        failed += ended.returncode != 0
        if ended.returncode:
            print(f"{path.name}: exit code {ended.returncode}", flush=True)
    return int(failed > 0)


def _record(program: str, setting: str, path: Path) -> None:
    import torch

    from vsim.traces.allocations import write_allocations
    from vsim.traces.importers.torch_pools import name_pools
    from vsim.traces.importers.torch_snapshot import allocations_in

    torch.cuda.init()
    torch.cuda.memory._record_memory_history(  # PyTorch has no public call for it
        "all", context=None, stacks="python", max_entries=MOST_EVENTS
    )
    looks = _looks_at_captures(torch)
    PROGRAMS[program](torch)
    statistics = torch.cuda.memory_stats()
    snapshot = torch.cuda.memory._snapshot()
    if looks:
        snapshot["device_traces"][0] = name_pools(
            snapshot["device_traces"][0], [*looks, _look(snapshot)]
        )
    trace = allocations_in(snapshot, path.name, f"PyTorch {torch.__version__}, {program}")
    trace = replace(
        trace,
        licence="Apache-2.0",
        machine=torch.cuda.get_device_name(0),
        facts=facts(torch, program, setting, statistics),
    )
    write_allocations(trace, path, zstd_level=19)
    peak = statistics["reserved_bytes.all.peak"]
    print(f"{path.name}: {len(trace):,} rows, peak reserved {peak:,} bytes; "
          f"{'; '.join(trace.notes)}", flush=True)  # fmt: skip


def _look(snapshot: dict[str, Any]) -> tuple[int, list[Any]]:
    return len(snapshot["device_traces"][0]), snapshot["segments"]


def _looks_at_captures(torch: Any) -> list[tuple[int, list[Any]]]:
    """What segments there are at the end of each capture from now on: they name private pools."""
    looks: list[tuple[int, list[Any]]] = []
    ends = torch.cuda.CUDAGraph.capture_end

    def capture_end(graph: Any) -> None:
        ends(graph)
        looks.append(_look(torch.cuda.memory._snapshot()))

    torch.cuda.CUDAGraph.capture_end = capture_end
    return looks


def facts(torch: Any, program: str, setting: str, statistics: dict[str, int]) -> dict[str, str]:
    """The file's further metadata: settings, versions and what PyTorch counted, in bytes."""
    counted = {name: str(statistics[key]) for name, key in _STATISTICS.items() if key in statistics}
    total = int(torch.cuda.mem_get_info(0)[1])
    allowed = int(fraction(torch) * total) if program == "capped" else 0  # as PyTorch rounds it
    return {
        "program": program,
        "setting": setting,
        "alloc_conf": SETTINGS[setting],
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "device_bytes": str(total),
        "allowed_bytes": str(allowed),
        **counted,
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
