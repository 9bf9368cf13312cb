from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.sim.calibration.fake_package import (
    CONTEXTS,
    FLOOR_MS,
    latents_ms,
    time_ms,
    write_package,
)

from vsim.sim.calibration.aiconfigurator import Package
from vsim.sim.calibration.measured_files import MeasuredFiles
from vsim.sim.calibration.measured_latents import latents
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.kernel_tables import Curves


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return Package(write_package(tmp_path_factory.mktemp("fake")) / "systems", "0.12.0")


def read(package: Package, stack: Stack) -> tuple[dict[tuple[str, str], Curves], tuple[str, ...]]:
    files = MeasuredFiles(package.systems / "data" / "h100_sxm", stack)
    found = list(latents(files))
    by_key = {(each.kernel, each.precision): each for each in found}
    assert len(by_key) == len(found)
    return by_key, files.measured(found).left_out


def ms(curves: Curves, shape: list[int], first: int) -> list[float]:
    """Times of a shape at a point of the first axis."""
    row = curves.shapes.tolist().index(shape)
    at = curves.first.tolist().index(first)
    times: list[float] = (np.exp(curves.log_ns[row, at]) / 1e6).tolist()
    return times


def test_a_decode_s_kernel_is_taken_as_it_was_timed(package: Package) -> None:
    found, _ = read(package, "trtllm")
    curves = found["decode_latents", "fp8"]
    assert curves.shapes.tolist() == [[16, 576, 512], [128, 576, 512]]
    assert curves.second.tolist() == list(CONTEXTS)
    timed = [latents_ms(64, context, 1) + 0.001 for context in CONTEXTS]
    assert ms(curves, [128, 576, 512], 64) == pytest.approx(timed)


def test_of_whole_modules_the_growth_is_taken_and_the_other_stacks_least_beginning(
    package: Package,
) -> None:
    found, left_out = read(package, "vllm")
    assert left_out == ()
    for size, precision in ((2, "bf16"), (1, "fp8")):
        # SGLang's kernel begins a microsecond before TensorRT-LLM's, but for fp8, 8 times as slow.
        begins = latents_ms(64, 8, size) + (0.001 if size == 1 else 0.0)
        grown = [
            begins + max(latents_ms(64, context, size) - latents_ms(64, 8, size), 0.0)
            for context in CONTEXTS
        ]
        timed = ms(found["decode_latents", precision], [16, 576, 512], 64)
        assert timed == pytest.approx(grown)


def test_a_cache_that_is_converted_first_and_absorbed_prompts_are_left_out(
    package: Package,
) -> None:
    found, left_out = read(package, "sglang")
    assert set(found) == {("decode_latents", "bf16")}
    assert left_out == (
        "decode_latents in fp8 of 0.5.14: all of the cache is converted first, 7.3 times as slow as"
        " bf16's (20 rows)",
        "prefill_latents of 0.5.14 that were timed in the absorbed form (8 rows)",
    )


def test_a_prompt_s_kernel_attends_to_keys_and_values_of_all_heads(package: Package) -> None:
    found, _ = read(package, "trtllm")
    curves = found["prefill_latents", "bf16"]
    assert curves.shapes.tolist() == [[16, 192, 128], [128, 192, 128]]
    pairs = 64 * 1024 * 1025 / 2
    timed = time_ms(0, 2 * 128 * (192 + 128) * pairs)
    assert ms(curves, [128, 192, 128], 64)[1] == pytest.approx(timed)
    assert ("prefill_latents", "bf16") not in read(package, "vllm")[0]


def test_the_products_that_absorb_are_those_in_bf16(package: Package) -> None:
    found, _ = read(package, "vllm")
    curves = found["latent_products", "bf16"]
    assert curves.shapes.tolist() == [
        [16, 128, 512], [16, 512, 128], [128, 128, 512], [128, 512, 128],
    ]  # fmt: skip
    read_ms = FLOOR_MS + 128 * 128 * 512 * 2 / 1e12 / 0.8 * 1e3
    assert ms(curves, [128, 512, 128], 1) == pytest.approx([read_ms])


def test_one_number_of_heads_stands_for_no_other(tmp_path: Path) -> None:
    systems = write_package(tmp_path) / "systems"
    (path,) = systems.glob("data/h100_sxm/mla/vllm/*/*.parquet")
    table = pq.read_table(path)
    alone = pc.and_(pc.equal(table["kv_cache_dtype"], "fp8"), pc.not_equal(table["num_heads"], 16))
    pq.write_table(table.filter(pc.invert(alone)), path)
    found, left_out = read(Package(systems, "0.12.0"), "vllm")
    assert ("decode_latents", "fp8") not in found
    assert left_out == ("decode_latents in fp8 of one number of heads (20 rows)",)
