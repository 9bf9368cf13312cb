"""Manage mode: the claims of programs/managing.c, on the fake driver with books of its own."""

import resource
import subprocess

import pytest
from tests.hwbackend.preload.building import PROGRAMS, Bench

CLAIMS = [
    line.split("(")[1].split(")")[0]
    for line in (PROGRAMS / "managing.c").read_text().splitlines()
    if line.startswith("    CLAIM(")
]
SPILLS = {
    "a_block_spills_to_host_memory": ("host",), "a_block_spills_to_a_peer": ("peer",),
    "host_blocks_live_on_without_a_current_context": ("host",),
}  # fmt: skip
POOLS = {"the_pool_keeps_no_more_than_its_limit": 16 << 20}
FILES = {"ten_thousand_handles_under_1024_files": 1024}


@pytest.mark.parametrize("claim", CLAIMS)
def test_managed(bench: Bench, claim: str) -> None:
    program = bench.program("managing")
    command = [program, claim]
    if claim in FILES:
        command = ["sh", "-c", f"ulimit -n {FILES[claim]} && exec {program} {claim}"]
    done = bench.run(command, spill=SPILLS.get(claim, ()), pool_bytes=POOLS.get(claim))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    refused = "cudaIpcGetMemHandle is refused" if "ipc" in claim else ""
    assert refused in done.stderr
    assert bool(done.stderr) == bool(refused), done.stderr


def test_no_claim_is_forgotten(bench: Bench) -> None:
    listed = subprocess.run(
        [bench.program("managing")], env=bench.environment(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert listed.stdout.split() == CLAIMS
    assert len(CLAIMS) == 27
    assert {*SPILLS, *POOLS, *FILES} <= set(CLAIMS)


@pytest.mark.parametrize("order", ["peer,host", "host,peer"])
def test_a_block_goes_to_the_nearer_place_first(bench: Bench, order: str) -> None:
    done = bench.run(
        [bench.program("managing"), "a_block_spills_to_a_peer"], spill=tuple(order.split(","))
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VSIM_PRELOAD_MODE", "mange", "VSIM_PRELOAD_MODE is neither record nor manage"),
        ("VSIM_PRELOAD_SPILL", "disk", "VSIM_PRELOAD_SPILL takes peer and host"),
        ("VSIM_PRELOAD_POOL", "2GiB", "VSIM_PRELOAD_POOL is no number of bytes"),
    ],
)
def test_a_wrong_setting_is_said_once_and_calls_only_pass(
    bench: Bench, variable: str, value: str, said: str
) -> None:
    variables = {"LD_PRELOAD": str(bench.library), "VSIM_PRELOAD_MODE": "manage", variable: value}
    done = subprocess.run(
        [bench.program("processes"), "before"], env=bench.environment(**variables),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert all(line.startswith(f"vsim preload: {said}") for line in done.stderr.splitlines())
    assert 1 <= len(done.stderr.splitlines()) <= 2  # two processes


def test_the_limit_on_files_is_one_that_can_be_set() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1024
