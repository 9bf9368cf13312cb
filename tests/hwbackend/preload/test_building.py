"""The built library: what it needs, what it shows, and what is said where it can't be built."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hwbackend.preload.building import Bench

from vsim.hwbackend.preload import building

ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
linux = pytest.mark.skipif(not ON_LINUX, reason="the library is for Linux on x86-64")


def read_elf(path: Path, *what: str) -> str:
    return subprocess.run(
        ["readelf", "-W", *what, str(path)], capture_output=True, text=True, check=True
    ).stdout


@linux
def test_it_needs_the_c_library_alone(bench: Bench) -> None:
    needed = re.findall(r"NEEDED.*\[(.*)\]", read_elf(bench.library, "-d"))
    assert needed == ["libc.so.6"]
    undefined = re.findall(r" UND (\w+)(@\S+)?", read_elf(bench.library, "--dyn-syms"))
    weak = {"__cxa_finalize", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable",
            "__gmon_start__"}  # fmt: skip
    assert all(version.startswith("@GLIBC_") for name, version in undefined if name not in weak)


@linux
def test_it_shows_what_it_hooks_and_offers_and_nothing_else(bench: Bench) -> None:
    shown = set(re.findall(r"(?:FUNC|OBJECT|NOTYPE) +GLOBAL +DEFAULT +\d+ (\S+)",
                           read_elf(bench.library, "--dyn-syms")))  # fmt: skip
    hooked = set(
        re.findall(r"^    X\((\w+), \"", (building.SOURCES / "driver.h").read_text(), re.M)
    )
    dl = {f"{name}{version}" for name in ("dlsym", "dlvsym")
          for version in ("@GLIBC_2.2.5", "@@GLIBC_2.34")}  # fmt: skip
    own = {"vsim_realloc", "vsim_reserve", "vsim_pool_trim"}
    assert {name for name in shown if not name.startswith("GLIBC_")} == hooked | dl | own
    header = (building.FOLDER / "vsim_preload.h").read_text()
    assert own == set(re.findall(r"^int (\w+)\(", header, re.M))


@linux
def test_bin_true_is_silent_under_it(bench: Bench) -> None:
    for mode in (None, "record", "manage"):
        done = subprocess.run(
            ["/bin/true"], capture_output=True, check=True,
            env={"LD_PRELOAD": str(bench.library), **({"VSIM_PRELOAD_MODE": mode} if mode else {})},
        )  # fmt: skip
        assert done.stdout == done.stderr == b""


@linux
def test_its_versions_are_those_of_the_toolkit_s_header() -> None:
    header = Path("/usr/local/cuda/include/cudaTypedefs.h")
    if not header.exists():
        pytest.skip(f"there is no {header}")
    known = set(re.findall(r"PFN_(cu\w+_v\d+(?:_ptsz)?)\)", header.read_text()))
    rows = re.findall(
        r"^    X\((\w+), \"(\w+)\", (\d+), \w+, (\w+)\)",
        (building.SOURCES / "driver.h").read_text(), re.M,
    )  # fmt: skip
    assert len(rows) == 39
    for symbol, base, since, per_thread in rows:
        assert f"{base}_v{since}{'_ptsz' if per_thread == '1' else ''}" in known, symbol


def test_without_a_compiler_it_says_which_one_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    monkeypatch.setattr(building.sys, "platform", "linux")
    monkeypatch.setattr(building.platform, "machine", lambda: "x86_64")
    with pytest.raises(building.NotBuiltError, match="there is no C compiler `no-such-cc`"):
        building.build_library(tmp_path / "made.so")
    assert list(tmp_path.iterdir()) == []


def test_another_kind_of_machine_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building.platform, "machine", lambda: "aarch64")
    with pytest.raises(building.NotBuiltError, match=r"Linux on x86-64; this is \w+ on aarch64"):
        building.build_library(tmp_path / "made.so")


@linux
def test_a_build_that_fails_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "made.so"
    target.write_text("before")
    with pytest.raises(building.NotBuiltError, match="could not build the library"):
        building.build_library(target, ["-include", "no_such_header.h"])
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_the_library_of_other_sources_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    first = building.cached_library()
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-O3"))
    assert building.cached_library() != first
