"""Models whose layers keep KV in several groups, through `vsim run`: HBM held, to the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.traces.faults import InputError

# google/gemma-3-27b-it: 62 layers, every sixth of which sees everything and the others 1,024
# tokens; 2 · 16 · 128 numbers of 2 bytes are 8,192 B a token and layer.
GEMMA = {
    "model_type": "gemma3_text", "num_hidden_layers": 62, "hidden_size": 5376,
    "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128,
    "intermediate_size": 21504, "vocab_size": 262208, "sliding_window": 1024,
    "sliding_window_pattern": 6, "max_position_embeddings": 131072,
}  # fmt: skip
TOKEN_LAYER = 8_192
SCENARIO = """\
name: gemma
workload: {trace: trace.csv}
machine: h200
model: ./gemma.json
engine: {token_budget: 8192}
tiers:
  - {tier: hbm}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gemma.json").write_text(json.dumps(GEMMA))
    return tmp_path


def run(folder: Path, calls: list[tuple[int, int]], *overrides: str) -> dict[str, Any]:
    """The summary of calls that arrive together: prompt and output tokens."""
    rows = [f"0,{prompt},{output}" for prompt, output in calls]
    (folder / "trace.csv").write_text("\n".join(["timestamp_s,prompt_tokens,output_tokens", *rows]))
    scenario = parse_yaml(SCENARIO, "gemma.yaml", Scenario, overrides)
    return dict(simulate(scenario, base=folder, steps=False).summary)


@pytest.mark.parametrize("tokens", [32_768, 131_072])
def test_a_request_holds_its_context_in_full_layers_and_a_window_in_the_others(
    folder: Path, tokens: int
) -> None:
    full, near = run(folder, [(tokens, 3)], "engine.profile=vsim")["kv_groups"]
    # two tokens are decoded behind the prompt, on a page of their own
    assert full["decoding_peak_bytes"] == (tokens // 16 + 1) * 16 * 10 * TOKEN_LAYER
    # the window of the first of them begins a token behind a page's start
    assert near["decoding_peak_bytes"] == (1024 // 16 + 1) * 16 * 52 * TOKEN_LAYER
    # while the prompt was computed: 1,023 tokens before a step of 8,192, and the step
    assert near["requests_peak_pages"] == (1024 + 8192) // 16
    assert full["end_pages"] == near["end_pages"] == 0


# Bytes of a token in the layers that keep it, of the last so many tokens, and of a state.
HELD: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    # 18 of 36 layers see everything, 18 the last 128 tokens: 2 · 8 · 64 numbers of 2 bytes each
    "gpt-oss-120b": (18 * 2_048, 18 * 2_048, 128, 0, ("machine=b300",)),
    # 12 of 48 layers attend: 2 · 2 · 256 numbers of 2 bytes; 36 keep 32 heads' 128 x 128 numbers
    # and 3 tokens of a convolution over 2 · 16 · 128 + 32 · 128 channels, of 2 bytes
    "qwen3-next-80b-a3b": (
        12 * 2_048, 0, 0, 36 * 2 * (32 * 128 * 128 + 3 * 8_192), ("machine=b300",)
    ),
    # 61 layers: a latent of 512 and 64 numbers of 2 bytes, and an index key of 128 bytes with a
    # 4-byte scale; each of eight GPUs holds them
    "deepseek-v3.2": (
        8 * 61 * (2 * 576 + 132), 0, 0, 0, ("machine=8xh200-nvlink", "parallel.tensor=8")
    ),
    # 6 layers attend: 2 · 2 · 128 numbers of 2 bytes; 23 keep 64 heads' 64 x 128 numbers of 4
    # bytes and 3 tokens of a convolution over 64 · 64 + 2 · 8 · 128 channels, of 2
    "nemotron-3-nano-30b-a3b": (
        6 * 1_024, 0, 0, 23 * (4 * 64 * 64 * 128 + 2 * 3 * 6_144), ("machine=h200",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("tokens", [32_768, 131_072])
@pytest.mark.parametrize("model", HELD)
def test_a_request_holds_what_each_group_of_its_model_keeps(
    tmp_path: Path, model: str, tokens: int
) -> None:
    full, near, window, state, settings = HELD[model]
    overrides = (f"model={model}", "engine.profile=vsim", *settings)
    groups = {
        each["kind"]: each["decoding_peak_bytes"]
        for each in run(tmp_path, [(tokens, 3)], *overrides)["kv_groups"]
    }
    # as above: two tokens behind the prompt's pages, and a page that a window begins within
    expected = {"full": (tokens // 16 + 1) * 16 * full}
    if near:
        expected["window"] = (window // 16 + 1) * 16 * near
    if state:
        expected["state"] = state
    assert groups == expected


def test_vllm_pads_the_windows_to_six_groups_of_ten_layers(folder: Path) -> None:
    full, near = run(folder, [(32_768, 3)])["kv_groups"]
    assert full["page_bytes"] == 16 * 10 * TOKEN_LAYER
    assert near["page_bytes"] == 16 * 60 * TOKEN_LAYER
    assert near["page_padding_bytes"] == 16 * 8 * TOKEN_LAYER


def test_sixteen_requests_of_32k_fit_where_arithmetic_says_so_and_none_is_preempted(
    folder: Path,
) -> None:
    # 16 · (2.69 + 0.51) GB in 77 GB; were windows kept whole, 4 of them would fit
    summary = run(folder, [(32_768, 200)] * 16)
    assert summary["requests"] == {"submitted": 16, "completed": 16, "rejected": 0}
    assert summary["preemptions"] == 0
    assert summary["counters"]["peak_running"] == 16
    near = summary["kv_groups"][1]
    assert near["decoding_peak_pages"] == 16 * 65
    assert summary["tiers"][0]["peak_bytes"] <= 16 * 3.21e9 + near["page_bytes"] * 512


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("engine.batching=static", "static is not simulated with ./gemma.json"),
        ("output.operations=all", "all is not simulated with ./gemma.json"),
        ("engine.movement=mapped", "their pages differ in size; write paged"),
        ("tiers.0.capacity=1GiB", "less than the smallest request"),
        ("tiers.0.capacity=1MiB", "less than one page"),
    ],
)
def test_what_groups_do_not_do_is_refused_by_name(folder: Path, override: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace(".", r"\.").replace("/", "/")):
        run(folder, [(32_768, 3)], override)
