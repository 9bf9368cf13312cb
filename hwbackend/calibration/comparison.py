"""A calibration held against what was there: its tables against published ones, its scalars too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import vsim.sim.machine
from vsim.hwbackend.calibration.fit import Fitted
from vsim.hwbackend.calibration.machine_file import base_of, scalars
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.kernel_tables import Curves, kernel_tables
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.timing.constant_kernels import constant_kernels
from vsim.sim.timing.experts import ExpertShape, experts_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import Kernels, kernels_of
from vsim.sim.timing.prefill_attention import causal_pairs
from vsim.sim.timing.table_kernels import TableKernels
from vsim.traces.gpu_samples import GpuSamples


def comparison(
    fitted: Fitted, text: str, found: list[Curves], samples: GpuSamples
) -> Iterator[str]:
    """Lines that say how a calibration differs from the catalogue's machine and its tables.

    Args:
        fitted: what was measured.
        text: the machine file made of it.
        found: its kernel tables.
        samples: what all was made of.
    """
    base = base_of(fitted)
    yield from _against_scalars(base, text)
    yield from _forms(fitted)
    machine = load_machine(base)
    stacks: list[Stack | None] = [each.stack for each in machine.kernels] or [None]
    for stack in stacks:
        kernels = kernels_of(machine, stack)
        yield ""
        yield f"{'against ' + kernels.source:<70}{'measured':>12}{'published':>12}{'ratio':>8}"
        for each in found:
            yield from _against_table(kernels, each)
    own = kernel_tables("samples", {"device": "this GPU", "versions": "vsim"}, found)
    made = parse_yaml(text, "machine", Machine)
    yield from _chunks(TableKernels(own, constant_kernels(made)), samples)


def _against_scalars(base: str, text: str) -> Iterator[str]:
    folder = Path(vsim.sim.machine.__file__).parent / "catalogue"
    before = dict(scalars(yaml.safe_load((folder / f"{base}.yaml").read_text(encoding="utf-8"))))
    yield f"{'against the catalogue’s ' + base:<44}{'measured':>16}{'there':>16}"
    for path, value in scalars(yaml.safe_load(text)):
        if before.get(path) != value:
            yield f"{path:<44}{_shown(value):>16}{_shown(before.get(path, '–')):>16}"


def _shown(value: Any) -> str:
    return "infinite" if value is None else str(value)


def _forms(fitted: Fitted) -> Iterator[str]:
    if not fitted.attends:
        return
    yield ""
    yield f"{'attend over two tiers, shares left out':<44}{'rms':>8}{'worst':>8}{'numbers':>9}"
    for score in fitted.attends:
        chosen = " (chosen)" if score is fitted.attends[0] else ""
        yield f"{score.form + chosen:<44}{score.rms:>8.1%}{score.worst:>8.1%}{score.numbers:>9}"
        for place, form in score.fitted.items():
            yield (
                f"  {place}: {form.bytes_per_s / 1e9:.1f} GB/s, waits {form.slow_waits:.3f},"
                f" hbm_waits {form.hbm_waits:.3f}, exponent {form.exponent:.3g}"
            )


def _against_table(kernels: Kernels, each: Curves) -> Iterator[str]:
    """A line a point, and one that sums a kernel's points up."""
    ratios = []
    for row, shape in enumerate(each.shapes.tolist()):
        for a, b in np.argwhere(~np.isnan(each.log_ns[row])):
            first, second = float(each.first[a]), float(each.second[b])
            measured = float(np.exp(each.log_ns[row, a, b]))
            there = _published_ns(kernels, each.kernel, shape, first, second)
            if there is None:
                continue
            ratios.append(measured / there)
            point = f"{each.kernel} {_shape(shape)} {first:,.0f}"
            point += f" × {second:,.0f}" if second else ""
            yield f"{point:<70}{measured / 1e3:>10,.1f}us{there / 1e3:>10,.1f}us{ratios[-1]:>8.2f}"
    if ratios:
        low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95]).tolist()
        yield (
            f"{each.kernel}: {len(ratios)} points, measured over published {middle:.2f} in the"
            f" median, 5 to 95 % {low:.2f} to {high:.2f}"
        )


def _published_ns(
    kernels: Kernels, kernel: str, shape: list[int], first: float, second: float
) -> float | None:
    if kernel == "products":
        return float(kernels.product_ns("bf16", first, *shape))
    if kernel == "decode_attention":
        return float(kernels.decode_attention_ns("bf16", first, second, HeadShape(*shape)))
    if kernel == "prefill_attention":
        pairs = first * causal_pairs(second)
        asked = ("bf16", first * second, pairs, HeadShape(*shape))
        return float(kernels.prefill_attention_ns(*asked))
    if kernel == "experts":
        # a calibration spreads tokens evenly
        if isinstance(kernels, TableKernels) and kernels.tables.has("experts"):
            gpu = kernels.tables, kernels.peaks
            return float(experts_ns(*gpu, "bf16", first, ExpertShape(*shape), "balanced"))
        return float(kernels.experts_ns("bf16", first, ExpertShape(*shape)))
    if kernel == "all_reduce":
        return float(kernels.collective_ns("all_reduce", shape[0], first))
    return None


def _chunks(kernels: Kernels, samples: GpuSamples) -> Iterator[str]:
    """Chunks behind prefixes, which tables do not hold: as measured, and by the new tables."""
    rows = [row for row in samples.of("prefill_attention") if row.point["prefix"]]
    if not rows:
        return
    yield ""
    yield f"{'chunks behind prefixes':<70}{'measured':>12}{'predicted':>12}{'ratio':>8}"
    for row in rows:
        at = row.point
        pairs = at["tokens"] * at["prefix"] + float(causal_pairs(at["tokens"]))
        shape = HeadShape(at["heads"], at["kv_heads"], at["head_dim"])
        there = float(kernels.prefill_attention_ns("bf16", at["tokens"], pairs, shape)) / 1e3
        name = f"{_shape(list(shape))} {at['tokens']:,} behind {at['prefix']:,}"
        yield f"{name:<70}{row.median:>10,.1f}us{there:>10,.1f}us{row.median / there:>8.2f}"


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape[:3] if len(shape) == 4 and not shape[3] else shape))
