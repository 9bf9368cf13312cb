"""What the documentation says is so: commands, options, examples, scenarios, the shown result."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import vsim_app
from tests.warm.running import Warm

from vsim.reports.terminal import show_summary
from vsim.sim.eviction.state import POLICIES
from vsim.sim.machine.loading import catalogue_names
from vsim.sim.model.loading import catalogue_names as model_names
from vsim.sim.scenario.scenario import load_scenario
from vsim.sim.simulation import simulate
from vsim.traces.importers.formats import FORMATS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ROADMAP.md")
BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
ENGINE_TIME = re.compile(r"\([\d.,]+ s of engine, [\d,]+ requests/s\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, with the comment before it."""

    kind: str
    note: str
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(m["kind"], m["note"] or "", m["text"]) for m in BLOCK.finditer(text)]


def application() -> Any:
    """The application that `vsim` runs, as a command with its groups."""
    return typer.main.get_command(vsim_app.application())


def commands() -> Iterator[tuple[str, Any]]:
    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for inner, each in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", each)

    return walk("vsim", application())


def vsim_lines(text: str) -> list[list[str]]:
    """The words of each line that calls vsim, in shell blocks and in code spans."""
    shell = [line for b in blocks(text) if b.kind == "sh" for line in b.text.splitlines()]
    spans = re.findall(r"`(vsim [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    lines = [*shell, *(" ".join(span.split()) for span in spans)]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("vsim ")]


def test_every_command_and_each_of_its_parameters_has_help() -> None:
    for name, command in commands():
        assert command.help, name
        for parameter in command.params:
            if parameter.name != "help":
                assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_documented_commands_and_options_exist(document: str) -> None:
    known = dict(commands())
    lines = vsim_lines((REPOSITORY / document).read_text())
    for words in lines:
        name = "vsim"
        while len(words) > 1 and f"{name} {words[1]}" in known:
            name = f"{name} {words.pop(1)}"
        command = known[name]
        if getattr(command, "commands", None):
            rest = [word for word in words[1:] if not word.startswith("-")]
            assert not rest, f"{name} has no command {rest}"
        if "--" in words:  # what follows is another program's
            words = words[: words.index("--")]
        options = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        assert used <= options | {"--help"}, f"{name}: {used - options}"
    assert lines or document == "CONTRIBUTING.md"


def test_the_readme_explains_every_command_that_a_user_has() -> None:
    leaves = {name for name, command in commands() if not getattr(command, "commands", None)}
    assert not {name for name in leaves if name not in " ".join(README.split())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's examples follow each other, as in a clone."""
    path = tmp_path_factory.mktemp("clone")
    for name in ("scenarios", "sim", "traces"):
        (path / name).symlink_to(REPOSITORY / name)
    return path


EXAMPLES = [b for b in blocks(README) if b.kind in ("sh", "python")]
NOT_RUN = "not run: "


def first_line(block: Block) -> str:
    return block.text.splitlines()[0][:60]


def test_examples_that_are_not_run_say_why() -> None:
    left_out = [block for block in EXAMPLES if block.note]
    assert len(left_out) < len(EXAMPLES) / 2
    for block in left_out:
        assert block.note.startswith(NOT_RUN), first_line(block)
        assert len(block.note.removeprefix(NOT_RUN).split()) >= 3, first_line(block)


@pytest.mark.parametrize("block", [b for b in EXAMPLES if not b.note], ids=first_line)
def test_an_example_of_the_readme_runs(block: Block, folder: Path, warm: Warm) -> None:
    shell = ["bash", "-euo", "pipefail", "-c"]
    runner = [sys.executable, "-c"] if block.kind == "python" else shell
    path = os.pathsep.join([str(warm.folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*runner, block.text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout


@pytest.fixture(scope="module")
def shown() -> str:
    """The quickstart's output in the README."""
    (block,) = [b for b in blocks(README) if b.note.startswith("output of the command above")]
    return block.text


def test_the_shown_result_is_the_quickstarts(shown: str) -> None:
    summary = simulate(
        load_scenario(REPOSITORY / "scenarios" / "quickstart.yaml"), base=REPOSITORY / "scenarios"
    ).summary
    console = io.StringIO()
    show_summary(summary, "out/quickstart", file=console)

    def lasting(text: str) -> list[str]:
        return [line.rstrip() for line in ENGINE_TIME.sub("", text).splitlines()]

    assert lasting(console.getvalue()) == lasting(shown)


def test_figures_in_the_explanation_are_those_shown(shown: str) -> None:
    explanation = README.partition("Line by line:")[2].partition("## What is in the result")[0]
    quoted = [span for span in re.findall(r"`([^`\n]+)`", explanation) if span[0] in "p0123456789"]
    assert quoted
    for figure in quoted:
        assert figure in shown, figure


def test_the_readme_names_every_scenario_machine_model_policy_and_format() -> None:
    scenarios = {path.name for path in (REPOSITORY / "scenarios").glob("*.yaml")}
    assert set(re.findall(r"^\| `(\w+\.yaml)` \|", README, re.M)) == scenarios
    for name in (*catalogue_names(), *model_names(), *POLICIES, *FORMATS):
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_name_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    folders = ("sim", "traces", "reports", "scenarios", "tests")
    spans = re.findall(rf"`((?:{'|'.join(folders)})/[\w./-]*)`", text)
    for name in [*links, *spans]:
        if not name.startswith("http"):
            assert (REPOSITORY / name).exists(), f"{document}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_that_documents_name_exist(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = re.findall(r"^make (\w+)", text, re.M) + re.findall(r"`make (\w+)`", text)
    assert set(named) <= targets
