"""A package laid out as `aiconfigurator-core` is, of one GPU with round peaks and few rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SYSTEM = """\
data_dir: data/{name}
gpu:
  mem_bw: 1000000000000
  mem_capacity: 85899345920
  bfloat16_tc_flops: 1000000000000000
  int8_tc_flops: 2000000000000000
  fp8_tc_flops: 2000000000000000
  power: 700
  sm_version: 90
node:
  num_gpus_per_node: 8
  intra_node_bw: 450000000000
  pcie_bw: 64000000000
"""
SIDES = (256, 1024, 4096, 8192)
TOKENS = (1, 16, 64, 256, 1024, 4096)
FLOOR_MS = 0.002


def time_ms(moved_bytes: float, flops: float, rate: float = 1e15) -> float:
    """What a kernel of efficiency 0.8 takes, beyond the floor."""
    return FLOOR_MS + max(moved_bytes / 1e12, flops / rate) / 0.8 * 1e3


def product_ms(m: int, n: int, k: int, size: int) -> float:
    """A product whose inputs and weights take `size` bytes a number."""
    return time_ms(m * k * size + n * k * size + m * n * 2, 2.0 * m * n * k, 2e15 / size)


def write_package(root: Path, gpu: str = "h100_sxm", *, tuned: bool = True) -> Path:
    """Write the package into a folder, and return the folder of its modules.

    Args:
        root: what is put on `sys.path`.
        gpu: the GPU's name in the package.
        tuned: whether its fp8 experts are faster than its bf16 ones.
    """
    package = root / "aiconfigurator_core"
    data = package / "systems" / "data" / gpu
    data.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('never imported')\n")
    (package / "systems" / f"{gpu}.yaml").write_text(SYSTEM.format(name=gpu))
    (package / "systems" / "l4.yaml").write_text(SYSTEM.format(name="l4"))  # without data
    dist = root / "aiconfigurator_core-0.12.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: aiconfigurator-core\nVersion: 0.12.0\n"
    )
    for stack, version in (("vllm", "0.24.0"), ("vllm", "0.9.0"), ("sglang", "0.5.14")):
        _write(data / "gemm" / stack / version / "gemm_perf.parquet", _gemm(stack, version))
    attention = data / "attention" / "vllm" / "0.24.0"
    _write(attention / "generation_attention_perf.parquet", _decode())
    _write(attention / "context_attention_perf.parquet", _prefill())
    _write(data / "moe" / "vllm" / "0.24.0" / "moe_perf.parquet", _experts(tuned))
    reduce = data / "comm" / "vllm" / "0.24.0" / "custom_allreduce_perf.parquet"
    _write(reduce, _all_reduce())
    _write(data / "comm" / "nccl" / "2.29.2" / "nccl_perf.parquet", _nccl())
    _write(data / "comm" / "vllm" / "0.24.0" / "moe_a2a_perf.parquet", _exchange())
    for stack, version in (("sglang", "0.5.14"), ("trtllm", "1.3.0rc20")):
        mla = data / "mla" / stack / version
        _write(mla / "generation_mla_perf.parquet", _decode_latents(stack))
        _write(mla / "context_mla_perf.parquet", _prefill_latents(stack))
    mla = data / "mla" / "vllm" / "0.24.0"
    _write(mla / "mla_generation_module_perf.parquet", _latent_modules())
    _write(data / "mla_bmm" / "vllm" / "0.24.0" / "mla_bmm_perf.parquet", _latent_products())
    (attention / "collection_meta.yaml").write_text("# 2026-08-02: rows\nschema_version: 1\n")
    return package


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    same = {"framework": "VLLM", "version": "x", "device": "NVIDIA H100"}
    pq.write_table(pa.Table.from_pylist([same | row for row in rows]), path)


def _gemm(stack: str, version: str) -> Iterator[dict[str, Any]]:
    old = version == "0.9.0"
    for dtype, size in (("bfloat16", 2), ("fp8", 1), ("fp8_block", 1), ("nvfp4", 1)):
        for n in SIDES:
            for k in SIDES:
                for m in TOKENS:
                    latency = product_ms(m, n, k, size) * (3 if old else 1)
                    if dtype == "fp8_block" and stack == "vllm":
                        latency = max(latency, 0.1)  # what a launch by the host takes
                    yield {"kernel_source": f"{stack}_{dtype}", "gemm_dtype": dtype, "m": m,
                           "n": n, "k": k, "latency": latency}  # fmt: skip


def _heads() -> Iterator[dict[str, Any]]:
    for kv_dtype in ("bfloat16", "fp8"):
        for heads, kv_heads in ((8, 1), (8, 8), (16, 2), (32, 8), (20, 4)):
            for window in (0, 128):
                # KV heads of 0 stand for as many as there are heads.
                yield {"kernel_source": "fa3", "num_heads": heads,
                       "num_key_value_heads": 0 if kv_heads == heads else kv_heads,
                       "head_dim": 128, "window_size": window, "attn_dtype": "bfloat16",
                       "kv_cache_dtype": kv_dtype, "beam_width": 1}  # fmt: skip


def _decode() -> Iterator[dict[str, Any]]:
    for shape in _heads():
        size = 2 if shape["kv_cache_dtype"] == "bfloat16" else 1
        kv_heads = shape["num_key_value_heads"] or shape["num_heads"]
        for batch in (1, 8, 64):
            for context in (2, 128, 1024, 8192):
                seen = min(context, shape["window_size"] or context)
                kv = batch * seen * kv_heads * 128 * 2 * size
                queries = batch * shape["num_heads"] * 128 * 4
                yield shape | {"batch_size": batch, "isl": 1, "step": context - 1,
                               "latency": time_ms(kv + queries, 0)}  # fmt: skip


def _prefill() -> Iterator[dict[str, Any]]:
    for shape in _heads():
        for batch in (1, 4):
            for length in (16, 256, 1024, 4096):
                near = min(length, shape["window_size"] or length)
                pairs = batch * (near * (near + 1) / 2 + (length - near) * near)
                flops = 4 * shape["num_heads"] * 128 * pairs
                moved = batch * length * shape["num_heads"] * 128 * 4
                yield shape | {"batch_size": batch, "isl": length, "step": 0,
                               "latency": time_ms(moved, flops)}  # fmt: skip


def _experts(tuned: bool) -> Iterator[dict[str, Any]]:
    for dtype, size in (("bfloat16", 2), ("fp8", 1), ("fp8_block", 1)):
        slow = 4 if dtype == "fp8" and not tuned else 1
        for hidden, width, topk, experts in ((4096, 14336, 2, 8), (2048, 768, 8, 128)):
            for tensor, parallel in ((1, 1), (8, 1), (1, 8), (16, 8)):
                for spread in ("balanced", "power_law_1.01", "power_law_1.2"):
                    for tokens in (1, 64, 4096):
                        touched = experts * (1 - (1 - topk / experts) ** tokens) / parallel
                        weights = touched * 3 * hidden * width / tensor * size
                        flops = tokens * topk * 6 * hidden * width / tensor / parallel
                        yield {
                            "kernel_source": "triton", "moe_dtype": dtype, "num_tokens": tokens,
                            "hidden_size": hidden, "inter_size": width, "topk": topk,
                            "num_experts": experts, "moe_tp_size": tensor,
                            "moe_ep_size": parallel, "distribution": spread,
                            "latency": slow * time_ms(weights, flops, 2e15 / size),
                        }  # fmt: skip


def _all_reduce() -> Iterator[dict[str, Any]]:
    for kernel, launch in (("vLLM_custom_eager", 0.02), ("vLLM_custom_graph", 0.004)):
        for gpus in (2, 8):
            for count in (512, 1 << 20):
                yield {"kernel_source": kernel, "allreduce_dtype": "bfloat16", "num_gpus": gpus,
                       "message_size": count, "latency": launch + count * 2 / 4e8}  # fmt: skip


def _nccl() -> Iterator[dict[str, Any]]:
    for operation in ("all_gather", "all_reduce", "alltoall", "reduce_scatter"):
        for dtype in ("half", "int8"):
            for count in (512, 1 << 20):
                yield {"kernel_source": "NCCL", "op_name": operation, "nccl_dtype": dtype,
                       "num_gpus": 8, "message_size": count,
                       "latency": 0.01 + count * (2 if dtype == "half" else 1) / 4e8}  # fmt: skip


def _exchange() -> Iterator[dict[str, Any]]:
    for backend in ("deepep_ll", "deepep_ht"):
        for phase in ("dispatch", "combine"):
            for tokens in (1, 128):
                yield {"kernel_source": "deepep", "comm_backend": backend, "phase": phase,
                       "comm_dtype": "default", "ep_size": 8, "hidden_size": 4096, "topk": 8,
                       "num_experts": 256, "num_tokens": tokens,
                       "latency": 40.0 + tokens}  # microseconds  # fmt: skip


CONTEXTS = (2, 8, 16, 128, 8192)


def _latents() -> Iterator[dict[str, Any]]:
    for kv_dtype in ("bfloat16", "fp8"):
        for heads in (16, 128):
            for batch in (1, 64):
                yield {"mla_dtype": "bfloat16", "kv_cache_dtype": kv_dtype, "num_heads": heads,
                       "batch_size": batch, "tp_size": 1}  # fmt: skip


def latents_ms(batch: int, context: int, size: int) -> float:
    """A decode that reads its latents."""
    return time_ms(batch * context * 576 * size, 0)


def _decode_latents(stack: str) -> Iterator[dict[str, Any]]:
    """SGLang's fp8 converts the cache first; TensorRT-LLM's begin a microsecond later."""
    for row in _latents():
        size = 2 if row["kv_cache_dtype"] == "bfloat16" else 1
        slow = 8 if size == 1 and stack == "sglang" else 1
        for context in CONTEXTS:
            more = latents_ms(row["batch_size"], context, size) + (stack == "trtllm") * 0.001
            yield row | {"kernel_source": "flash_attention" if stack == "sglang" else "default",
                         "isl": 1, "step": context - 1, "latency": slow * more}  # fmt: skip


def _prefill_latents(stack: str) -> Iterator[dict[str, Any]]:
    """SGLang's are absorbed, of 576 and 512 numbers; TensorRT-LLM's of 192 and 128."""
    for row in _latents():
        for length in (16, 1024):
            pairs = row["batch_size"] * length * (length + 1) / 2
            each = 1088 if stack == "sglang" else 320
            yield row | {"kernel_source": "flash_attention" if stack == "sglang" else "default",
                         "isl": length, "step": 0,
                         "latency": time_ms(0, 2 * row["num_heads"] * each * pairs)}  # fmt: skip


def _latent_modules() -> Iterator[dict[str, Any]]:
    """What a whole module takes: 50 us, 9 more with fp8 weights, beside its attention."""
    for row in _latents():
        size = 2 if row["kv_cache_dtype"] == "bfloat16" else 1
        for weights, beside in (("bfloat16", 0.05), ("fp8_block", 0.059)):
            for context in CONTEXTS:
                attention = latents_ms(row["batch_size"], context, size)
                yield row | {"kernel_source": "FLASHMLA", "gemm_type": weights, "isl": 1,
                             "step": context, "latency": beside + attention}  # fmt: skip


def _latent_products() -> Iterator[dict[str, Any]]:
    for name in ("mla_gen_pre", "mla_gen_post"):
        for dtype, slow in (("bfloat16", 1), ("fp8", 3)):
            for heads in (16, 128):
                for tokens in (1, 512):
                    flops = 2.0 * tokens * heads * 128 * 512
                    yield {"op_name": name, "kernel_source": "bmm", "bmm_dtype": dtype,
                           "num_tokens": tokens, "num_heads": heads,
                           "latency": slow * time_ms(heads * 128 * 512 * 2, flops)}  # fmt: skip
