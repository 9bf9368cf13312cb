"""How products slow down while a load lasts: an 8B layer's four products, over and over."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from vsim.hwbackend.kernels.board import Board
from vsim.hwbackend.kernels.rows import Measured, of_samples
from vsim.hwbackend.kernels.shapes import PRODUCTS, WEIGHT_STD
from vsim.hwbackend.kernels.timing import captured, replay_us

SECONDS: Final = 3.0
AT_S: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 2.9)
IN_FLIGHT: Final = 4
SLICE_US: Final = 4_000.0  # of a graph: long enough for its events, short beside 0.05 s
GAP_S: Final = 0.020
REST_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Load:
    """The layer's products over `tokens` rows drawn with `std`, for `duty` of the time.

    The rest comes in pieces of GAP_S: idle, or the same products over `between` rows. In fp8
    each row of activations and each of weights has a scale, and nothing is quantised on the way.
    """

    tokens: int
    std: float = 1.0
    duty: float = 1.0
    between: int = 0
    precision: str = "bf16"


LOADS: Final = (
    Load(8192),
    Load(2048),
    Load(512),
    Load(64),
    Load(8192, std=0.02),
    Load(512, std=0.02),
    Load(8192, duty=0.5),
    Load(2048, duty=0.5),
    Load(512, duty=0.5),
    Load(64, duty=0.5),
    Load(8192, duty=0.5, between=64),
    Load(2048, duty=0.5, between=64),
    Load(512, duty=0.5, between=64),
    Load(8192, precision="fp8"),
    Load(2048, precision="fp8"),
    Load(512, precision="fp8"),
    Load(8192, duty=0.5, precision="fp8"),
    Load(8192, duty=0.5, between=64, precision="fp8"),
    Load(2048, duty=0.5, between=64, precision="fp8"),
)
_FP8_MOST: Final = 448.0  # of float8_e4m3fn


def layer_weights() -> dict[str, Any]:
    """Draw one layer's matrices."""
    return {
        name: torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_(0, WEIGHT_STD)
        for name, shape in PRODUCTS.items()
    }


def _quantised(rows: Any) -> tuple[Any, Any]:
    """Return fp8 numbers and the scale of each row, float32 [rows, 1]."""
    scales = rows.float().abs().amax(dim=1, keepdim=True) / _FP8_MOST
    return (rows.float() / scales).to(torch.float8_e4m3fn), scales


def _products(load: Load, tokens: int, weights: dict[str, Any]) -> list[Callable[[], Any]]:
    """The layer's four products over so many rows; the calls hold their operands."""
    calls: list[Callable[[], Any]] = []
    for name, (n, k) in PRODUCTS.items():
        rows = torch.empty(tokens, k, dtype=torch.bfloat16, device="cuda").normal_(0, load.std)
        out = torch.empty(tokens, n, dtype=torch.bfloat16, device="cuda")
        if load.precision == "bf16":
            calls.append(partial(torch.mm, rows, weights[name].t(), out=out))
            continue
        (a, rows_scale), (b, scale) = _quantised(rows), _quantised(weights[name])
        calls.append(
            partial(
                torch._scaled_mm, a, b.t(), scale_a=rows_scale, scale_b=scale.t(),
                out_dtype=torch.bfloat16, out=out,
            )
        )  # fmt: skip
    return calls


def _layer_graph(
    load: Load, tokens: int, weights: dict[str, Any]
) -> tuple[torch.cuda.CUDAGraph, int, Any]:
    """Return a graph of several layers, how many, and the calls, which must outlive it."""
    calls = _products(load, tokens, weights)
    once = replay_us(captured(calls), 3)[0]
    layers = max(1, round(SLICE_US / once))
    return captured(calls * layers), layers, calls


def _run(
    graph: torch.cuda.CUDAGraph, load: Load, other: torch.cuda.CUDAGraph | None
) -> tuple[int, Any, Any]:
    """Replay for SECONDS; return the start in monotonic ns, each replay's end in s, its us."""
    pairs: list[tuple[Any, Any]] = []
    torch.cuda.synchronize()
    begin = torch.cuda.Event(enable_timing=True)
    begin.record()
    begin.synchronize()
    start_ns = time.monotonic_ns()
    busy_since = time.monotonic()
    while time.monotonic_ns() - start_ns < SECONDS * 1e9:
        pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        pair[0].record()
        graph.replay()
        pair[1].record()
        pairs.append(pair)
        if len(pairs) > IN_FLIGHT:
            pairs[-1 - IN_FLIGHT][1].synchronize()
        if load.duty < 1 and time.monotonic() - busy_since >= GAP_S * load.duty / (1 - load.duty):
            pair[1].synchronize()
            gap_until = time.monotonic() + GAP_S
            while other is not None and time.monotonic() < gap_until:
                other.replay()
                torch.cuda.synchronize()
            time.sleep(max(0.0, gap_until - time.monotonic()))
            busy_since = time.monotonic()
    torch.cuda.synchronize()
    ends = np.array([begin.elapsed_time(end) / 1e3 for _, end in pairs])
    took = np.array([start.elapsed_time(end) * 1e3 for start, end in pairs])
    return start_ns, ends, took


def _variant(load: Load) -> str:
    kind = "" if load.precision == "bf16" else f"{load.precision}, "
    if load.duty == 1:
        return f"{kind}busy"
    rest = f"at {load.between} tokens" if load.between else "idle"
    return f"{kind}20 ms {rest} between"


def _near(times_s: Any, at_s: float) -> Any:
    return np.abs(times_s - at_s) <= max(0.0125, 0.08 * at_s)


def _rows(
    load: Load, layers: int, run: tuple[int, Any, Any], board: Sequence[tuple[int, int, float]]
) -> Iterator[Measured]:
    start_ns, ends, took = run
    samples = np.array(board, dtype=float)
    sampled_s = (samples[:, 0] - start_ns) / 1e9
    for at_s in AT_S:
        near = _near(ends, at_s)
        times = took[near if near.any() else [np.argmin(np.abs(ends - at_s))]] / layers
        seen = samples[np.argsort(np.abs(sampled_s - at_s))[:3]]
        yield Measured(
            "clock",
            "layer_products",
            _variant(load),
            of_samples(times.tolist()),
            len(times),
            tokens=load.tokens,
            std=load.std,
            at_s=at_s,
            duty=load.duty,
            sm_mhz=float(np.mean(seen[:, 1])),
            watts=float(np.mean(seen[:, 2])),
        )


def measure_clocks() -> Iterator[Measured]:
    """Run all loads, each after a rest."""
    weights = layer_weights()
    for load in LOADS:
        graph, layers, _operands = _layer_graph(load, load.tokens, weights)
        other, _, _others = _layer_graph(load, load.between or 64, weights)
        torch.cuda.synchronize()
        time.sleep(REST_S)
        board = Board()
        board.start()
        run = _run(graph, load, other if load.between else None)
        board.stop()
        yield from _rows(load, layers, run, board.samples)
