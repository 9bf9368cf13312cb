"""Measure this machine: `python -m vsim.hwbackend.calibration --out FOLDER`.

It writes `samples.arrow` there and prints what was measured. It needs a GPU, numpy, pyarrow and the
CUDA bindings; `vsim calibrate --from samples:FILE` makes a machine of them, there or elsewhere.
"""

import argparse
import sys
import time
from pathlib import Path

from vsim.hwbackend.calibration.measure import FAILED, measure, tell_on_stderr
from vsim.hwbackend.calibration.plan import full_plan, quick_plan, with_disk
from vsim.hwbackend.calibration.shown import shown
from vsim.traces.faults import InputError
from vsim.traces.schema import PROBES


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure this machine's GPU.")
    parser.add_argument("--out", type=Path, required=True, help="folder for samples.arrow")
    parser.add_argument("--quick", action="store_true", help="a few points of each kind")
    parser.add_argument(
        "--only", choices=PROBES, action="append", help="points of a probe; may be repeated"
    )
    parser.add_argument("--disk", type=Path, help="folder on a local disk, measured too")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        plan = quick_plan() if given.quick else full_plan()
        plan = plan if given.disk is None else with_disk(plan)
        samples = measure(plan.only(given.only or PROBES), tell_on_stderr, disk=given.disk)
        samples.write(given.out / "samples.arrow", "vsim calibrate --gpu")
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2
    print("\n".join(shown(samples)))
    print(f"{len(samples.rows)} points in {time.monotonic() - began:.0f} s")
    return 1 if any(FAILED in why for why in samples.left_out) else 0


if __name__ == "__main__":
    sys.exit(main())
