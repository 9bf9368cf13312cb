"""Threads at random under sanitizers: contents, books and races.

VSIM_STRESS_ROUNDS=100000 runs them for longer.
"""

import os
import subprocess
from pathlib import Path

import pytest
from tests.hwbackend.preload.building import Bench

ROUNDS = int(os.environ.get("VSIM_STRESS_ROUNDS", "10000"))
SANITIZERS = {
    "thread": ("-fsanitize=thread", {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"}),
    "address": ("-fsanitize=address", {"ASAN_OPTIONS": "detect_leaks=0:exitcode=66"}),
}


CASES = {
    # mode, where blocks may spill, rounds of each thread, MiB that the device has
    "managed": ("manage", (), ROUNDS, ()),
    "short of memory": ("manage", ("host",), ROUNDS // 5, ("8",)),
    "recorded": ("record", (), ROUNDS // 5, ()),
}


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("case", CASES)
def test_eight_threads_at_random_keep_their_contents(
    tmp_path_factory: pytest.TempPathFactory, sanitizer: str, case: str, tmp_path: Path
) -> None:
    flag, options = SANITIZERS[sanitizer]
    mode, spill, rounds, limit = CASES[case]
    folder = Path(tmp_path_factory.getbasetemp()) / f"stress-{sanitizer}"
    folder.mkdir(exist_ok=True)
    bench = Bench(folder, (flag,))
    found = subprocess.run(
        ["cc", f"-print-file-name=lib{flag[11]}san.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).exists():
        pytest.skip(f"the compiler has no {flag}")
    runtime = Path(found).resolve()  # a sanitizer wants to be first of all
    command = [bench.program("stress"), "8", str(rounds), "1", *limit]
    done = bench.run(
        command, mode, before=[runtime], log=tmp_path, spill=spill,  # type: ignore[arg-type]
        variables=options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:6000]
    assert done.stdout == "done\n"
