"""Compile what the tests call, a kind of it in each process: `python -m tests.kernels KIND`.

Two processes of tests that meet the same kernel first would both compile it, and what one compiles
alone it compiles again for each of its callers.
"""

import gc
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import vsim_app
from numba.core.targetconfig import TargetConfig

from vsim.sim.eviction.cache_replay import replay, replay_prefixes
from vsim.sim.eviction.registry import ALGORITHMS

REPOSITORY = Path(__file__).parents[1]
# Small, or the policies take as long as their compilation.
ATTENTION = "generate: {prompt_tokens: 160, steps: 4, heads: 2}\n"
TWO_TIERS = "memory: {hbm_share: 0.25}\n"
THREE_TIERS = """\
memory:
  tiers:
    - {tier: hbm, bandwidth: 4.8TB/s, share: 0.125}
    - {tier: peer, bandwidth: 450GB/s, share: 0.25}
    - {tier: host, bandwidth: 55GB/s}
"""
REQUEST = '{"timestamp": %d, "input_length": 1024, "output_length": 4, "hash_ids": [%d, %d]}\n'


def vsim(*arguments: str) -> None:
    """Run a command for what it compiles."""
    sys.argv = ["vsim", *arguments]
    with redirect_stdout(StringIO()):
        try:
            vsim_app.main()
        except SystemExit as ended:
            if ended.code:
                raise


def engine() -> None:
    """What a run calls, and its bound."""
    vsim("run", str(REPOSITORY / "scenarios" / "quickstart.yaml"))


def placement() -> None:
    """Policies and bounds of placements over two tiers and over three."""
    with TemporaryDirectory() as folder:
        for memory in (TWO_TIERS, THREE_TIERS):
            scenario = Path(folder) / "scenario.yaml"
            scenario.write_text(ATTENTION + memory)
            vsim("bound", str(scenario))


def prefixes() -> None:
    """Policies and bounds of prefix caches."""
    keys = np.array([0, 1, 0], np.int32)
    for policy in ALGORITHMS:
        replay(keys, 2, policy, n_keys=2)
        replay_prefixes(np.array([0, 2, 3]), keys, 2, policy, n_keys=2)
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.jsonl"
        rows = ((1, 2), (3, 4), (1, 2), (3, 4))
        trace.write_text("".join(REQUEST % (1000 * i, *row) for i, row in enumerate(rows)))
        model = ("--model", "llama-3.1-8b")
        vsim("bound", str(trace), "--capacity-blocks", "2,3", *model)
        vsim(
            "bound", str(trace), "--capacity", "hbm=64MiB+host=128MiB", *model, "--machine", "h100"
        )
        vsim("bound", str(trace), "--capacity", "128MiB", "--model", "gpt-oss-20b")


def quicken() -> None:
    """Let options of a compilation hash and compare at once, a twelfth of the time.

    numba hashes them by their names, which every call that it types does anew, from a dictionary
    that it makes of all their values.
    """
    as_they_are: Callable[[TargetConfig, object], bool] = TargetConfig.__eq__
    by_class: dict[type, int] = {}

    def hashed(self: TargetConfig) -> int:
        of = type(self)
        if of not in by_class:
            by_class[of] = hash(tuple(sorted(of.options)))
        return by_class[of]

    def same(self: TargetConfig, other: object) -> bool:
        return self is other or as_they_are(self, other)

    setattr(TargetConfig, "__hash__", hashed)  # noqa: B010  # mypy takes no other way
    setattr(TargetConfig, "__eq__", same)  # noqa: B010


KINDS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {"engine": engine, "placement": placement, "prefixes": prefixes}
)

if __name__ == "__main__":
    quicken()
    gc.disable()  # a compilation makes a million objects, and garbage of few
    KINDS[sys.argv[1]]()
