"""vLLM's log says what the server was, in each of its versions' forms."""

import pytest
from tests.sim.fidelity.vllm.texts import LOG_0_10, LOG_0_19, LOG_0_25

from vsim.sim.fidelity.vllm.server_log import read_log, settings_groups
from vsim.traces.faults import InputError


def test_a_log_of_0_10() -> None:
    facts = read_log(LOG_0_10.splitlines(), "v.log")
    assert facts.version == "0.10.0"
    assert facts.settings == {
        "model": "org/Model-8B", "tensor_parallel_size": 2, "max_num_seqs": 48, "block_size": 32,
        "max_num_batched_tokens": 2048, "dtype": "torch.bfloat16", "max_model_len": 16384,
        "pipeline_parallel_size": 1, "quantization": "fp8", "kv_cache_dtype": "auto",
        "enforce_eager": False, "enable_prefix_caching": True, "enable_chunked_prefill": True,
        "num_gpu_blocks": 2000,
    }  # fmt: skip
    assert facts.counters == {"gpu_hit_percent": 24.0}


def test_a_log_of_0_19_with_arguments_that_are_no_literals() -> None:
    facts = read_log(LOG_0_19.splitlines(), "v.log")
    assert facts.version == "0.19.2"
    assert facts.settings["kv_offloading_size"] == 24.0
    assert facts.settings["kv_cache_dtype"] == "fp8_e4m3"
    assert facts.settings["enable_prefix_caching"] is False
    assert facts.settings["max_num_seqs"] == 32
    # 512 blocks are those of the trial run that measures CUDA graphs
    assert facts.settings["num_gpu_blocks"] == 3001
    assert facts.counters == {"preemptions": 7, "gpu_hit_percent": 54.0, "host_hit_percent": 13.0}


def test_a_log_of_0_25_with_fewer_blocks_than_there_is_room_for() -> None:
    facts = read_log(LOG_0_25.splitlines(), "v.log")
    assert facts.version == "0.25.1"
    assert facts.settings["num_gpu_blocks"] == 3000
    assert facts.settings["max_num_batched_tokens"] == 8192


def test_the_last_start_counts() -> None:
    facts = read_log((LOG_0_19 + LOG_0_25).splitlines(), "v.log")
    assert facts.version == "0.25.1"
    assert "kv_offloading_size" not in facts.settings
    assert facts.counters == {}


def test_what_is_no_log_of_vllm_is_refused() -> None:
    with pytest.raises(InputError, match=r"x\.log: holds no line that vLLM's server writes"):
        read_log(["INFO nothing of it", "x" * 10_000, "\udcff"], "x.log")


@pytest.mark.parametrize(
    "line",
    [
        "non-default args: {}",
        "non-default args: {'model': }",
        "non-default args: {" + "'a': [" * 3000 + "}",
        "non-default args: {'max_num_seqs': 9" + "9" * 6000 + "}",
        "GPU KV cache size: " + "9" * 5000 + " tokens",
        "Chunked prefill is enabled with max_num_batched_tokens=" + "9" * 5000,
        "Initializing a V1 LLM engine (v1) with config: model='x, dtype=, max_seq_len=1e999",
    ],
)
def test_odd_lines_never_end_in_a_traceback(line: str) -> None:
    read_log([line, "vLLM API server version 0.11.0"], "x.log")


def test_settings_are_sorted_into_the_groups_of_a_recording() -> None:
    groups = settings_groups(read_log(LOG_0_19.splitlines(), "v.log").settings)
    assert groups["cache"]["cache_dtype"] == "fp8_e4m3"
    assert groups["scheduler"]["max_num_seqs"] == 32
    assert groups["parallel"]["tensor_parallel_size"] == 1
    assert groups["model"]["max_model_len"] == 8192
