"""Samples as a machine with known numbers would give them, with a little noise."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from vsim.hwbackend.calibration.fit import Fitted, fit
from vsim.hwbackend.calibration.mixes import AttendForm, Mixes
from vsim.hwbackend.calibration.plan import WHOLE, Plan, full_plan, kv_bytes
from vsim.traces.gpu_samples import GpuSamples, Point, Sampled

GB = 1e9
HBM, WRITE, LINK_IN, LINK_OUT, BOTH = 4600 * GB, 4400 * GB, 55 * GB, 54 * GB, 101 * GB
DISK_READ, DISK_WRITE = 6.5 * GB, 2.5 * GB
PEER_IN, PEER_OUT, PEER_BOTH, WITHIN = 354 * GB, 397 * GB, 700 * GB, 2000 * GB
RATES = {"host-hbm": LINK_IN, "hbm-host": LINK_OUT, "peer-hbm": PEER_IN, "hbm-peer": PEER_OUT,
         "hbm-hbm": WITHIN, "nvme-hbm": DISK_READ, "hbm-nvme": DISK_WRITE}  # fmt: skip
FIRST_US, EACH_US = {"engine": 4.0, "kernel": 7.0}, {"engine": 1.5, "kernel": 0.1}
PAGING = {"host-hbm": 1.07, "hbm-host": 1.08, "peer-hbm": 1.2, "hbm-peer": 0.99}
"""How many times as long pages take beside products as alone."""
DISK_FIRST_US, DISK_EACH_US = 20.0, 130.0
ATTENTION, FLOOR_US = 4000 * GB, 6.0
FORMS = {
    "peer": AttendForm("waiting", 373 * GB, math.inf, 0.02, 0.12),
    "host": AttendForm("waiting", 51 * GB, math.inf, 0.06, 0.09),
}
VMM_US = {"reserve": 0.7, "create": 8.2, "map": 0.6, "set_access": 23.0, "set_access_again": 12.0,
          "unmap": 15.0,
          "release": 11.0, "grow": 29.0, "round": 85.0}  # fmt: skip
CLEARED, CLEARING_FIRST_US, TURN_US = 450 * GB, 300.0, 1060.0
FLOPS = 700e12
SUM_US, SUMMED = 9.0, 150 * GB
WEIGHT = 0.7
HBM_WEIGHT = 15.0
HBM_COSTS = {"peer-hbm": 1.7, "hbm-peer": 1.2, "host-hbm": 5.7, "hbm-host": 2.2}
COPY_WEIGHTS = {"peer-hbm": 1.0, "hbm-peer": 1.3}
"""Of routes whose copies attention over HBM slows down."""
LAUNCH_US = {"kernel": 2.2, "graph kernel": 1.1, "graph": 5.0, "event": 0.8, "round trip": 9.0}
WATTS = {"idle": 78.0, "read": 420.0, "attention": 510.0, "products": 700.0}
FACTS = {
    "date": "2026-11-27", "driver": "580.82", "cuda": "13.0", "peers": [[0, 1]],
    "gpus": [{
        "name": "NVIDIA H200", "memory_bytes": 150_000_000_000, "multiprocessors": 132,
        "l2_bytes": 62_914_560, "capability": [9, 0], "numa_node": 0, "power_limit_w": 700.0,
        "sm_max_mhz": 1980, "memory_mhz": 3201,
    }] * 2,
}  # fmt: skip


@cache
def fitted(noise: float) -> Fitted:
    """Fit all samples of the full plan, once."""
    return fit(synthetic(noise=noise))


def synthetic(
    noise: float = 0.01,
    plan: Plan | None = None,
    gpus: int = 2,
    kept: Callable[[Point], bool] = bool,
) -> GpuSamples:
    """Sample a plan, or those of its points that are kept."""
    draw = np.random.Generator(np.random.PCG64(5))
    rows = []
    for point in (plan or full_plan()).points:
        peer = "peer" in point.variant or point.get("gpus") > 1
        if (peer and gpus == 1) or not kept(point):
            continue
        size, value, unit = _truth(point)
        values = value * np.exp(noise * draw.standard_normal(7))
        rows.append(Sampled(point, size, tuple(values.tolist()), unit))
    facts = {**FACTS, "gpus": FACTS["gpus"][:gpus], "peers": FACTS["peers"] if gpus > 1 else []}  # type: ignore[index]  # a list
    return GpuSamples(facts, tuple(rows))


def decode_us(size: float) -> float:
    return FLOOR_US + size / ATTENTION * 1e6


def vmm_us(call: str, chunk: int) -> float:
    """Of a chunk; a map notes an address, whatever lies there."""
    return VMM_US[call] * (1 + chunk / 2**31 if call != "map" else 1.0)


def _truth(point: Point) -> tuple[int, float, str]:
    """Bytes, and the value of a sample without noise."""
    name = point.variant
    if point.probe == "power":
        return 0, WATTS[name], "W"
    if point.probe == "clock":
        return 0, 1980.0 if name != "products" else 1500.0, "MHz"
    if point.probe == "launch":
        return 0, LAUNCH_US[name], "us"
    if point.probe == "vmm":
        call = name.split()[1]
        return point["chunk"] * point["chunks"], vmm_us(call, point["chunk"]), "us"
    if point.probe == "clearing":
        size = point["chunk"] * point["chunks"]
        end_us = CLEARING_FIRST_US + size / CLEARED * 1e6
        return (size, end_us, "us") if name == "hbm end" else (0, TURN_US, "us")
    if point.probe == "latency":
        return 128, {"hbm": 0.6, "peer": 1.3, "host": 1.5}[name], "us"
    if point.probe in ("read", "write"):
        rate = {"hbm": HBM, "peer": 345 * GB, "host": 51 * GB}[name]
        rate = WRITE if point.probe == "write" else rate * point["sixteenths"] / 16
        return point["bytes"], 2.0 + point["bytes"] / rate * 1e6, "us"
    return _loads(point)


def _loads(point: Point) -> tuple[int, float, str]:
    if point.probe == "copy":
        route, way = point.variant.split(" ", 1)
        size, count = point["bytes"], point["count"]
        if way == "both ways":
            rate = PEER_BOTH if "peer" in route else BOTH
            return 2 * size, FIRST_US["engine"] + 2 * size / rate * 1e6, "us"
        first, each = FIRST_US[way], EACH_US[way]
        if "nvme" in route:
            first, each = DISK_FIRST_US, DISK_EACH_US
        return size * count, first + count * (each + size / RATES[route] * 1e6), "us"
    if point.probe == "paging":
        route, what = point.variant.split(" ", 1)
        size = point["bytes"] * point["count"]
        taken_us = size / RATES[route] * 1e6
        return size, taken_us * (PAGING[route] if what == "beside" else 1.0), "us"
    if point.probe == "ragged_attention":
        tokens = point["shorts"] * point["short"] + point["longs"] * point["long"]
        size = kv_bytes((point["heads"], point["kv_heads"], point["head_dim"]), tokens)
        return size, decode_us(size), "us"
    if point.probe in ("decode_attention", "mixed_attention"):
        shape = point["heads"], point["kv_heads"], point["head_dim"]
        size = kv_bytes(shape, point["batch"] * point["context"])
        if point.probe == "decode_attention":
            return size, decode_us(size), "us"
        share = point["share"] / WHOLE
        hbm = FLOOR_US + size * (1 - share) / ATTENTION * 1e6 if share < 1 else 0.0
        mix = Mixes(*(np.array([x]) for x in (share, hbm, share * size, 1.0)))
        return size, float(FORMS[point.variant].us(mix)[0]), "us"
    if point.probe == "prefill_attention":
        pairs = point["tokens"] * (point["prefix"] + (point["tokens"] + 1) / 2) * point["prompts"]
        flops = 4 * pairs * point["heads"] * point["head_dim"]
        return 1, 8.0 + flops / 600e12 * 1e6, "us"
    if point.probe == "products":
        m, n, k = point["m"], point["n"], point["k"]
        moved = 2 * (n * k + m * (n + k))
        return moved, max(moved / ATTENTION, 2 * m * n * k / FLOPS) * 1e6 + 2.0, "us"
    if point.probe == "all_reduce":
        return point["bytes"], SUM_US + point["bytes"] / SUMMED * 1e6, "us"
    if point.probe == "experts":
        return 1, 30.0 + point["tokens"] * 0.4, "us"
    return _beside(point)


def _beside(point: Point) -> tuple[int, float, str]:
    """Two loads: on a busy link in parts of WEIGHT to 1, over HBM alone as HBM_COSTS say."""
    route, what = point.variant.split(" ", 1)
    size = kv_bytes((32, 8, 128), 64 * 2048)
    share = point["share"] / WHOLE
    copied, attended = RATES[route], size / decode_us(size) * 1e6
    if what in ("copy", "attention"):
        if share:
            copied = RATES[route] / (1 + WEIGHT)
            attended = copied * WEIGHT / share
        elif route in COPY_WEIGHTS:
            weight = HBM_WEIGHT / COPY_WEIGHTS[route]
            attended /= 1 + HBM_COSTS[route] / weight
            copied = attended / weight
        else:
            attended -= HBM_COSTS[route] * copied
    if what.startswith("copy"):
        return point["bytes"], point["bytes"] / copied * 1e6, "us"
    return size, size / attended * 1e6, "us"
