"""Small kernels of traced steps of real servers take what the model says, and none is forgotten."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vsim.hwbackend.kernels.figures import read_rows
from vsim.sim.fidelity.recording import read_recording
from vsim.sim.fidelity.scenario_for import scenario_for
from vsim.sim.simulation import serving
from vsim.sim.timing.small_kernels import (
    GAP_NS,
    KERNELS_BESIDE_EXPERTS,
    KERNELS_OF_A_LAYER,
)
from vsim.sim.timing.step_curves import StepCurves

RECORDED = Path(__file__).parents[3] / "traces" / "recorded"
SMALL = ("triton_", "vllm::reshape_and_cache", "flash::prepare_varlen")
OF_EXPERTS = (
    "fused_moe",
    "vllm::act_and_mul",
    "vllm::moe",
    "memcpy32_post",
    "Memset",
    "at::native",
)
SERVERS = {"8b_room": (32, 13), "moe": (48, 11), "windows": (48, 15)}
"""Layers, and kernels of a layer with norms of heads and schedules where there are any."""


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StepCurves]:
    folder = tmp_path_factory.mktemp("servers")
    found = {}
    for name in SERVERS:
        run = read_recording(RECORDED / "servers" / f"{name}_alone.arrow", "recorded")
        found[name] = serving(scenario_for(run, folder), folder).cost.curves
    return found


@pytest.fixture(scope="module")
def traced() -> Sequence[Any]:
    return [
        row for row in read_rows(RECORDED / "kernels" / "h200.arrow") if row["probe"] == "trace"
    ]


@pytest.mark.parametrize("tokens", [1, 16, 160, 512, 1024, 8192])
@pytest.mark.parametrize("server", SERVERS)
def test_small_kernels_take_what_was_traced(
    curves: dict[str, StepCurves], traced: Sequence[Any], server: str, tokens: int
) -> None:
    layers, kernels = SERVERS[server]
    measured = sum(
        row["us"] * row["calls"]
        for row in traced
        if row["variant"] == server and row["tokens"] == tokens and row["calls"] >= layers - 1
        and row["kernel"].startswith(SMALL)
    )  # fmt: skip
    gaps = layers * kernels * GAP_NS / 1e3
    within = 0.08 if tokens == 1 else 0.3  # of a tenth of a step at most
    assert curves[server].small.at(tokens) / 1e3 == pytest.approx(measured + gaps, rel=within)


@pytest.mark.parametrize("server", SERVERS)
def test_a_step_has_as_many_kernels_as_are_counted(traced: Sequence[Any], server: str) -> None:
    layers, kernels = SERVERS[server]
    of_layers = [
        row for row in traced
        if row["variant"] == server and row["tokens"] == 1 and row["decodes"] == 1
        and row["calls"] >= layers - 1 and not row["kernel"].startswith(("gap", "step"))
    ]  # fmt: skip
    beside = [row for row in of_layers if not row["kernel"].startswith(OF_EXPERTS)]
    assert round(sum(row["calls"] for row in beside) / layers) == kernels
    counted = KERNELS_BESIDE_EXPERTS + 1 if server == "moe" else KERNELS_OF_A_LAYER
    assert counted + 2 * (server == "windows") == kernels
