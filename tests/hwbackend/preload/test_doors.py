"""The doors: what dlsym, dlvsym and cuGetProcAddress hand out, and that all else passes."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.hwbackend.preload.building import NAME, Bench

from vsim.hwbackend.preload.building import SOURCES

HOOKED = re.findall(
    r"^    X\((\w+), \"(\w+)\", (\d+), (\w+), (\w+)\)", (SOURCES / "driver.h").read_text(), re.M
)
WAYS = ("dlsym", "dlvsym", "default", "whole", "next")
DRIVER = "libcuda.so.1"


def ask(
    bench: Bench, *words: str | Path, mode: str | None = "record", **variables: str
) -> dict[str, str]:
    """Where each name leads, by library."""
    program = bench.program("doors", linked=False)
    done = bench.run([program, *words], mode, variables=variables)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("way", WAYS)
def test_every_hooked_symbol_resolves_to_its_wrapper(bench: Bench, way: str) -> None:
    found = ask(bench, way)
    assert len(found) == len(HOOKED) == 39
    assert set(found.values()) == {NAME}


@pytest.mark.parametrize("version", [11030, 11999, 12000, 12080, 13000, 13010])
def test_cu_get_proc_address_gives_the_same_wrapper_at_every_version(
    bench: Bench, version: int
) -> None:
    program = bench.program("doors", linked=False)
    by_name, by_version = (
        {
            line.split()[0]: line.split()[1:]
            for line in bench.run([program, way], "record").stdout.splitlines()
        }
        for way in ("dlsym", str(version))
    )
    assert by_version.keys() == {
        name for name, _, since, until, _ in HOOKED
        if int(since) <= version and (until == "NO_END" or version < int(until))
    }  # fmt: skip
    # Addresses differ between processes, but not those of two functions of one library.
    shift = {int(by_version[name][1], 16) - int(by_name[name][1], 16) for name in by_version}
    assert len(shift) == 1
    assert {library for library, _ in by_version.values()} == {NAME}


def test_old_versions_of_a_function_are_left_alone(bench: Bench) -> None:
    assert "cuMemAlloc_v2" not in ask(bench, "3010")  # that one takes 32-bit sizes


@pytest.mark.parametrize("mode", [None, "record"])
def test_only_exact_names_of_the_driver_are_hooked(bench: Bench, mode: str | None) -> None:
    found = ask(bench, "unlisted", mode=mode)
    assert found == {
        "cuMemAlloc": DRIVER, "cuInit": DRIVER, "cuLaunchKernel": "none"
        if found["cuLaunchKernel"] == "none" else DRIVER, "cublasCreate_v2": "none",
        "cudnnCreate": "none", "cudaMalloc": "none", "malloc": "libc.so.6", "cuMemAlloc_v3": "none",
    }  # fmt: skip


@pytest.mark.parametrize("mode", [None, "record"])
def test_dlerror_says_what_it_would_say_without_the_library(bench: Bench, mode: str | None) -> None:
    done = bench.run([bench.program("doors", linked=False), "errors"], mode)  # type: ignore[arg-type]
    first, second = done.stdout.splitlines()
    assert first.startswith("1 ")
    assert "undefined symbol: cuMemAlloc_v9" in first
    assert second == "1 nothing"


@pytest.mark.parametrize("mode", [None, "record", "manage"])
def test_nulls_and_unknown_names_are_answered_as_without_the_library(
    bench: Bench, mode: str | None
) -> None:
    done = bench.run([bench.program("doors", linked=False), "nulls"], mode)  # type: ignore[arg-type]
    # INVALID_VALUE twice; no function, and a status of 1; found, and under the library the same by
    # both doors (the fake's own dlsym finds a jump to it).
    same = 0 if mode is None else 1
    assert (done.returncode, done.stdout) == (0, f"1 1 0 1 1 0 {same} 1\n"), done.stderr


def test_a_library_that_asks_gets_the_wrapper_with_its_own_handle(bench: Bench) -> None:
    caller = bench.shared("caller", "libcaller", "-ldl")
    assert set(ask(bench, "dlsym", caller).values()) == {NAME}


def test_a_deep_bound_library_reaches_the_driver_past_this_one_and_works(bench: Bench) -> None:
    # RTLD_DEEPBIND gives it the C library's own dlsym: that nothing preloaded can see.
    caller = bench.shared("caller", "libcaller", "-ldl")
    assert set(ask(bench, "dlsym", caller, DEEP="1").values()) == {DRIVER}


def test_the_caller_of_a_forwarding_lookup_is_kept(bench: Bench) -> None:
    caller = bench.shared("caller", "libcaller", "-ldl")
    code = f"import ctypes; print(ctypes.CDLL({str(caller)!r}).forwarded())"
    done = bench.run(["python3", "-S", "-c", code], "record")
    assert done.stdout == "7\n", done.stderr  # it did not find itself, for ever


def test_without_a_driver_there_are_no_functions_of_it(bench: Bench) -> None:
    code = "import ctypes; print(hasattr(ctypes.CDLL(None), 'cuMemAlloc_v2'))"
    done = bench.run(["python3", "-S", "-c", code], "record")
    assert done.stdout == "False\n", done.stderr


def test_static_cudart_asks_through_the_library(bench: Bench) -> None:
    static = Path("/usr/local/cuda/lib64/libcudart_static.a")
    if not static.exists():
        pytest.skip(f"there is no {static}")
    source = bench.folder / "static.c"
    source.write_text(
        "int cudaMalloc(void **at, unsigned long bytes);\n"
        "int main(void) { void *at; return cudaMalloc(&at, 1000); }\n"
    )
    program = bench.folder / "static"
    subprocess.run(
        ["cc", "-o", str(program), str(source), str(static), "-ldl", "-lpthread", "-lrt"],
        check=True,
    )
    done = bench.run([program], "manage", variables={"LD_DEBUG": "bindings"})
    assert (
        f"binding file {program} [0] to {bench.library} [0]: normal symbol `dlsym'" in done.stderr
    )
    assert done.returncode == bench.run([program], None).returncode  # the fake lacks much of CUDA


@pytest.mark.parametrize("way", ["BY_HANDLE", "BY_NEXT"])
@pytest.mark.parametrize("mode", ["record", "manage"])
@pytest.mark.parametrize("first", [True, False])
def test_it_works_with_another_preloaded_library_in_both_orders(
    bench: Bench, way: str, mode: str, first: bool
) -> None:
    other = bench.shared("other", f"libother_{way}", f"-D{way}", "-ldl")
    order = {"after" if first else "before": [other]}
    for program in (
        [bench.program("processes"), "before"],
        [bench.program("managing"), "pointers_never_seen_are_the_driver_s"],
    ):
        if mode == "record" and "pointers" in str(program[1]):
            continue
        done = bench.run(program, mode, variables={"TELL": "1"}, **order)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stderr
        told = re.findall(r"other: (\d+)", done.stdout)
        assert told
        # Whoever is first sees the program's calls; a recording passes them on to the next.
        if not first or mode == "record":
            assert all(int(count) > 0 for count in told)
