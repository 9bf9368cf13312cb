"""Print what the recordings of kernels say, as tables in Markdown.

python -m vsim.hwbackend.kernels.figures FOLDER
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vsim.hwbackend.kernels.attention_cases import PREFIXES
from vsim.hwbackend.kernels.shapes import KV_HEADS, LAYERS, PRODUCTS
from vsim.hwbackend.servers.summary import markdown

Row = Mapping[str, Any]
SHOWN_PREFILLS: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
SHOWN_PREFIXES: Final = (0, 2048, 8192, 16384, 65536)
SHOWN_DECODES: Final = (1, 8, 16, 32, 96, 160, 256)
SMALL_TOKENS: Final = (2, 64, 256, 512, 1024, 2048, 8192)
PRODUCT_TOKENS: Final = (1, 16, 64, 160, 256, 512, 768, 1024, 2048, 8192)
SAMPLED: Final = (1, 16, 64, 160, 512)
AT_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.9)


def read_rows(path: Path) -> Sequence[Row]:
    """Read a machine's rows."""
    with pa.OSFile(str(path), "rb") as source:
        rows: Sequence[Row] = pa.ipc.open_file(source).read_all().to_pylist()
    return rows


def attention_us(rows: Sequence[Row]) -> dict[tuple[int, int, int, int], float]:
    """Return Llama's attention in us by decodes, context, prefill and prefix, one chunk at most."""
    return {
        (row["decodes"], row["context"], row["prefill"], row["prefix"]): row["us"]
        for row in rows
        if row["probe"] == "attention" and row["kv_heads"] == KV_HEADS and row["chunks"] <= 1
    }


def mixed_over_parts(us: Mapping[tuple[int, int, int, int], float], fits_graph: bool) -> Any:
    """Return time together over the sum of the times alone, for each prefix its batches."""
    found: dict[int, list[float]] = {prefix: [] for prefix in PREFIXES}
    for (decodes, context, prefill, prefix), together in us.items():
        if decodes and prefill and (decodes + prefill <= 512) == fits_graph:
            parts = us[decodes, context, 0, 0] + us[0, 0, prefill, prefix]
            found[prefix].append(together / parts)
    return found


def rate(row_us: float, prefill: int, prefix: int) -> float:
    """Return TFLOP/s of Llama's attention: 4 x pairs x 32 heads x 128."""
    return 4 * prefill * (prefix + (prefill + 1) / 2) * 32 * 128 / row_us / 1e6


def _decode(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    us = attention_us(rows)
    for context in (512, 700, 1024, 4096):
        yield f"{context:,}", *(f"{us[count, context, 0, 0]:.0f}" for count in SHOWN_DECODES)


def _prefill(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    us = attention_us(rows)
    for prefill in SHOWN_PREFILLS:
        times = [us[0, 0, prefill, prefix] for prefix in SHOWN_PREFIXES]
        pairs = zip(times, SHOWN_PREFIXES, strict=True)
        yield f"{prefill:,}", *(f"{t:,.0f} ({rate(t, prefill, p):.0f})" for t, p in pairs)


def _mixed(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    us = attention_us(rows)
    for name, fits in (("up to 512 tokens", True), ("more", False)):
        cells = []
        for ratios in mixed_over_parts(us, fits).values():
            low, middle, high = np.percentile(ratios, (10, 50, 90))
            cells.append(f"{low:.2f} · {middle:.2f} · {high:.2f}")
        yield name, *cells


def _by_tokens(
    rows: Sequence[Row], probe: str, tokens: Sequence[int], form: str
) -> Iterator[Sequence[str]]:
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["probe"] == probe:
            found.setdefault((row["kernel"], row["variant"]), {})[row["tokens"]] = row["us"]
    for (kernel, variant), us in found.items():
        cells = (format(us[m], form) if m in us else "–" for m in tokens)
        yield f"{kernel}, {variant}", *cells


def _products(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    us = {
        (r["kernel"], r["variant"], r["tokens"]): r["us"] for r in rows if r["probe"] == "product"
    }
    for kind in ("bf16", "fp8"):
        sums = (sum(us[name, kind, m] for name in PRODUCTS) for m in PRODUCT_TOKENS)
        yield f"{LAYERS} layers, {kind}, ms", *(f"{LAYERS * total / 1e3:.2f}" for total in sums)


def _clocks(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    found: dict[tuple[int, float, str], dict[float, float]] = {}
    for row in rows:
        if row["probe"] == "clock":
            key = (row["tokens"], round(row["std"], 2), row["variant"])
            found.setdefault(key, {})[round(row["at_s"], 2)] = row["us"]
    for (tokens, std, variant), us in found.items():
        yield f"{tokens:,}, N(0, {std:g}), {variant}", *(f"{us[at]:,.0f}" for at in AT_S)


def _steps(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    found: dict[tuple[str, int, int], dict[str, Row]] = {}
    for row in rows:
        if row["probe"] == "trace" and row["tokens"] is not None:
            key = (row["variant"], row["decodes"] or 0, row["prefill"] or 0)
            found.setdefault(key, {})[row["kernel"]] = row
    for (case, decodes, prefill), kernels in found.items():
        period, busy = (kernels[k]["us"] for k in ("step until the next", "step, all kernels"))
        count = kernels["step, all kernels"]["calls"]
        what = f"{decodes} decode" if decodes else f"prompt of {prefill:,}"
        gap = (period - busy) / count
        yield (
            f"`{case}`",
            what,
            f"{count}",
            f"{busy / 1e3:.2f}",
            f"{period / 1e3:.2f}",
            f"{gap:.2f}",
        )


Maker = Callable[[Sequence[Row]], Iterator[Sequence[str]]]
_TABLES: Final[Sequence[tuple[Sequence[str], Maker]]] = (
    (("products of", *(f"{m:,}" for m in PRODUCT_TOKENS)), _products),
    (("decode, context", *(f"{count}" for count in SHOWN_DECODES)), _decode),
    (("prefill", *(f"prefix {prefix:,}" for prefix in SHOWN_PREFIXES)), _prefill),
    (("together over apart", *(f"prefix {prefix:,}" for prefix in PREFIXES)), _mixed),
    (
        ("small kernel", *(f"{m:,}" for m in SMALL_TOKENS)),
        lambda rows: _by_tokens(rows, "small", SMALL_TOKENS, ".1f"),
    ),
    (
        ("sampling", *(f"{m}" for m in SAMPLED)),
        lambda rows: _by_tokens(rows, "sampling", SAMPLED, ".0f"),
    ),
    (("a layer's products, us", *(f"{at:g} s" for at in AT_S)), _clocks),
    (("server", "step", "kernels", "busy, ms", "until the next, ms", "idle a kernel, us"), _steps),
)


def tables(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Return, by machine, its tables in Markdown."""
    for path in sorted(folder.glob("*.arrow")):
        rows = read_rows(path)
        yield path.stem, [markdown(head, list(make(rows))) for head, make in _TABLES]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Print the figures of recorded kernels.")
    parser.add_argument("folder", type=Path)
    for name, found in tables(parser.parse_args().folder):
        print(f"### {name}\n\n" + "\n".join(found))


if __name__ == "__main__":
    main()
