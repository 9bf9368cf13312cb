"""Make of a recorded repeat the trace of requests that vsim can play.

python -m vsim.hwbackend.servers.requests RUN.arrow OUT.arrow [--repeat 0]
"""

import argparse
from pathlib import Path

from vsim.traces.arrow_io import write_table
from vsim.traces.server_runs import provenance, read_run, requests_of


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Turn a recorded repeat into a request trace.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeat", type=int, default=0)
    options = parser.parse_args()
    run = read_run(options.run)
    write_table(requests_of(run, options.repeat), options.out, "requests", provenance(run))


if __name__ == "__main__":
    main()
