"""What an engine was started with, as JSON can hold it."""

import enum
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def plain(value: Any, depth: int = 3) -> Any:
    """Turn a configuration into what JSON can hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if depth and is_dataclass(value):
        return {f.name: plain(getattr(value, f.name, None), depth - 1) for f in fields(value)}
    if depth and isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return str(value)[:200]


def settings(config: Any) -> dict[str, Any]:
    """Return the settings as the engine resolved them."""
    model, parallel, graphs = config.model_config, config.parallel_config, config.compilation_config
    return {
        "scheduler": plain(config.scheduler_config),
        "cache": plain(config.cache_config),
        "kv_transfer": config.kv_transfer_config
        and {
            name: plain(getattr(config.kv_transfer_config, name, None))
            for name in ("kv_connector", "kv_role", "kv_connector_extra_config")
        },
        "parallel": {
            name: plain(getattr(parallel, name, None))
            for name in (
                "tensor_parallel_size",
                "pipeline_parallel_size",
                "data_parallel_size",
                "enable_expert_parallel",
                "disable_custom_all_reduce",
                "distributed_executor_backend",
            )
        },
        "model": {
            name: plain(getattr(model, name, None))
            for name in ("dtype", "max_model_len", "quantization", "enforce_eager", "architecture")
        },
        "graphs": {
            name: plain(getattr(graphs, name, None))
            for name in ("mode", "cudagraph_mode", "cudagraph_capture_sizes", "splitting_ops")
        },
        "use_v2_model_runner": plain(getattr(config, "use_v2_model_runner", None)),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes; imports it, so only on the machine with the GPU."""
    import torch
    import transformers
    import triton
    import vllm

    return {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": triton.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
