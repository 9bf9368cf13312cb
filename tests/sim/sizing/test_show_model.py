"""`vsim model show`: its numbers, its table and its refusals."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.command_line import run

from vsim.sim.commands.show_model import shown_model
from vsim.sim.machine.loading import catalogue_names, load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.sizing.view import show_model

# Two of four layers see 128 tokens; 2 KV heads of 64: 256 numbers a token and layer.
CONFIG = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "num_hidden_layers": 4,
    "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "intermediate_size": 512, "vocab_size": 1000, "sliding_window": 128,
    "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> str:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return str(folder)


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> Any:
    assert run(monkeypatch, "model", "show", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_the_json_has_the_sizes_at_its_top_as_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    found = shown(monkeypatch, capsys, config, "--tokens", "1000")
    # a layer: q and o 256 x 256, k and v 256 x 128, FFN 3 x 256 x 512, four norms of 256
    layer = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512 + 4 * 256
    assert found["parameters"] == 4 * layer + 1000 * 256 + 256
    assert found["active_parameters"] == found["parameters"]  # the embedding is the LM head
    assert found["weight_bytes"] == 2 * found["parameters"]
    assert found["kv_bytes_per_token"] == 4 * 256 * 2
    assert found["kv_bytes_held"] == 2 * 256 * 2 * (1000 + 128)
    assert found["state_bytes_per_request"] == 0
    assert [each["name"] for each in found["groups"]] == ["full", "window_128"]


def test_precisions_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    usual = shown(monkeypatch, capsys, config)
    low = shown(monkeypatch, capsys, config, "--kv", "fp8", "--weights", "int8")
    assert low["kv_bytes_per_token"] * 2 == usual["kv_bytes_per_token"]
    assert low["weight_bytes"] < usual["weight_bytes"]
    assert (usual["kv"], low["kv"], low["weights"]) == ("bf16", "fp8", "int8")


def test_every_machine_of_the_catalogue_is_listed_with_its_room() -> None:
    model = load_model("llama-3.1-8b")
    found = {each.machine: each for each in shown_model(model, tokens=8192).machines}
    assert sorted(found) == catalogue_names()
    h100 = found["h100"]
    left = 0.92 * load_machine("h100").hbm.capacity.value - 2440 * 2**20 - 16_060_522_496
    assert h100.kv_bytes == int(left)
    assert h100.sequences == int(left) // (131_072 * 8192)


def test_tensor_parallelism_beyond_the_kv_heads_takes_copies() -> None:
    model = load_model("llama-3.1-8b")
    latent = load_model("deepseek-v3")

    def taken(of: Any, tensor: int) -> int:
        found = shown_model(of, tokens=1000, tensor=tensor, weights="int4").machines
        return next(each.sequence_bytes for each in found if each.machine == "8xh200-nvlink")

    assert taken(model, 8) == taken(model, 1)
    assert taken(latent, 8) == 8 * taken(latent, 1)


def test_a_machine_with_too_few_gpus_says_so() -> None:
    found = shown_model(load_model("llama-3.1-8b"), tokens=1000, tensor=8).machines
    alone = next(each for each in found if each.machine == "h100")
    assert alone.gpus == 0
    assert "needs 8 GPUs" in alone.reason


def test_the_table_fits_100_columns_and_names_each_group(config: str) -> None:
    console = Console(width=100, highlight=False, record=True, file=StringIO())
    show_model(shown_model(load_model(config), tokens=100_000), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    for word in ("small", "full (every token)", "window_128 (the last 128 tokens)", "h100"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["nothing-like-it"], ["'nothing-like-it' is not in the catalogue"]),
        (["llama-3.1-8b", "--kv", "fp9"], ["--kv: 'fp9' is no precision"]),
        (["llama-3.1-8b", "--weights", "bf61"], ["--weights: 'bf61' is no precision"]),
        (["llama-3.1-8b", "--weights", "fp8_scaled"], ["--weights: 'fp8_scaled' is no precision"]),
        (["llama-3.1-8b", "--tokens", "0", "--tensor", "0"], ["--tokens: 0", "--tensor: 0"]),
        (["llama-3.1-8b", "--transformers"], ["--transformers: 'llama-3.1-8b' is no config.json"]),
        (["llama-3.1-8b", "--profile", "vlm"], ["--profile: 'vlm' is no engine profile"]),
    ],
)
def test_what_is_wrong_is_named_a_line_each(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    lines: list[str],
) -> None:
    assert run(monkeypatch, "model", "show", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    found = printed.err.splitlines()
    assert len(found) == len(lines)
    assert all(want in line for want, line in zip(lines, found, strict=True))
