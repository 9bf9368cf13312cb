"""What a calibration measured, as a table for a terminal: a line a point, the long ones folded."""

from collections.abc import Iterator

from vsim.hwbackend.calibration.plan import WHOLE
from vsim.traces.gpu_samples import GpuSamples, Sampled


def shown(samples: GpuSamples) -> Iterator[str]:
    """Lines of the table, and below it what was left out."""
    facts = samples.facts
    names = ", ".join(gpu["name"] for gpu in facts["gpus"])
    yield f"{facts['date']}, {names}, driver {facts['driver']}, CUDA {facts['cuda']}"
    yield f"{'point':<58}{'median':>12}{'least':>12}{'most':>12}{'GB/s':>9}"
    for row in samples.rows:
        if row.point.probe != "vmm":
            yield _line(row)
    yield from _vmm(samples)
    for why in samples.left_out:
        yield f"left out: {why}"


def _line(row: Sampled) -> str:
    figures = "".join(
        f"{figure:>10,.2f}{row.unit[:2]:>2}"
        for figure in (row.median, min(row.samples), max(row.samples))
    )
    rate = f"{row.bytes_per_s / 1e9:>9,.1f}" if row.bytes and row.unit == "us" else ""
    return f"{_name(row)[:57]:<58}{figures}{rate}"


def _name(row: Sampled) -> str:
    """A point in a few words: heads as 32/8×128, sizes in KiB and MiB, shares in percent."""
    sizes = dict(row.point.sizes)
    words = [row.point.probe.replace("_attention", ""), row.point.variant]
    if "heads" in sizes:
        heads = sizes.pop("heads"), sizes.pop("kv_heads"), sizes.pop("head_dim")
        words.append("{}/{}×{}".format(*heads))
    if "experts" in sizes:
        layer = (sizes.pop(name) for name in ("per_token", "experts", "hidden", "intermediate"))
        words.append("{} of {} of {}×{}".format(*layer))
    if "share" in sizes:
        words.append(f"{sizes.pop('share') / WHOLE:.1%}")
    if "bytes" in sizes:
        size = sizes.pop("bytes")
        words.append(f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB")
    return " ".join([*words, *(f"{name}={value:,}" for name, value in sizes.items())])


def _vmm(samples: GpuSamples) -> Iterator[str]:
    """VMM calls, a line for each kind of chunks: the median of each call, µs a chunk."""
    rows: dict[tuple[str, int, int], dict[str, Sampled]] = {}
    for row in samples.of("vmm"):
        place, call = row.point.variant.split()
        rows.setdefault((place, row.point["chunk"], row.point["chunks"]), {})[call] = row
    calls = ("reserve", "create", "map", "set_access", "unmap", "release")
    if rows:
        yield f"{'VMM calls, us a chunk':<32}" + "".join(f"{call:>14}" for call in calls)
    for (place, chunk, chunks), found in rows.items():
        figures = "".join(
            f"{found[call].median:>14,.1f}" if call in found else f"{'–':>14}" for call in calls
        )
        yield f"{f'{place} {chunks} × {chunk >> 20} MiB':<32}{figures}"
