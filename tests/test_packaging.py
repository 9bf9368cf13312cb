"""What is built and installed: the packages, their data, nothing else; and help that is at once."""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
PROJECT: Mapping[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
FOLDERS = ("traces", "sim", "reports", "hwbackend")
SETUPTOOLS: Mapping[str, Any] = PROJECT["tool"]["setuptools"]
HAS_LIBRARY = (sys.platform, platform.machine()) == ("linux", "x86_64") and shutil.which("cc")
SHIPPED_DATA = {".yaml", ".arrow", ".json", ".typed", ".cu", ".cuh", ".c", ".h", ".map"}


def package_folders() -> dict[str, Path]:
    """Every folder of the source that is a package, by the name it installs as."""
    return {
        "vsim." + ".".join(path.parent.relative_to(REPOSITORY).parts): path.parent
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("__init__.py")
    }


def stays_in_the_repository(path: Path) -> bool:
    """Recordings, and under reports every folder that is no package: a report with its data."""
    parts = path.relative_to(REPOSITORY).parts
    is_report = parts[0] == "reports" and path.parent not in package_folders().values()
    return is_report or parts[:2] == ("traces", "recorded")


def shipped_files() -> set[str]:
    """What a wheel has to hold: modules, and the data in package folders and below them."""
    found = {"vsim_app.py"}
    packages = set(package_folders().values())
    for folder in packages:
        for path in folder.rglob("*"):
            relative = path.relative_to(REPOSITORY).as_posix()
            # Data belongs to the nearest package above it.
            nearest = next(parent for parent in path.parents if parent in packages)
            own_module = path.suffix == ".py" and path.parent in packages
            data = path.suffix in SHIPPED_DATA and nearest == folder
            if (own_module or data) and not stays_in_the_repository(path):
                found.add(f"vsim/{relative}")
    return found


def test_the_packages_listed_are_the_package_folders() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())
    for top, folder in SETUPTOOLS["package-dir"].items():
        assert top == f"vsim.{folder}"
        assert (REPOSITORY / folder).is_dir()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel built from that distribution."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc", "recorded")
    for name in (*FOLDERS, "scenarios", "tests", "tools"):
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
    for path in REPOSITORY.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout + done.stderr
    assert "!!" not in shown, "setuptools warns about the configuration"
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_every_module_and_its_data_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in names & shipped_files():
            source = REPOSITORY / name.removeprefix("vsim/")
            assert archive.read(name) == source.read_bytes(), name
        metadata = {Path(n).name for n in archive.namelist() if ".dist-info/" in n}
    library = "vsim/hwbackend/preload/libvsim_preload.so"
    if HAS_LIBRARY:
        assert wheel.name.endswith("py3-none-linux_x86_64.whl")
        assert names == {*shipped_files(), library}
    else:
        assert wheel.name.endswith("py3-none-any.whl")
        assert names == shipped_files()
    assert {"METADATA", "entry_points.txt", "LICENSE"} <= metadata
    assert any(name.endswith("machine/catalogue/h100.yaml") for name in names)
    assert not any("recorded/" in name or name.startswith(("tests", "sim")) for name in names)


def test_the_source_distribution_explains_itself_and_leaves_tests_and_recordings(
    built: Path,
) -> None:
    (archive,) = built.glob("*.tar.gz")
    folder = built / "unpacked"
    shutil.unpack_archive(archive, folder)
    (top,) = folder.iterdir()
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "tools/environment.py",
                 "scenarios/quickstart.yaml"):  # fmt: skip
        assert (top / name).is_file(), name
    assert not (top / "tests").exists()
    assert not (top / "traces" / "recorded").exists()


def test_an_installed_wheel_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys, vsim_app\n"
        "import vsim.sim.machine.loading as machine, vsim.sim.model.loading as model\n"
        "for module in (vsim_app, machine, model):\n"
        f"    assert module.__file__.startswith({str(installed)!r}), module.__file__\n"
        "import vsim.sim.profiles.loading as profiles, vsim.sim.timing.kernels as kernels\n"
        "stacks = {profiles.load_profile(name).kernels for name in profiles.profile_names()}\n"
        "assert {'vllm', 'trtllm', 'vsim'} <= stacks\n"
        "for stack in stacks:\n    kernels.kernels_of(machine.load_machine('h100'), stack)\n"
        "for name in machine.catalogue_names():\n"
        "    for tables in machine.load_machine(name).kernels:\n"
        f"        assert tables.file.startswith({str(installed)!r}), tables\n"
        "        assert open(tables.file, 'rb').read(6) == b'ARROW1', tables\n"
        "for name in model.catalogue_names():\n    model.load_model(name)\n"
        "assert len(machine.catalogue_names()) >= 12 and len(model.catalogue_names()) >= 7\n"
        "sys.argv = ['vsim', 'schema']\n"
        "vsim_app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (REPOSITORY / "scenarios" / "scenario.schema.json").read_text()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(not HAS_LIBRARY, reason="the library is built with a C compiler on Linux")
def test_an_installed_wheel_runs_programs_under_the_library_it_carries(
    installed: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vsim_app", "preload", "run", "--", "sh", "-c", "echo $LD_PRELOAD"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "LD_PRELOAD": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    carried = installed / "vsim" / "hwbackend" / "preload" / "libvsim_preload.so"
    assert done.stdout == f"{carried}\n"
    assert done.stderr == ""


def test_an_installed_wheel_says_where_to_point_its_check(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vsim_app", "check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "recordings are not part of an installed vsim; name a recording" in line


def test_constraints_pin_every_requirement_once_and_name_no_index() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if not line.startswith("#")]
    assert all(separator and pin for _, separator, pin in pins)
    names = [name.lower().replace("_", "-") for name, _, _ in pins]
    assert len(names) == len(set(names))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(each for extra in extras for each in extra),
    ]
    pinned = dict(zip(names, (pin for _, _, pin in pins), strict=True))
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        assert pinned[name] in requirement.specifier, name


def test_only_a_mac_does_without_the_cuda_bindings() -> None:
    (cuda,) = [r for r in PROJECT["project"]["dependencies"] if r.startswith("cuda-python")]
    marker = Requirement(cuda).marker
    assert marker is not None
    assert marker.evaluate({"sys_platform": "linux"})
    assert not marker.evaluate({"sys_platform": "darwin"})


def test_the_version_is_the_projects() -> None:
    assert version("vsim") == PROJECT["project"]["version"]
