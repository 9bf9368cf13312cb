"""Try the library on this machine's GPU: `python3 -m vsim.hwbackend.preload.trial --out FOLDER`.

It wants nvcc and gcc, and for its parts PyTorch, transformers and CuPy; what is missing is left out
and said. Tables go to standard output, everything to FOLDER/preload-trial.json. It
takes some seven minutes, most of them for `unmodified`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from vsim.hwbackend.preload.building import build_library
from vsim.hwbackend.preload.trial.bench import Bench
from vsim.hwbackend.preload.trial.parts import PARTS


def main() -> int:
    """Run the parts that are asked for; exit code 1 where any found something wrong."""
    parser = argparse.ArgumentParser(description="Try the preload library on a GPU.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program and mode")
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="of unmodified programs those whose name has this word; may be "
                        "given more than once")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=45.0, metavar="S",
                        help="of rounds in each of the repeats of part `turns`")  # fmt: skip
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    given = parser.parse_args()
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    library = build_library(given.out / "libvsim_preload.so")
    bench = Bench(given.out, library, given.repeats, tuple(given.only), given.seconds)
    results: dict[str, object] = {"machine": bench.machine()}
    print(results["machine"], flush=True)
    wrong: list[str] = []
    for part in given.parts:
        begin = time.monotonic()
        print(f"\n== {part}", flush=True)
        try:
            outcome = PARTS[part](bench)
            results[part] = outcome.rows
            wrong += [f"{part}: {fault}" for fault in outcome.faults]
        except (OSError, subprocess.CalledProcessError) as error:  # a tool is missing, or fails
            wrong.append(f"{part}: {error}")
        print(f"({time.monotonic() - begin:.0f} s)", flush=True)
        (given.out / "preload-trial.json").write_text(json.dumps(results, indent=1) + "\n")
    for fault in wrong:
        print(f"WRONG {fault}")
    library.unlink()
    shutil.rmtree(given.out / "built")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
