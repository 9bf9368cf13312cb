"""How `vsim` ends when it is stopped, when nobody reads on, and where characters are lacking."""

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vsim_app
from tests.warm.running import Done, Warm

from vsim.traces.faults import refuse

VSIM = [sys.executable, "-m", "vsim_app"]
LENGTHS = ("--prompt-quantiles", "0.5:100,0.99:500", "--output-quantiles", "0.5:10")
SYNTH = ("trace", "synth", "--rate", "2", *LENGTHS)
SCENARIO = """\
name: endless
workload: {synth: {requests: 2000000, arrivals: {rate_per_s: 20}, prompt_tokens: "0.5:100",
                   output_tokens: "0.5:100"}}
machine: h100
model: llama-3.1-8b
tiers:
  - {tier: hbm, capacity: 4GiB}
  - {tier: host, capacity: 4GiB}
"""
QUICKSTART = str(Path(__file__).parents[1] / "scenarios" / "quickstart.yaml")
SMALL = ("run", QUICKSTART, "--set", "workload.synth.requests=20")
LONG = {
    "synth": (*SYNTH, "--requests", "5000000", "--turns", "4", "--think", "5",
              "--follow-up-quantiles", "0.5:20", "--out", "out"),
    "run": ("run", "s.yaml", "--out", "out"),
    "generate": ("record", "generate", "--prompt-tokens", "100000", "--tokens", "2000",
                 "--out", "out"),
    "bound": ("bound", "b.yaml", "--out", "out", "--json", "o.json"),
}  # fmt: skip
BOUND = """\
generate: {prompt_tokens: 30000, steps: 2000}
"""


@pytest.mark.parametrize("command", LONG)
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "vsim: interrupted\n"),
        (signal.SIGTERM, "vsim: terminated\n"),
        (signal.SIGHUP, "vsim: hung up\n"),
    ],
)
def test_a_signal_ends_every_command_with_one_line_and_leaves_nothing(
    command: str, number: signal.Signals, said: str, tmp_path: Path, warm: Warm
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "s.yaml").write_text(SCENARIO)
    (folder / "b.yaml").write_text(BOUND)
    before = sorted(os.listdir(folder))
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as to, err.open("wb") as errors:
        process = warm.start(LONG[command], folder, to.fileno(), errors.fileno())
        try:
            while not any(name.startswith(".out.vsim-") for name in os.listdir(folder)):
                assert not process.has_ended(), err.read_text()
                time.sleep(0.01)
            time.sleep(0.2)  # somewhere in its work
            os.kill(process.pid, number)
            code = process.wait()
        finally:
            process.kill()
    assert (code, out.read_text(), err.read_text()) == (128 + number, "", said)
    assert sorted(os.listdir(folder)) == before


def test_a_signal_ends_a_process_that_was_started_anew(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*VSIM, *LONG["synth"]], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            while not any(name.startswith(".out.vsim-") for name in os.listdir(tmp_path)):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "vsim: interrupted\n")
    assert not os.listdir(tmp_path)


Ended = Callable[[Callable[[], Any]], tuple[int, str]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """How `vsim` ends, with something else in place of its commands."""

    def run(command: Callable[[], Any]) -> tuple[int, str]:
        def command_line() -> None:
            command()
            raise SystemExit(0)  # as typer does

        monkeypatch.setattr(vsim_app, "_command_line", command_line)
        with pytest.raises(SystemExit) as caught:
            vsim_app.main()
        return int(caught.value.code or 0), capsys.readouterr().err

    return run


def test_an_error_that_compiled_code_makes_of_a_signal_is_the_signal(ended: Ended) -> None:
    """As numba does: a function returned a result with an exception set."""

    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except BaseException as error:
            raise SystemError("returned a result with an exception set") from error

    assert ended(command) == (130, "vsim: interrupted\n")


def test_a_signal_in_a_function_that_passes_no_error_on_is_not_lost(ended: Ended) -> None:
    """As in those that LLVM calls when it has compiled something."""

    def command() -> None:
        os_calls = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))
        os_calls()
        for _ in range(100):
            time.sleep(0.1)

    assert ended(command) == (130, "vsim: interrupted\n")


def test_an_error_of_our_own_keeps_its_traceback(ended: Ended) -> None:
    def command() -> None:
        raise SystemError("a fault of vsim")

    with pytest.raises(SystemError, match="a fault of vsim"):
        ended(command)


def test_signals_are_as_before_when_it_has_ended(ended: Ended) -> None:
    before = [signal.getsignal(number) for number in vsim_app._STOPS]
    assert ended(lambda: None) == (0, "")
    assert [signal.getsignal(number) for number in vsim_app._STOPS] == before


def test_what_the_caller_ignores_stays_ignored(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert ended(lambda: os.kill(os.getpid(), signal.SIGHUP)) == (0, "")
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_fault_is_one_line_whatever_its_file_is_called(ended: Ended) -> None:
    assert ended(lambda: refuse("a\nb\r\udcff\x1b[1m·", "is wrong")) == (
        2,
        "a\\nb\\r\\udcff\\x1b[1m·: is wrong\n",
    )


def test_a_full_disk_elsewhere_is_one_line(ended: Ended) -> None:
    def command() -> None:
        raise OSError(errno.ENOSPC, "")

    assert ended(command) == (
        2, "vsim: cannot write all of its output: No space left on device\n",
    )  # fmt: skip


# Pipes.


def to_a_reader_who_left(warm: Warm, *arguments: str, folder: Path) -> tuple[int, bytes]:
    """Run vsim with its output to a pipe that is closed before it writes."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = warm.run(arguments, folder, stdout=pipe.fileno())
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("schema",), (*SMALL, "--out", "out"),
     (*SYNTH, "--requests", "5", "--out", "out")],
)  # fmt: skip
def test_a_reader_who_leaves_ends_vsim_quietly(
    arguments: tuple[str, ...], tmp_path: Path, warm: Warm
) -> None:
    assert to_a_reader_who_left(warm, *arguments, folder=tmp_path) == (1, b"")
    assert (tmp_path / "out").exists() == ("out" in arguments)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_reader_who_leaves_ends_a_process_that_was_started_anew() -> None:
    shown = ["sh", "-c", '"$@" | :; exit ${PIPESTATUS:-0}', "sh", *VSIM, "--help"]
    done = subprocess.run(["bash", *shown[1:]], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_files_that_were_asked_for_are_written_where_nobody_reads(
    tmp_path: Path, warm: Warm
) -> None:
    (tmp_path / "b.yaml").write_text(
        "generate: {prompt_tokens: 160, steps: 20, heads: 2}\n"
        "memory: {hbm_share: [0.2, 0.3]}\npolicies: [lru]\n"
    )
    asked = ("bound", "b.yaml", "--out", "out", "--json", "o.json")
    assert to_a_reader_who_left(warm, *asked, folder=tmp_path) == (0, b"")
    assert sorted(os.listdir(tmp_path)) == ["b.yaml", "o.json", "out"]
    assert len(list((tmp_path / "out").glob("*.arrow"))) == 2
    assert to_a_reader_who_left(warm, "bound", "b.yaml", folder=tmp_path) == (1, b"")


@pytest.mark.parametrize("arguments", [SMALL, (*SYNTH, "--requests", "5", "--out", "out")])
def test_a_closed_output_is_no_fault(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *VSIM, *arguments], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Characters.


@pytest.mark.parametrize(
    ("encoding", "dot", "arrow", "name"),
    [
        ("utf-8", "·", "→", "résumé·Ω"),
        ("latin-1", "·", ">", "résumé·\\u03a9"),
        ("ascii", "|", ">", "r\\xe9sum\\xe9|\\u03a9"),
    ],
)
def test_a_summary_reads_well_where_characters_are_lacking(
    encoding: str, dot: str, arrow: str, name: str, tmp_path: Path, warm: Warm
) -> None:
    done = warm.run(
        (*SMALL, "--out", "résumé·Ω"), tmp_path, environment={"PYTHONIOENCODING": encoding}
    )
    shown = done.stdout.decode(encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown.startswith(f"quickstart {dot} llama-3.1-8b on h100\n")
    assert shown.endswith(f"Wrote {name}\n")
    links = shown[shown.index("link ") :].splitlines()[:3]
    assert links[1].startswith(f"host {arrow} hbm")
    assert links[0].index("  busy") + 6 == len(links[1].rstrip()), "columns stay aligned"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_is_no_text_is_printed_all_the_same(
    encoding: str, tmp_path: Path, warm: Warm
) -> None:
    name = os.fsdecode(b"a\xff.arrow")
    for place, code in ((name, 0), (f"no{name}/x", 2)):
        done = warm.run(
            (*SYNTH, "--requests", "5", "--out", place), tmp_path,
            environment={"PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert done.returncode == code
        assert b"a\\udcff.arrow" in (done.stdout if code == 0 else done.stderr)
        assert b"Traceback" not in done.stderr
    assert os.listdir(tmp_path) == [name]


def test_a_process_that_was_started_anew_prints_the_same(tmp_path: Path, warm: Warm) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    written = (*SYNTH, "--requests", "5", "--out", "·é\udcff")
    for arguments in (written, ("trace", "info", "nó\udcff")):
        done = subprocess.run(
            [*VSIM, *arguments], cwd=tmp_path, capture_output=True, check=False,
            env={**os.environ, **ascii_only},
        )  # fmt: skip
        forked = warm.run(arguments, tmp_path, environment=ascii_only)
        assert forked == Done(done.returncode, done.stdout, done.stderr)
