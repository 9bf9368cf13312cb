"""Texts in the forms that vLLM writes, of several versions; made up, with figures of our own."""

import json
from typing import Any

LOG_0_10 = """\
INFO 08-03 10:01:12 [__init__.py:244] Automatically detected platform cuda.
INFO 08-03 10:01:15 [api_server.py:1395] vLLM API server version 0.10.0
INFO 08-03 10:01:15 [cli_args.py:325] non-default args: {'model': 'org/Model-8B', 'tensor_parallel_size': 2, 'max_num_seqs': 48, 'block_size': 32}
INFO 08-03 10:01:20 [config.py:1472] Using max model len 16384
INFO 08-03 10:01:20 [config.py:2285] Chunked prefill is enabled with max_num_batched_tokens=2048.
INFO 08-03 10:01:30 [core.py:69] Initializing a V1 LLM engine (v0.10.0) with config: model='org/Model-8B', speculative_config=None, tokenizer='org/Model-8B', dtype=torch.bfloat16, max_seq_len=16384, download_dir=None, load_format=auto, tensor_parallel_size=2, pipeline_parallel_size=1, disable_custom_all_reduce=False, quantization=fp8, enforce_eager=False, kv_cache_dtype=auto,  device_config=cuda, decoding_config=DecodingConfig(backend='auto', disable_fallback=False), seed=0, served_model_name=org/Model-8B, num_scheduler_steps=1, enable_prefix_caching=True, chunked_prefill_enabled=True, use_async_output_proc=True, pooler_config=None, compilation_config={"level":3,"custom_ops":[]}
INFO 08-03 10:02:01 [kv_cache_utils.py:775] GPU KV cache size: 64,000 tokens
INFO 08-03 10:02:01 [kv_cache_utils.py:779] Maximum concurrency for 16,384 tokens per request: 3.91x
INFO 08-03 10:03:00 [loggers.py:122] Engine 000: Avg prompt throughput: 812.3 tokens/s, Avg generation throughput: 93.6 tokens/s, Running: 4 reqs, Waiting: 1 reqs, GPU KV cache usage: 64.6%, Prefix cache hit rate: 24.0%
"""  # noqa: E501 - as long as vLLM writes it

LOG_0_19 = """\
(APIServer pid=7) INFO 04-19 10:18:36 [utils.py:299]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.19.2
(APIServer pid=7) INFO 04-19 10:18:36 [utils.py:233] non-default args: {'model_tag': 'org/Model-8B', 'host': '0.0.0.0', 'model': 'org/Model-8B', 'max_model_len': 8192, 'gpu_memory_utilization': 0.8, 'kv_offloading_size': 24.0, 'lora_modules': [LoRAModulePath(name='a', path='b')], 'enable_prefix_caching': False, 'async_scheduling': True, 'max_num_batched_tokens': 4096, 'max_num_seqs': 32}
(EngineCore pid=9) INFO 04-19 10:18:47 [core.py:107] Initializing a V1 LLM engine (v0.19.2) with config: model='org/Model-8B', speculative_config=None, dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, pipeline_parallel_size=1, data_parallel_size=1, decode_context_parallel_size=1, quantization=None, quantization_config=None, enforce_eager=True, kv_cache_dtype=fp8_e4m3, device_config=cuda, enable_prefix_caching=False, enable_chunked_prefill=True, pooler_config=None
(EngineCore pid=9) INFO 04-19 10:18:57 [kv_cache_utils.py:829] Overriding num_gpu_blocks=0 with num_gpu_blocks_override=512
(EngineCore pid=9) INFO 04-19 10:18:58 [kv_cache_utils.py:1319] GPU KV cache size: 48,016 tokens
(APIServer pid=7) INFO 04-19 10:19:10 [loggers.py:259] Engine 000: Avg prompt throughput: 10.0 tokens/s, Avg generation throughput: 238.7 tokens/s, Running: 10 reqs, Waiting: 0 reqs, Preemptions: 3, GPU KV cache usage: 99.1%, Prefix cache hit rate: 53.7%, External prefix cache hit rate: 12.5%
(APIServer pid=7) INFO 04-19 10:19:20 [loggers.py:259] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 238.7 tokens/s, Running: 10 reqs, Waiting: 0 reqs, Preemptions: 4, GPU KV cache usage: 99.1%, Prefix cache hit rate: 54.0%, External prefix cache hit rate: 13.0%
"""  # noqa: E501 - as long as vLLM writes it

LOG_0_25 = """\
(APIServer pid=1) INFO 11-26 15:23:11 [api_utils.py:286] non-default args: {'model': 'org/Model-8B', 'num_gpu_blocks_override': 3000, 'seed': 7}
(APIServer pid=1) INFO 11-26 15:23:12 [scheduler.py:277] Chunked prefill is enabled with max_num_batched_tokens=8192.
(EngineCore pid=2) INFO 11-26 15:23:20 [core.py:123] Initializing a V1 LLM engine (v0.25.1) with config: model='org/Model-8B', dtype=torch.float16, max_seq_len=40960, tensor_parallel_size=1, quantization=None, kv_cache_dtype=auto, enable_prefix_caching=True, enable_chunked_prefill=True
(EngineCore pid=2) INFO 11-26 15:23:40 [kv_cache_utils.py:2235] Overriding num_gpu_blocks=57489 with num_gpu_blocks_override=3000
(EngineCore pid=2) INFO 11-26 15:23:40 [kv_cache_utils.py:2240] GPU KV cache size: 48,000 tokens, Maximum concurrency for 40,960 tokens per request: 1.17x
"""  # noqa: E501 - as long as vLLM writes it

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/Model-8B"} 0.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.92",num_gpu_blocks="3000",num_gpu_blocks_override="None",sliding_window="None"} 1.0
vllm:prefix_cache_queries_total{engine="0",model_name="org/Model-8B"} 300.0
vllm:prefix_cache_queries_created{engine="0",model_name="org/Model-8B"} 1.78e+09
vllm:prefix_cache_hits_total{engine="0",model_name="org/Model-8B"} 120.0
vllm:external_prefix_cache_queries_total{engine="0",model_name="org/Model-8B"} 180.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="org/Model-8B"} 30.0
vllm:num_preemptions_total{engine="0",model_name="org/Model-8B"} 3.0
vllm:prompt_tokens_total{engine="0",model_name="org/Model-8B"} 300.0
vllm:generation_tokens_total{engine="0",model_name="org/Model-8B"} 5.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="org/Model-8B"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="org/Model-8B"} 1.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="org/Model-8B"} 2.0
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="org/Model-8B"} 6.0
vllm:iteration_tokens_total_count{engine="0",model_name="org/Model-8B"} 6.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="org/Model-8B"} 0.3
vllm:time_to_first_token_seconds_count{engine="0",model_name="org/Model-8B"} 2.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="org/Model-8B"} 0.22
vllm:inter_token_latency_seconds_count{engine="0",model_name="org/Model-8B"} 3.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="org/Model-8B"} 0.52
vllm:e2e_request_latency_seconds_count{engine="0",model_name="org/Model-8B"} 2.0
python_gc_objects_collected_total{generation="0"} 12.0
"""  # noqa: E501 - as long as vLLM writes it

BENCHMARK: dict[str, Any] = {
    "date": "20260102-030405", "endpoint_type": "vllm", "model_id": "org/Model-8B",
    "tokenizer_id": "org/Model-8B", "num_prompts": 3, "request_rate": 2.0, "max_concurrency": None,
    "duration": 2.0, "completed": 2, "failed": 1, "total_input_tokens": 300,
    "total_output_tokens": 5, "request_throughput": 1.0, "input_lens": [100, 70, 200],
    "output_lens": [3, 0, 2], "ttfts": [0.1, 0.0, 0.2], "itls": [[0.05, 0.07], [], [0.1]],
    "start_times": [10.0, 10.2, 11.5], "generated_texts": ["a", "", "b"],
    "errors": ["", "Bad Gateway", ""], "mean_ttft_ms": 150.0,
}  # fmt: skip


def benchmark(**changed: Any) -> str:
    """The result of a benchmark as JSON; None leaves a key out."""
    values = {**BENCHMARK, **changed}
    return json.dumps({k: v for k, v in values.items() if v is not None or k == "max_concurrency"})
