"""Pack vLLM and what it needs into parts that can be carried to a machine without registries.

    python -m vsim.hwbackend.servers.archive OUT [--part-mib 25]

What that machine is taken to have stays out: PyTorch 2.11 for CUDA 13, Triton, transformers,
tokenizers, safetensors, numpy, numba, protobuf, grpcio, pillow, opencv, tiktoken, uvloop, ninja and
NVIDIA's NVML for Python. So do those parts of vLLM that a Hopper GPU does not use for the models
recorded here. There, `cat OUT/part.* | tar xJ` gives two folders for PYTHONPATH:
`vllm_site` and `site`.
"""

import argparse
import fnmatch
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vsim.hwbackend.servers.needs import NEEDS

VLLM: Final = "0.25.1"
PYTHON: Final = "3.12"
# FlashAttention 2 and the kernels of other GPUs and models; the web pages of the HTTP server.
UNUSED: Final = (
    "vllm/vllm_flash_attn/_vllm_fa2*",
    "vllm/vllm-rs",
    "vllm/third_party/fmha_sm100/*",
    "vllm/third_party/deep_gemm/*",
    "vllm/_flashmla*",
    "vllm/_qutlass*",
    "vllm/entrypoints/serve/instrumentator/static/*",
)
UNUSED_NEEDS: Final = ("mistral_common/data/*", "*.a", "bin/*")
GLIBC: Final = (1, 5, 12, 17, 24, 27, 28, 31, 34, 35, 38, 39)  # pip matches 2.N exactly


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


def _platform() -> list[str]:
    names = [f"manylinux_2_{n}_x86_64" for n in GLIBC] + ["manylinux2014_x86_64"]
    options = [f"--platform={name}" for name in names]
    return [*options, f"--python-version={PYTHON}", "--only-binary=:all:", "--no-deps"]


def _unpack_vllm(work: Path) -> Path:
    _pip("download", *_platform(), f"--dest={work}", f"vllm=={VLLM}")
    (wheel,) = work.glob("vllm-*.whl")
    target = work / "vllm_site"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in UNUSED):
                archive.extract(name, target)
    return target


def _install_needs(work: Path) -> Path:
    target = work / "site"
    _pip("install", *_platform(), "--no-compile", f"--target={target}", *NEEDS)
    return target


def _files(folder: Path, unused: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(fnmatch.fnmatch(name, pattern) for pattern in unused):
            yield path


def pack(out: Path, part_bytes: int) -> list[Path]:
    """Write the parts into `out` and return them in order; takes minutes of compression.

    Args:
        out: the folder for `part.00`, `part.01`, … and their `sha256`; made anew.
        part_bytes: the largest part.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folders = ((_unpack_vllm(work), ()), (_install_needs(work), UNUSED_NEEDS))
        archive = work / "archive.tar.xz"
        with tarfile.open(archive, "w:xz", preset=6) as tar:
            for folder, unused in folders:
                for path in _files(folder, unused):
                    if path.suffix == ".so" and shutil.which("strip"):
                        subprocess.run(["strip", "--strip-unneeded", path], check=True)
                    tar.add(path, path.relative_to(work).as_posix())
        parts: list[Path] = []
        with archive.open("rb") as source:
            while piece := source.read(part_bytes):
                part = out / f"part.{len(parts):02d}"
                part.write_bytes(piece)
                parts.append(part)
    lines = (f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts)
    (out / "sha256").write_text("".join(lines))
    return parts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Pack vLLM for a machine without registries.")
    parser.add_argument("out", type=Path, help="folder for the parts; replaced")
    parser.add_argument("--part-mib", type=int, default=25, help="largest part, MiB")
    options = parser.parse_args()
    parts = pack(options.out, options.part_mib << 20)
    total = sum(part.stat().st_size for part in parts)
    print(f"{len(parts)} parts, {total / 2**20:.1f} MiB in {options.out}")


if __name__ == "__main__":
    main()
