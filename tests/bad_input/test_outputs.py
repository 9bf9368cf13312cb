"""Outputs that may not be written: one line each, before the work starts, and nothing changes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command_line import run
from tests.warm.running import Warm

from vsim.traces.attention import write_attention
from vsim.traces.attention_generator import GeneratorSpec, generate
from vsim.traces.reading import read_requests
from vsim.traces.requests import write_requests

Refuse = Callable[..., list[str]]
Done = Callable[..., None]

TRACE = "".join(
    f'{{"timestamp": {100 * i}, "input_length": 1100, "output_length": 20, '
    f'"hash_ids": [1, 2, {10 + i}]}}\n'
    for i in range(4)
)
SCENARIO = """\
name: outputs
workload: {trace: trace.jsonl}
machine: h100
model: llama-3.1-8b
tiers:
  - {tier: hbm, capacity: 4GiB}
  - {tier: host, capacity: 4GiB}
"""
DRAWN = ("--requests", "5", "--rate", "2", "--prompt-quantiles", "0.5:100",
         "--output-quantiles", "0.5:10")  # fmt: skip
BOUND = ("bound", "--attention", "a.arrow", "--policy", "lru")
RECORD = ("record", "attention", "--prompt", "p.txt")

COMMANDS: dict[str, tuple[str, ...]] = {
    "synth": ("trace", "synth", *DRAWN, "--out"),
    "import": ("trace", "import", "trace.jsonl", "--out"),
    "record --out": (*RECORD, "--out"),
    "record --cost": (*RECORD, "--out", "new.arrow", "--cost"),
    "fit --out": ("record", "fit", "a.arrow", "--out"),
    "fit --curves": ("record", "fit", "a.arrow", "--out", "new.json", "--curves"),
    "generate": ("record", "generate", "--prompt-tokens", "64", "--tokens", "4", "--out"),
    "bound --json": (*BOUND, "--json"),
    "bound --out": (*BOUND, "--out"),
    "run": ("run", "scenario.yaml", "--out"),
}
"""Every command that writes, up to the place it writes to."""
FOLDERS = ("bound --out", "run")
EACH = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of drawn attention."""
    path = tmp_path_factory.mktemp("attention") / "a.arrow"
    write_attention(generate(GeneratorSpec(2_400, 300, 2)), path)
    return path.read_bytes()


@pytest.fixture
def folder(attention: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "trace.jsonl").write_text(TRACE)
    (tmp_path / "p.txt").write_text("the cat sat on the mat")
    (tmp_path / "a.arrow").write_bytes(attention)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rejected(folder: Path, refused: Refuse) -> Callable[..., str]:
    """Run vsim where it must refuse an output: one line, and every byte stays."""

    def content() -> dict[Path, tuple[int, bytes]]:
        regular = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        return {path: (path.stat().st_ino, path.read_bytes()) for path in regular}

    def run(*arguments: str) -> str:
        before = content()
        (line,) = refused(*arguments)
        assert content() == before
        return line

    return run


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    """Run vsim where it must succeed."""

    def succeed(*arguments: str) -> None:
        assert run(monkeypatch, *arguments) == 0, capsys.readouterr().err
        capsys.readouterr()

    return succeed


Rejected = Callable[..., str]


@EACH
def test_a_place_that_can_t_be_written_is_refused_by_name(
    command: str, folder: Path, rejected: Rejected
) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("notes.txt")
    (folder / "loop").symlink_to("loop")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    option = next(word for word in reversed(COMMANDS[command]) if word.startswith("--"))
    wanted = {
        "pipe": "is a pipe",
        "link": "is a symbolic link to",
        "loop": "is a symbolic link to",
        "loop/x": "Too many levels of symbolic links" if not command.startswith("record") else "",
        "x" * 300: "File name too long",
        "notes.txt": "is a file" if command in FOLDERS else "holds what vsim did not write",
        "notes.txt/x": "",  # each says it in its own words
        "mine": "did not write" if command in FOLDERS else "is a folder; name a file in it",
        "/dev/null": "is a device",
        "/proc/x": "",
        "": "",
    }
    for place, message in wanted.items():
        line = rejected(*COMMANDS[command], place)
        assert line.startswith(f"{option}: "), line
        assert message in line


@EACH
def test_outputs_are_checked_before_the_work(
    command: str, folder: Path, rejected: Rejected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No input is even opened: it could be large, and is not there at all in this test."""
    for name in ("scenario.yaml", "trace.jsonl", "p.txt", "a.arrow"):
        (folder / name).unlink()
    assert "is a device" in rejected(*COMMANDS[command], "/dev/null")


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"record --out", "record --cost"}))
def test_the_same_command_again_replaces_its_result(command: str, folder: Path, done: Done) -> None:
    before = set(os.listdir(folder))
    written = []
    for _ in range(2):
        done(*COMMANDS[command], "o[u]t *")
        out = folder / "o[u]t *"
        files = sorted(out.iterdir()) if out.is_dir() else [out]
        written.append({path.name: path.read_bytes() for path in files})
    made = {"o[u]t *", "new.json"} if command == "fit --curves" else {"o[u]t *"}
    assert set(os.listdir(folder)) == before | made
    for result in written:  # all but how long it took
        result.pop("summary.json", None)
        result.pop("bound.json", None)
    if command != "bound --json":
        assert written[0] == written[1]


INPUTS = {
    "the trace it imports": ("trace", "import", "r.arrow", "--out", "r.arrow"),
    "its prompt": ("record", "attention", "--prompt", "a.arrow", "--out", "a.arrow"),
    "its prompt as costs": (*RECORD, "--out", "new.arrow", "--cost", "p.txt"),
    "its recording": ("record", "fit", "a.arrow", "--out", "a.arrow"),
    "its recording as curves": (
        "record", "fit", "a.arrow", "--out", "new.json", "--curves", "a.arrow",
    ),
    "the profiles it draws by": (
        "record", "generate", "--prompt-tokens", "64", "--profiles", "h.json", "--out", "h.json",
    ),
    "its attention": (*BOUND, "--json", "a.arrow"),
    "its scenario": ("bound", "b.yaml", "--json", "b.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("arguments", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("name", ["as it is", "hard link"])
def test_no_command_writes_over_what_it_reads(
    arguments: tuple[str, ...], name: str, folder: Path, rejected: Rejected
) -> None:
    write_requests(read_requests(folder / "trace.jsonl"), folder / "r.arrow")
    (folder / "b.yaml").write_text("attention: a.arrow\npolicies: [lru]\n")
    (folder / "h.json").write_text('{"vsim": {"kind": "attention"}, "heads": []}')
    *words, place = arguments
    if name == "hard link":
        os.link(place, "other")
        place = "other"
    assert "which this command reads; name another file" in rejected(*words, place)


@pytest.mark.parametrize("command", FOLDERS)
def test_a_result_that_holds_an_input_stays(
    command: str, folder: Path, done: Done, rejected: Rejected
) -> None:
    done(*COMMANDS[command], "res")
    summary, *rest = sorted(os.listdir("res"), key=lambda name: not name.endswith("json"))
    trace = f"res/{rest[0]}"
    if command == "run":
        line = rejected("run", "scenario.yaml", "--trace", trace, "--out", "res")
        inner = rejected("run", f"res/{summary}", "--out", "res")
    else:
        line = rejected("bound", "--attention", trace, "--out", "res")
        inner = rejected("bound", f"res/{summary}", "--out", "res")
    assert f"--out: res: holds {trace}, which this command reads" in line
    assert f"--out: res: holds res/{summary}, which this command reads" in inner


def test_a_trace_that_the_scenario_names_is_kept_from_the_result(
    folder: Path, done: Done, rejected: Rejected
) -> None:
    done(*COMMANDS["run"], "res")
    line = rejected(
        "run", "scenario.yaml", "--set", "workload.trace=res/requests.arrow", "--out", "res"
    )
    assert "res: holds res/requests.arrow, which this command reads" in line
    done(*BOUND, "--out", "placed")
    (name,) = [name for name in os.listdir("placed") if name.endswith(".arrow")]
    (folder / "b.yaml").write_text(f"attention: placed/{name}\npolicies: [lru]\n")
    line = rejected("bound", "b.yaml", "--out", "placed")
    assert f"placed: holds placed/{name}, which this command reads" in line


@pytest.mark.parametrize("command", FOLDERS)
def test_a_trace_under_a_result_s_name_stays(
    command: str, folder: Path, done: Done, rejected: Rejected
) -> None:
    """It is no input of this command, so only its own mark tells it from the result."""
    done(*COMMANDS[command], "res")
    (name,) = [name for name in os.listdir("res") if name in ("requests.arrow", "bound.json")]
    target = folder / "res" / (name if command == "run" else "mine.arrow")
    shutil.copy(folder / "a.arrow", target)
    assert f"(it holds {'another ' if command == 'run' else ''}{target.name}" in rejected(
        *COMMANDS[command], "res"
    )


def test_a_foreign_folder_with_a_result_s_names_stays(folder: Path, rejected: Rejected) -> None:
    (folder / "res").mkdir()
    write_requests(read_requests(folder / "trace.jsonl"), folder / "res" / "requests.arrow")
    (folder / "res" / "summary.json").write_text(json.dumps({"scenario": "x", "seed": 1}))
    (folder / "res" / "bound.json").write_text("{}")
    assert "did not write" in rejected("run", "scenario.yaml", "--out", "res")
    assert "did not write" in rejected(*BOUND, "--out", "res")


def test_a_result_of_another_command_stays(folder: Path, done: Done, rejected: Rejected) -> None:
    done(*COMMANDS["run"], "res")
    done(*BOUND, "--out", "placed", "--json", "b.json")
    assert "did not write" in rejected(*COMMANDS["run"], "placed")
    assert "did not write" in rejected(*BOUND, "--out", "res")
    assert "holds bound, not head_profiles" in rejected(
        "record", "fit", "a.arrow", "--out", "b.json"
    )
    assert "holds run, not bound" in rejected(*BOUND, "--json", "res/summary.json")
    assert "holds attention, not requests" in rejected(*COMMANDS["synth"], "a.arrow")


@pytest.mark.parametrize(
    "arguments",
    [
        (*BOUND, "--json", "x", "--out", "x"),
        (*BOUND, "--json", "x/b.json", "--out", "x"),
        (*BOUND, "--json", "x", "--out", "x/y"),
        (*BOUND, "--json", "./x", "--out", "y/../x"),
        (*RECORD, "--out", "x", "--cost", "x"),
        (*RECORD, "--out", "x", "--cost", "./x"),
        ("record", "fit", "a.arrow", "--out", "x", "--curves", "x"),
    ],
)
def test_two_outputs_of_one_command_stand_apart(
    arguments: tuple[str, ...], folder: Path, rejected: Rejected
) -> None:
    assert "; name two places apart" in rejected(*arguments)


def test_a_star_is_a_folder_s_name(folder: Path, done: Done) -> None:
    for hidden in (".git", ".a.vsim-0123456789abcdef", ".notes.vsim-x"):
        (folder / hidden).mkdir()
        (folder / hidden / "mine").write_text("mine")
    before = set(os.listdir(folder))
    for _ in range(2):
        done(*BOUND, "--out", "*")
        assert set(os.listdir(folder)) == before | {"*"}
    assert (folder / ".git" / "mine").exists()


def test_schedules_of_two_cases_have_two_names(folder: Path, done: Done) -> None:
    shares = "memory.hbm_share=[0.3, 0.30000001]"
    done(*BOUND, "--set", shares, "--out", "out")
    assert len(list((folder / "out").glob("*.arrow"))) == 2


def test_two_runs_at_once_to_one_place_leave_one_result(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, warm: Warm
) -> None:
    said = tmp_path_factory.mktemp("said")
    ended = []
    with (
        (said / "out").open("w") as out,
        (said / "one").open("w") as one,
        (said / "two").open("w") as two,
    ):
        calls = [
            warm.start((*COMMANDS["run"], "res"), folder, out.fileno(), errors.fileno())
            for errors in (one, two)
        ]
        for call, name in zip(calls, ("one", "two"), strict=True):
            ended.append((call.wait(), (said / name).read_text()))
    assert (0, "") in ended
    for code, err in ended:
        assert code == 0 or (code == 2 and "res: another vsim is writing to it" in err), err
    assert json.loads((folder / "res" / "summary.json").read_text())["requests"]["completed"] == 4
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
