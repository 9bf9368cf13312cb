"""Every kernel becomes machine code here, without a GPU, and takes no more than it may."""

import sys
from pathlib import Path

import pytest

from vsim.hwbackend.attention import decode, prefill
from vsim.hwbackend.attention.decode import DecodeVariant, variant_for
from vsim.hwbackend.attention.layout import PageLayout
from vsim.hwbackend.attention.prefill import prefill_defines
from vsim.hwbackend.compiling.compiler import (
    ARCHITECTURES,
    CompileError,
    NoCompilerError,
    architecture,
    compiled,
)
from vsim.hwbackend.compiling.cubin import Cubin, Resources, resources_in
from vsim.hwbackend.copies import pages
from vsim.hwbackend.probes import memory

Defines = dict[str, int | str]
HOPPER_SHARED = 232_448
# A block's registers must fit 65,536: 2 x 128 threads, 1 x 256 or 2 x 192 of decode's, 2 x 128 or
# 1 x 256 of prefill's. Limits are what the kernels take now and a little; they are fast because
# nothing is in local memory.
DECODE_REGISTERS, PREFILL_REGISTERS, PLAIN_REGISTERS = 192, 232, 48


def shape(group: int, head_dim: int, page_tokens: int = 16) -> tuple[int, PageLayout]:
    return group, PageLayout(page_tokens, 8, head_dim)


SHAPES = [shape(1, 128), shape(4, 128, 48), shape(7, 128, 256), shape(8, 128), shape(3, 64)]


def assert_lean(cubin: Cubin, most_registers: int) -> None:
    assert cubin.kernels
    for name, of in cubin.kernels.items():
        assert of.spill_bytes == 0, f"{name} of {cubin.arch} spills"
        assert of.stack_bytes == 0, f"{name} of {cubin.arch} keeps an array in local memory"
        assert of.registers <= most_registers, f"{name} of {cubin.arch}: {of.registers} registers"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("group", "layout"), SHAPES)
def test_the_decode_kernel_spills_nothing(arch: str, group: int, layout: PageLayout) -> None:
    variant = variant_for(group, layout, HOPPER_SHARED)
    cubin = compiled(decode.SOURCE, arch, variant.defines(group, layout))
    assert_lean(cubin, DECODE_REGISTERS)
    threads = variant.warps * 32 * variant.blocks
    assert cubin.kernels["paged_decode"].registers * threads <= 65_536


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("group", "layout"), SHAPES[1:])
def test_the_prefill_kernel_spills_nothing(arch: str, group: int, layout: PageLayout) -> None:
    assert_lean(compiled(prefill.SOURCE, arch, prefill_defines(group, layout)), PREFILL_REGISTERS)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_plain_kernels_spill_nothing(arch: str) -> None:
    assert_lean(compiled(memory.SOURCE, arch), PLAIN_REGISTERS)
    assert_lean(compiled(pages.SOURCE, arch, pages.DEFINES), PLAIN_REGISTERS)


def test_hosts_that_count_other_arguments_do_not_compile() -> None:
    defines = DecodeVariant().defines(*shape(4, 128))
    with pytest.raises(CompileError, match=r"decode\.py counts other arguments"):
        compiled(decode.SOURCE, "sm_90a", {**defines, "ARGUMENT_BYTES": 8})
    with pytest.raises(CompileError, match=r"decode\.py counts other shared memory"):
        compiled(decode.SOURCE, "sm_90a", {**defines, "SHARED_BYTES": 8})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for sources, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def write(folder: Path, body: str, header: str = "#define ONE 1") -> Path:
    (folder / "small.cuh").write_text(header)
    path = folder / "small.cu"
    path.write_text(f'#include "small.cuh"\nextern "C" __global__ void small(int* a) {{ {body} }}')
    return path


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "vsim" / "cubins").iterdir())


def test_a_cubin_is_kept_and_names_its_kernels(folder: Path) -> None:
    made = compiled(write(folder, "*a = ONE;"), "sm_90a")
    assert made.arch == "sm_90a"
    assert set(made.kernels) == {"small"}
    assert made.code[:4] == b"\x7fELF"
    assert made.code in kept(folder)[0].read_bytes()


def test_another_header_define_or_architecture_is_another_cubin(folder: Path) -> None:
    compiled(write(folder, "*a = ONE;"), "sm_90a")
    compiled(folder / "small.cu", "sm_80")
    compiled(folder / "small.cu", "sm_90a", {"TWO": 2})
    assert len(kept(folder)) == 3
    other = write(folder / "cache", "*a = ONE;", "#define ONE 3")
    assert compiled(other, "sm_90a").code != compiled(folder / "small.cu", "sm_90a").code
    assert len(kept(folder)) == 4


def test_a_kept_file_that_was_cut_off_is_made_again(folder: Path) -> None:
    from vsim.hwbackend.compiling import compiler

    first = compiled(write(folder, "*a = ONE;"), "sm_90a")
    path = kept(folder)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    compiler._compiled.cache_clear()
    assert compiled(folder / "small.cu", "sm_90a") == first
    assert path.read_bytes() == whole


def test_what_is_kept_is_not_compiled_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vsim.hwbackend.compiling import compiler

    first = compiled(write(folder, "*a = ONE;"), "sm_90a")
    compiler._compiled.cache_clear()
    monkeypatch.setattr(compiler, "_compile", None)
    assert compiled(folder / "small.cu", "sm_90a") == first


def test_a_fault_in_a_source_is_shown_with_its_line(folder: Path) -> None:
    with pytest.raises(CompileError, match=r'small\.cu\(2\): error: identifier "nothing"'):
        compiled(write(folder, "*a = nothing;"), "sm_90a")


def test_architectures_follow_from_capabilities() -> None:
    found = [architecture(of) for of in ((8, 0), (8, 9), (9, 0), (10, 0))]
    assert found == ["sm_80", "sm_80", "sm_90a", "sm_100"]
    with pytest.raises(NoCompilerError, match=r"no kernels for compute capability 7\.5"):
        architecture((7, 5))
    with pytest.raises(NoCompilerError, match=r"no kernels for compute capability 12\.0"):
        architecture((12, 0))


def test_a_missing_compiler_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(NoCompilerError) as caught:
        compiled(write(folder, "*a = ONE + 7;"), "sm_90a")
    line = str(caught.value)
    assert line.startswith("GPU: NVRTC, which compiles the kernels, is missing here (")
    assert line.endswith("): pip install 'vsim[gpu]' brings it")
    assert "\n" not in line


def test_resources_are_read_off_ptxas_s_log() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'g' for 'sm_80'
ptxas info    : Function properties for g
ptxas         .     24 bytes stack frame, 16 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
ptxas info    : Compiling entry function 'f' for 'sm_80'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 360 bytes cmem[0]"""
    assert resources_in(log) == {"g": Resources(255, 28, 24, 256), "f": Resources(10, 0, 0, 0)}
