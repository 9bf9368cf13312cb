"""The order of the tests: so that two processes compile nothing twice, and end together.

`make test` runs them with `--dist worksteal`: each process begins with an equal share of the list,
and one that is done takes the latter half of what another has left. So the first share begins with
what compiles the engine, and goes on with what needs the placement policies too; by then the second
share has compiled those. Both end with many short tests that compile nothing: whatever is left of
them is easily taken over. The order changes no result, and with one process it is an order like
any other.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.warm.running import Warm, warm_process

TESTS = Path(__file__).parent
ALL = bool(os.environ.get("VSIM_ALL_SEEDS"))
# Where a test does not say how many examples it draws; `tests.seeds` has those that do. A part of
# them is the same part each time, so that what fails is what was changed; all are drawn anew. How
# long it takes says how busy the machine is.
settings.register_profile(
    "drawn", max_examples=100 if ALL else 20, derandomize=not ALL, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("drawn")
# From first to last; a test goes where the longest of these names fits that its path begins with.
ENGINE = (
    "sim/engine", "sim/eviction", "sim/prefixes", "sim/test_feasibility.py",
    "sim/test_simulation.py",
    "sim/results", "scenarios/test_settings.py", "sim/machine/test_fields_act.py",
    "sim/model/test_fields_act.py",
)  # fmt: skip
ALL_KERNELS = (
    "fuzz", "scenarios", "bad_input/test_outputs.py", "test_documentation.py", "test_ending.py",
    "test_commands.py", "public_traces", "hwbackend/replay",
)  # fmt: skip
PLACEMENT = (
    "sim/placement", "sim/bounds", "sim/attention_run", "bad_input/test_placement_scenarios.py",
    "bad_input/test_attention_runs.py",
)  # fmt: skip
KINDS = (ENGINE, ALL_KERNELS, PLACEMENT)
PLAIN = len(KINDS)
"""The kind of all others: they compile nothing, or next to nothing."""


def pytest_sessionstart() -> None:
    """Let signals end what tests start: a process in a shell's background ignores some of them,
    and so would all that it starts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            by_default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, by_default)


def kind_of(path: str) -> int:
    """Which of KINDS a test is of, by its path under `tests/`."""
    fitting = [
        (len(name), kind) for kind, names in enumerate(KINDS) for name in names
        if path == name or path.startswith(f"{name}/")
    ]  # fmt: skip
    return max(fitting, default=(0, PLAIN))[1]


def in_two_shares(kinds: list[int]) -> list[int]:
    """Order the numbers of tests: those of the first two kinds, as many plain ones as fill up that
    half, placement, and the rest."""
    of_kind = [[i for i, kind in enumerate(kinds) if kind == wanted] for wanted in range(PLAIN + 1)]
    engine, everything, placement, plain = of_kind
    missing = max(0, len(kinds) // 2 - len(engine) - len(everything))
    return [*engine, *everything, *plain[:missing], *placement, *plain[missing:]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all tests in order, the same in every process."""
    kinds = [kind_of(item.path.relative_to(TESTS).as_posix()) for item in items]
    items[:] = [items[i] for i in in_two_shares(kinds)]


def pytest_collection_finish() -> None:
    """Look for garbage rarely, and never again among the modules and tests that are there now.

    There are a million objects of them, and going through these took a tenth of the tests' time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A process that forks for each call of `vsim`; started by the first test that asks for it."""
    with tempfile.TemporaryDirectory(prefix="vsim-") as folder, warm_process(Path(folder)) as found:
        yield found
