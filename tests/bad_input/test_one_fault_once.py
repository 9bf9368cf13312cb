"""A mistake is told once, by what was written: not again by what follows from it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command_line import run

Refuse = Callable[..., list[str]]
ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "scenarios" / "quickstart.yaml")
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2,
    "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 11008,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
IMPORT = ("--time-unit", "s", "--columns", "arrival=at,prompt=in,output=out", "--out")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", ""),
        ("run", QUICKSTART, "--trace", ""),
        ("trace", "info", ""),
        ("trace", "check", ""),
        ("model", "show", ""),
        ("bound", ""),
        ("check", ""),
        ("compare", "", QUICKSTART),
        ("compare", QUICKSTART, ""),
        ("replay", ""),
    ],
)
def test_an_empty_name_is_no_name_of_this_folder(
    refused: Refuse, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `vsim run "$UNSET"` has it; a path would take it for the folder that one stands in."""
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments) == ["'': is an empty name; write a file's"]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_cells_apart_by_another_mark_are_one_fault(
    refused: Refuse, tmp_path: Path, mark: str
) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(mark.join(["at", "in", "out"]) + "\n" + mark.join("012") + "\n")
    (fault,) = refused("trace", "import", str(table), *IMPORT, str(tmp_path / "o.arrow"))
    assert "its header is one cell, " in fault
    assert fault.endswith("; separate cells by commas")


def test_a_value_that_is_refused_draws_no_fault_of_what_follows_from_it(
    refused: Refuse, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**LLAMA, "hidden_size": 10**15}))
    (fault,) = refused("model", "show", str(config))
    assert "hidden_size: 1000000000000000 is not a whole number from 1" in fault
    config.write_text(json.dumps({**LLAMA, "quantization_config": {"quant_method": ["fp8"]}}))
    (fault,) = refused("model", "show", str(config))
    assert "quantization_config.quant_method: a list of 1 is not a word" in fault


def test_a_tag_alone_is_one_fault(refused: Refuse, tmp_path: Path) -> None:
    model = tmp_path / "m.yaml"
    model.write_text('!!python/object/apply:os.system ["echo hi"]\n')
    (fault,) = refused("model", "show", str(model))
    assert "is not allowed; write the plain value" in fault


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (("seed=99999999999999999999",), "write a number below 9223372036854775808"),
        (("engine.token_budget=" + "[" * 300,), "is not YAML here"),
    ],
)
def test_a_setting_s_fault_says_what_was_written_once_and_short(
    refused: Refuse, settings: tuple[str, ...], wanted: str
) -> None:
    (fault,) = refused("run", QUICKSTART, *(x for each in settings for x in ("--set", each)))
    assert wanted in fault
    assert len(fault) < 400


def test_an_option_and_a_setting_of_the_same_field_are_refused(refused: Refuse) -> None:
    (fault,) = refused("replay", QUICKSTART, "--machine", "h200", "--set", "machine=h100")
    assert fault == "--machine: stands beside --set machine; keep one"


def test_a_hub_s_name_is_not_looked_up(refused: Refuse) -> None:
    (fault,) = refused("model", "show", "meta-llama/Llama-3.1-8B")
    assert "there is no such file, and vsim downloads none; write a name of the catalogue" in fault
    (fault,) = refused("model", "show", "https://huggingface.co/x/y")
    assert fault.startswith("https://huggingface.co/x/y: ")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("calibrate", "--from", "samples:{0}", "--out", "m.yaml"), "`vsim calibrate --gpu`"),
        (("record", "fit", "{0}", "--out", "p.json"), "`vsim record attention`"),
        (("bound", "--attention", "{0}"), "`vsim record attention`"),
    ],
)
def test_a_file_that_is_no_arrow_is_told_what_writes_its_kind(
    refused: Refuse,
    arguments: tuple[str, ...],
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "calls.csv"
    table.write_text("at,in,out\n0,1,2\n")
    (fault,) = refused(*(each.format(table) for each in arguments))
    assert f"is no Arrow IPC file; {advice} writes one" in fault


def test_a_name_with_a_line_break_is_printed_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table, out = tmp_path / "a\nb.csv", tmp_path / "c\nd.arrow"
    table.write_text("at,in,out\n0,1,2\n")
    assert run(monkeypatch, "trace", "import", str(table), *IMPORT, str(out)) == 0
    assert run(monkeypatch, "trace", "check", str(out)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("--think 5", "--think: does nothing with --turns: 1; leave it out"),
        ("--turns 3", "--turns: above 1 needs --think"),
        ("--cv 2", "--cv: does nothing with --arrivals: poisson; leave it out"),
        ("--arrivals gamma", "--arrivals: gamma needs --cv"),
        (
            "--system-prompt-tokens 9",
            "--system-prompt-tokens: does nothing with --system-prompts: 0",
        ),
        ("--zipf 1", "--zipf: does nothing with fewer than two --system-prompts; leave it out"),
    ],
)
def test_a_drawn_trace_s_faults_are_told_of_options(
    refused: Refuse, options: str, wanted: str, tmp_path: Path
) -> None:
    lengths = "--prompt-quantiles 0.5:100 --output-quantiles 0.5:10 --requests 5 --rate 1"
    out = ("--out", str(tmp_path / "o.arrow"))
    assert refused("trace", "synth", *lengths.split(), *options.split(), *out) == [wanted]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (
            "9e20,5,5",
            "at: '9e20' is too late; write less than 4,611,686,018 s, or another time unit",
        ),
        ("1,9223372036854775807,5", "in: '9223372036854775807' is too large; write at most 1,073"),
    ],
)
def test_a_number_that_is_too_large_is_not_told_to_be_none(
    refused: Refuse, row: str, wanted: str, tmp_path: Path
) -> None:
    table = tmp_path / "calls.csv"
    table.write_text(f"at,in,out\n{row}\n")
    (fault,) = refused("trace", "import", str(table), *IMPORT, str(tmp_path / "o.arrow"))
    assert wanted in fault


def test_a_time_of_json_that_is_too_late_is_told_so(refused: Refuse, tmp_path: Path) -> None:
    rows = tmp_path / "t.jsonl"
    row = {"timestamp": 10**14, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
    rows.write_text(json.dumps(row) + "\n")
    (fault,) = refused("trace", "check", str(rows))
    assert "100000000000000 is too late; write less than 4,611,686,018,427 ms, or another" in fault
