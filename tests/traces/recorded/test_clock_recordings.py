"""What a GPU keeps up under its power limit, recorded, is what the catalogue's machines say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.hwbackend.kernels.figures import read_rows
from vsim.hwbackend.kernels.shapes import PRODUCTS
from vsim.sim.machine.loading import load_machine

FOLDER = Path(__file__).parents[3] / "traces" / "recorded" / "kernels" / "clocks"
FLOPS = 2 * sum(n * k for n, k in PRODUCTS.values())  # of a layer, a token


def rates(card: str, variant: str, *, first: bool) -> list[float]:
    """FLOP/s of the products of 8,192 tokens, at first or from 0.1 s on."""
    rows: list[Any] = [
        row for row in read_rows(FOLDER / f"{card}.arrow")
        if row["variant"] == variant and row["tokens"] == 8192 and row["std"] == 1.0
    ]  # fmt: skip
    return [
        FLOPS * row["tokens"] / row["us"] * 1e6
        for row in rows
        if (row["at_s"] < 0.03 if first else row["at_s"] >= 0.099)
    ]


@pytest.mark.parametrize("card", ["h100", "h200"])
def test_fp8_keeps_what_the_catalogue_says(card: str) -> None:
    gpu = load_machine(card).gpu
    sustained, peak = gpu.sustained, gpu.flops.fp8
    assert sustained is not None
    assert sustained.flops_efficiency_fp8 is not None
    assert peak is not None
    kept = np.median(rates(card, "fp8, busy", first=False)) / peak.value
    assert sustained.flops_efficiency_fp8.value == round(kept, 2)
    assert kept < 0.95 * np.median(rates(card, "fp8, busy", first=True)) / peak.value


@pytest.mark.parametrize("card", ["h100", "h200"])
def test_bf16_keeps_within_four_percent_of_what_the_catalogue_says(card: str) -> None:
    """An earlier H200's figure stands for both cards; here are others of their kinds."""
    gpu = load_machine(card).gpu
    assert gpu.sustained is not None
    kept = np.median(rates(card, "busy", first=False)) / gpu.flops.bf16.value
    assert gpu.sustained.flops_efficiency.value == pytest.approx(kept, rel=0.04)


@pytest.mark.parametrize("card", ["h100", "h200"])
def test_a_pause_of_20_ms_gives_fp8_its_rate_back(card: str) -> None:
    busy = np.median(rates(card, "fp8, busy", first=False))
    paused = np.median(rates(card, "fp8, 20 ms idle between", first=False))
    assert paused > 1.05 * busy


def test_products_that_memory_binds_cool_a_gpu_as_much_as_the_catalogue_says() -> None:
    """20 ms of them between 20 ms of others leave so much of what these slow down by without."""
    rows = [row for row in read_rows(FOLDER.parent / "h200.arrow") if row["probe"] == "clock"]

    def slower(tokens: int, variant: str) -> float:
        found = [row for row in rows if row["tokens"] == tokens and row["std"] == 1.0]
        late = [r["us"] for r in found if r["variant"] == variant and r["at_s"] >= 0.099]
        first = min(r["us"] for r in found if r["variant"] == variant)
        return float(np.mean(late)) / first - 1

    between = "20 ms at 64 tokens between"
    left = [slower(tokens, between) / slower(tokens, "busy") for tokens in (512, 2048, 8192)]
    sustained = load_machine("h200").gpu.sustained
    assert sustained is not None
    assert sustained.cooling is not None
    assert sustained.cooling.value == pytest.approx(1 - np.mean(left), abs=0.01)
