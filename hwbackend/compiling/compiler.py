"""`compiled`: CUDA C++ to a cubin by NVRTC, kept in memory and in the user's cache.

A cubin depends on the source, the headers it includes from its own folder, the defines, the
architecture and NVRTC's version: a hash of all of them names its file.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final

from vsim.hwbackend.compiling.cubin import Cubin, Resources, resources_in
from vsim.traces.faults import Fault, InputError

ARCHITECTURES: Final = ("sm_80", "sm_90a", "sm_100")
_INCLUDE: Final = re.compile(rb'^\s*#include "([\w./]+)"', re.MULTILINE)


class CompileError(RuntimeError):
    """NVRTC refused a source; carries its log."""


class NoCompilerError(InputError):
    """NVRTC is not installed here, or makes nothing that runs on this GPU."""

    def __init__(self, found: str) -> None:
        super().__init__([Fault("GPU", found)])


def compiled(
    source: str | Path, arch: str = "sm_90a", defines: Mapping[str, int | str] | None = None
) -> Cubin:
    """Compile `source` for `arch`; the same arguments give the same cubin without compiling again.

    Raises CompileError with NVRTC's log, and NoCompilerError where NVRTC is missing.
    """
    given = tuple(sorted((name, str(value)) for name, value in (defines or {}).items()))
    return _compiled(Path(source).resolve(), arch, given)


def architecture(capability: tuple[int, int]) -> str:
    """Return the architecture to compile for on a device of this compute capability."""
    major, minor = capability
    if major == 8:
        return "sm_80"  # its code runs on every 8.x
    if (major, minor) == (9, 0):
        return "sm_90a"
    if major == 10:
        return "sm_100"
    raise NoCompilerError(
        f"no kernels for compute capability {major}.{minor}: they are built for 8.x, 9.0 and 10.x"
    )


@cache
def _compiled(source: Path, arch: str, defines: tuple[tuple[str, str], ...]) -> Cubin:
    texts = _sources(source)
    nvrtc = _nvrtc()
    _, *version = nvrtc.nvrtcVersion()
    digest = hashlib.sha256(repr((arch, defines, version)).encode())
    for name in sorted(texts):
        digest.update(b"%b %d\n" % (name.encode(), len(texts[name])) + texts[name])
    kept = _cache_folder() / f"{source.stem}.{arch}.{digest.hexdigest()[:24]}"
    return _kept(kept, arch) or _compile(nvrtc, source.name, texts, arch, defines, kept)


def _sources(source: Path) -> dict[str, bytes]:
    """Return a source and the headers that it includes from its folder, by name."""
    found: dict[str, bytes] = {}
    wanted = [source.name]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = (source.parent / name).read_bytes()
            wanted += [match.decode() for match in _INCLUDE.findall(found[name])]
    return found


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise NoCompilerError(
            f"NVRTC, which compiles the kernels, is missing here ({error}): "
            "pip install 'vsim[gpu]' brings it"
        ) from error
    return nvrtc


def _compile(
    nvrtc: Any,
    name: str,
    texts: Mapping[str, bytes],
    arch: str,
    defines: tuple[tuple[str, str], ...],
    kept: Path,
) -> Cubin:
    headers = [header for header in texts if header != name]
    options = [
        f"--gpu-architecture={arch}".encode(),
        b"--std=c++17",
        b"--ptxas-options=-v",
        *(f"-D{key}={value}".encode() for key, value in defines),
    ]
    code, program = nvrtc.nvrtcCreateProgram(
        texts[name],
        name.encode(),
        len(headers),
        [texts[header] for header in headers],
        [header.encode() for header in headers],
    )
    _check(nvrtc, code, "nvrtcCreateProgram")
    try:
        (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(nvrtc, program, "ProgramLog").decode(errors="replace").strip("\0 \n")
        if int(code):
            raise CompileError(f"{name} for {arch} {dict(defines)}:\n{log}")
        cubin = Cubin(_text(nvrtc, program, "CUBIN"), arch, resources_in(log))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    if not cubin.kernels:
        raise CompileError(f"{name} for {arch}: ptxas's log names no kernel:\n{log}")
    _keep(kept, cubin)
    return cubin


def _check(nvrtc: Any, code: Any, call: str) -> None:
    if int(code):
        raise CompileError(f"{call}: {nvrtc.nvrtcGetErrorString(code)[1].decode()}")


def _text(nvrtc: Any, program: Any, what: str) -> bytes:
    """Read the log or the cubin of a compiled program."""
    code, size = getattr(nvrtc, f"nvrtcGet{what}Size")(program)
    _check(nvrtc, code, f"nvrtcGet{what}Size")
    text: bytes = b" " * size
    (code,) = getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    _check(nvrtc, code, f"nvrtcGet{what}")
    return text


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vsim" / "cubins"


def _kept(path: Path, arch: str) -> Cubin | None:
    """Read a cubin kept earlier; a file that is missing or cut off counts as none."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        said = json.loads(head)
        if said["bytes"] != len(code):
            return None
        return Cubin(code, arch, {name: Resources(**of) for name, of in said["kernels"].items()})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, cubin: Cubin) -> None:
    """Write a cubin under a temporary name and rename it; go on where the cache is read-only."""
    kernels = {name: asdict(of) for name, of in cubin.kernels.items()}
    head = json.dumps({"bytes": len(cubin.code), "kernels": kernels}).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + cubin.code)
        os.replace(name, path)
    except OSError:
        return
