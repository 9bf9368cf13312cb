import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import vsim_app
from tests.command_line import run

from vsim.hwbackend import commands as hardware_commands
from vsim.sim.commands import command_line as sim_commands
from vsim.sim.scenario.scenario import schema_text
from vsim.traces import commands as trace_commands
from vsim.traces import record_command

HEAVY = ("numpy", "pyarrow", "numba", "scipy", "simpy", "highspy", "yaml")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the application, by its full name."""
    app = typer.Typer()
    sim_commands.register(app)
    trace_commands.register(app)
    hardware_commands.register(app, record_command.register(app))

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for inner, each in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", each)

    yield from walk("vsim", typer.main.get_command(app))


@pytest.mark.parametrize(("name", "command"), [pair for pair in commands() if pair[0] != "vsim"])
def test_every_command_and_each_of_its_parameters_has_help(name: str, command: Any) -> None:
    assert command.help, name
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_commands_are_the_documented_ones() -> None:
    names = {name for name, _ in commands()}
    assert {"vsim run", "vsim schema", "vsim trace info"} <= names


def test_a_command_alone_says_what_it_says_among_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    among_all = typer.main.get_command(vsim_app.application())
    for arguments in (["run", "--help"], ["trace", "--help"], ["trace", "nothing"], ["size", "-x"]):
        monkeypatch.setattr("sys.argv", ["vsim", *arguments])
        with pytest.raises(SystemExit) as ended:
            among_all()
        wanted = ended.value.code, capsys.readouterr()
        assert (run(monkeypatch, *arguments), capsys.readouterr()) == wanted
    assert run(monkeypatch, "rn") == 2
    assert "No such command 'rn'. Did you mean 'run'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["trace", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, vsim_app\n"
        f"sys.argv = ['vsim', *{arguments!r}]\n"
        "try:\n    vsim_app.main()\n"
        "except SystemExit as ended:\n    assert ended.code == 0\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded: []" in shown.stdout
    assert "Usage" in shown.stdout


def test_schema_prints_the_schema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "schema") == 0
    assert capsys.readouterr().out == schema_text()


TRACE = "".join(
    f'{{"timestamp": {100 * i}, "input_length": 1100, "output_length": 20, '
    f'"hash_ids": [1, 2, {10 + i}]}}\n'
    for i in range(8)
)
SCENARIO = """\
name: eight-requests
workload: {trace: trace.jsonl}
machine: h100
model: llama-3.1-8b
tiers:
  - {tier: hbm, capacity: 4GiB}
  - {tier: host, capacity: 4GiB}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "trace.jsonl").write_text(TRACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_run_prints_a_summary_that_fits_a_screen_and_writes_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "scenario.yaml", "--out", "out") == 0
    shown = capsys.readouterr()
    assert "8 of 8 requests completed" in shown.out
    assert "Bound by" in shown.out
    assert "Wrote out" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert shown.err == "", "there is no person to show progress to"
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["requests"] == {"submitted": 8, "completed": 8, "rejected": 0}
    assert set(summary["verdict"]) == {"bound_by", "step_bound_by", "why", "relief", "advice"}


def test_a_trace_option_replaces_what_the_scenario_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "five.jsonl").write_text("".join(TRACE.splitlines(True)[:5]))
    (folder / "trace.jsonl").unlink()
    assert run(monkeypatch, "run", "scenario.yaml", "--trace", "elsewhere/five.jsonl") == 0
    assert "5 of 5 requests completed" in capsys.readouterr().out


def test_set_overrides_a_field(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "scenario.yaml", "--set", "workload.requests=3") == 0
    assert "3 of 3 requests completed" in capsys.readouterr().out
    assert run(monkeypatch, "run", "scenario.yaml", "--set", "workload.requests=none") == 2
    assert capsys.readouterr().err.startswith("--set workload.requests: ")


def test_progress_is_shown_on_standard_error_to_a_person(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert run(monkeypatch, "run", "scenario.yaml") == 0
    shown = capsys.readouterr()
    assert "requests" in shown.err
    assert "\x1b" not in shown.out
