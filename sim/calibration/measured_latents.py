"""Attention over latents in `aiconfigurator-core`: its `mla` and `mla_bmm` files.

All of it is of DeepSeek-V3's widths: latents of 512 numbers with 64 rotary ones beside them, and
heads of 128 (`_RANK` to `_VALUE`, which no column says).

- `generation_mla_perf`: a decode's kernel alone, in the absorbed form: queries of 576 numbers, 512
  come out. W_UK and W_UV, which absorb it, are not in it.
- `mla_bmm_perf`: these two, as products of one matrix a head: `mla_gen_pre`, `mla_gen_post`. Those
  in bf16 are taken, as vLLM keeps these weights. Under TensorRT-LLM the ones in fp8 take up to
  three times as long on an H200, of which its whole modules with fp8 weights show nothing.
- `context_mla_perf`: a prompt's kernel alone, over keys of 192 and values of 128 numbers that were
  made of the latents before. SGLang's Triton and FlashAttention 3 were timed in the absorbed form,
  which its prompts don't take (3.4 times as many FLOPs): left out.
- `mla_generation_module_perf`: all of a layer's attention with its products, in unfused kernels.
  vLLM was timed so alone. By how much its time grows with the context is its kernel's, whatever
  stands beside it; where that begins, at up to 16 tokens of context, is 10 to 19 us under the
  other stacks, of which the least is taken.

`mla_context_module_perf` is left out: all of its numbers are 0.01, so that the arithmetic takes
little power, and of its time the kernel is the smaller part.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vsim.sim.calibration.measured_files import (
    KV_WORDS,
    STACKS,
    UNTUNED_RATIO,
    Columns,
    MeasuredFiles,
    read_columns,
    slower,
    taken_rows,
)
from vsim.sim.machine.kernel_tables import Curves

_RANK, _ROTARY, _NOPE, _VALUE = 512, 64, 128, 128
_SHAPE = ("num_heads", "key_width", "value_width")
_BEGINNING = 16  # tokens of context up to which a decode's time does not grow
_ABSORBED_PROMPTS = ("triton", "flash_attention")


def latents(files: MeasuredFiles) -> Iterator[Curves]:
    """Attention over latents of decodes and of prompts, and the products that absorb it."""
    yield from _decodes(files)
    yield from _prompts(files)
    yield from _products(files)


def _decodes(files: MeasuredFiles) -> Iterator[Curves]:
    found: dict[str, Curves] = {}
    for path in files.versions_of("mla", files.stack, "generation_mla_perf"):
        columns = _with_widths(read_columns(path), _RANK + _ROTARY, _RANK)
        columns["context"] = _context(columns)
        for word, precision in KV_WORDS.items():
            rows = columns["kv_cache_dtype"] == word
            if precision in found or not rows.any():
                continue
            each = files.gathered(
                "decode_latents", precision, "full", taken_rows(columns, rows), _SHAPE,
                "batch_size", "context", path,
            )  # fmt: skip
            plain = found.get("bf16")
            ratio = 1.0 if plain is None else slower(each, plain)
            if ratio > UNTUNED_RATIO:
                files.leave_out(
                    f"decode_latents in {precision} of {path.parent.name}: all of the cache is"
                    f" converted first, {ratio:.1f} times as slow as bf16's",
                    rows,
                )
                continue
            found[precision] = each
    if not found:
        found = _grown(files)
    yield from found.values()


def _grown(files: MeasuredFiles) -> dict[str, Curves]:
    """Decodes by what whole modules grow by, from the other stacks' least beginning."""
    found: dict[str, Curves] = {}
    for path in files.versions_of("mla", files.stack, "mla_generation_module_perf")[:1]:
        columns = read_columns(path)
        for word, precision in KV_WORDS.items():
            rows = columns["kv_cache_dtype"] == word
            begins = _beginnings(files, word)
            if not rows.any() or not begins:
                continue
            if len(np.unique(columns["num_heads"][rows])) < 2:
                files.leave_out(f"decode_latents in {precision} of one number of heads", rows)
                continue
            grown = _with_widths(_growth(taken_rows(columns, rows), begins), _RANK + _ROTARY, _RANK)
            found[precision] = files.gathered(
                "decode_latents", precision, "full", grown, _SHAPE, "batch_size", "context", path
            )
    return found


def _beginnings(files: MeasuredFiles, word: str) -> dict[tuple[int, int], float]:
    """Of each number of heads and requests the least stack's time at short contexts, ms."""
    least: dict[tuple[int, int], float] = {}
    for stack in STACKS:
        for path in files.versions_of("mla", stack, "generation_mla_perf")[:1]:
            columns = read_columns(path)
            short = _context(columns) <= _BEGINNING
            part = taken_rows(columns, short & (columns["kv_cache_dtype"] == word))
            for key, rows in _by_heads_and_requests(part).items():
                time = float(np.median(part["latency"][rows]))
                least[key] = min(time, least.get(key, np.inf))
            files.note("decode_latents", path, columns)
    return least


def _growth(modules: Columns, begins: dict[tuple[int, int], float]) -> Columns:
    """Rows of a kernel's times: how a module's grow, over all formats of its weights."""
    rows_of = _by_heads_and_requests(modules)
    found: dict[str, list[float]] = {
        name: [] for name in ("num_heads", "batch_size", "context", "latency")
    }
    for key in sorted(rows_of.keys() & begins.keys()):
        rows = rows_of[key]
        context, time = modules["step"][rows], modules["latency"][rows]
        growth: dict[int, list[float]] = {}
        for weights in np.unique(modules["gemm_type"][rows]):
            own = modules["gemm_type"][rows] == weights
            short = own & (context <= _BEGINNING)
            if short.any():
                beyond = time[own] - np.median(time[short])
                for tokens, more in zip(context[own].tolist(), beyond.tolist(), strict=True):
                    growth.setdefault(tokens, []).append(more)
        for tokens, more in growth.items():
            found["num_heads"].append(key[0])
            found["batch_size"].append(key[1])
            found["context"].append(tokens)
            found["latency"].append(begins[key] + max(float(np.median(more)), 0.0))
    columns = {name: np.array(values) for name, values in found.items()}
    words = len(columns["latency"])
    return columns | {
        "kernel_source": np.full(words, "module"),
        "device": np.full(words, modules["device"][0]),
    }


def _by_heads_and_requests(columns: Columns) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Rows of each number of heads and requests."""
    keys = np.stack([columns["num_heads"], columns["batch_size"]], axis=1)
    if not len(keys):
        return {}
    found, of_row = np.unique(keys, axis=0, return_inverse=True)
    of_row = of_row.ravel()
    return {
        (int(heads), int(batch)): np.flatnonzero(of_row == at)
        for at, (heads, batch) in enumerate(found.tolist())
    }


def _prompts(files: MeasuredFiles) -> Iterator[Curves]:
    """In bf16 whatever the cache is kept in, as the keys are that were made of it."""
    for path in files.versions_of("mla", files.stack, "context_mla_perf")[:1]:
        columns = _with_widths(read_columns(path), _NOPE + _ROTARY, _VALUE)
        rows = columns["kv_cache_dtype"] == "bfloat16"
        absorbed = rows & np.isin(columns["kernel_source"], _ABSORBED_PROMPTS)
        if absorbed.any():
            files.leave_out(
                f"prefill_latents of {path.parent.name} that were timed in the absorbed form",
                absorbed,
            )
            rows &= ~absorbed
        if rows.any():
            yield files.gathered(
                "prefill_latents", "bf16", "full", taken_rows(columns, rows), _SHAPE,
                "batch_size", "isl", path,
            )  # fmt: skip


def _products(files: MeasuredFiles) -> Iterator[Curves]:
    for path in files.versions_of("mla_bmm", files.stack, "mla_bmm_perf")[:1]:
        columns = dict(read_columns(path))
        before = columns["op_name"] == "mla_gen_pre"
        columns["inputs"] = np.where(before, _NOPE, _RANK)
        columns["outputs"] = np.where(before, _RANK, _VALUE)
        rows = columns["bmm_dtype"] == "bfloat16"
        if rows.any():
            yield files.gathered(
                "latent_products", "bf16", "", taken_rows(columns, rows),
                ("num_heads", "inputs", "outputs"), "num_tokens", None, path,
            )  # fmt: skip


def _context(columns: Columns) -> NDArray[np.int64]:
    """Tokens that a decode attends to, the one it computes among them."""
    return np.asarray(columns["step"], np.int64) + np.asarray(columns["isl"], np.int64)


def _with_widths(columns: Columns, key: int, value: int) -> dict[str, NDArray[np.generic]]:
    rows = len(columns["latency"])
    return {**columns, "key_width": np.full(rows, key), "value_width": np.full(rows, value)}
