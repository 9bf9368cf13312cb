"""The `vsim trace` commands."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests, write_requests
from vsim.traces.schema import schema_of

Vsim = Callable[..., Any]
LINES = """\
{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 1000, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}
"""


@pytest.fixture
def mooncake(tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_text(LINES)
    return path


def test_info_of_a_foreign_file_and_of_its_import_agree(
    tmp_path: Path, mooncake: Path, vsim: Vsim
) -> None:
    out = tmp_path / "m.arrow"
    done = vsim("trace", "import", mooncake, "--out", out, "--licence", "CC0-1.0")
    assert done.code == 0
    assert done.out == f"{out}: 2 requests from Mooncake trace m.jsonl\n"
    sizes = ("--cache-blocks", "1,2")
    one = vsim("trace", "info", mooncake, "--json", *sizes).out
    assert vsim("trace", "info", out, "--json", *sizes).out == one
    assert json.loads(one)["prefix"] == {
        "block_tokens": 512, "references": 4, "unique": 2, "hit_ratio": 0.5,
        "lru_hit_ratio": {"1": 0.25, "2": 0.5}, "lru_curve": None,
    }  # fmt: skip


def test_info_gives_lru_s_hits_at_every_size(mooncake: Path, vsim: Vsim) -> None:
    """The second prompt finds its first block from one block on, and both from two on."""
    found = json.loads(vsim("trace", "info", mooncake, "--json", "--mrc").out)["prefix"]
    assert found["lru_curve"] == [[0, 0], [1, 1], [2, 2]]
    shown = vsim("trace", "info", mooncake, "--mrc").out.splitlines()
    assert [line.split() for line in shown[-2:]] == [
        ["1", "25.0", "%", "75.0", "%"],
        ["2", "50.0", "%", "50.0", "%"],
    ]


def test_a_curve_needs_prefix_blocks(tmp_path: Path, vsim: Vsim) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("timestamp_s,prompt_tokens,output_tokens\n0,10,1\n")
    done = vsim("trace", "info", path, "--mrc")
    assert done.code == 2
    assert done.err.startswith("--mrc: does nothing here: the trace has no prefix blocks")


def test_info_fits_a_terminal_of_100_columns(tmp_path: Path, mooncake: Path, vsim: Vsim) -> None:
    shown = vsim("trace", "info", mooncake, "--cache-blocks", "1,1000000").out
    assert "prefix hits    50.0 % with an unbounded cache" in shown
    assert "25.0 % with LRU over 1 blocks" in shown
    assert max(map(len, shown.splitlines())) <= 100
    out = tmp_path / "s.arrow"
    vsim(
        "trace", "synth", "--out", out, "--requests", 50, "--rate", 2, "--prompt-quantiles",
        "0.5:100,0.9:900", "--output-quantiles", "0.5:10", "--turns", 3, "--think", 5,
        "--tenant", "a:1", "--tenant", "b:3:2", "--system-prompts", 3,
        "--system-prompt-tokens", 64, "--zipf", 1, "--most-tokens", 5000,
        "--follow-up-quantiles", "0.5:20", "--arrivals", "onoff", "--on", 5, "--off", 5,
    )  # fmt: skip
    shown = vsim("trace", "info", out).out
    assert max(map(len, shown.splitlines())) <= 100
    for word in ("sessions", "follow-ups", "tenants", "priorities", "think time, s"):
        assert word in shown


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, vsim: Vsim) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = vsim(
            "trace", "synth", "--out", tmp_path / name, "--requests", 100, "--rate", 2, "--seed",
            seed, "--prompt-quantiles", "0.5:100", "--output-quantiles", "0.5:10,0.9:30",
        )  # fmt: skip
        assert done.code == 0
    same = (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").read_bytes() == same
    assert (tmp_path / "c").read_bytes() != same


def test_info_of_other_kinds_shows_their_columns(tmp_path: Path, vsim: Vsim) -> None:
    import pyarrow as pa

    row = {"time_ns": 5, "thread": 1, "stream": 0, "op": "free", "handle": 3, "bytes": 8}
    table = pa.Table.from_pylist([row], schema=schema_of("allocations"))
    path = tmp_path / "a.arrow"
    write_table(table, path, "allocations", Provenance("a test"))
    shown = vsim("trace", "info", path).out
    assert shown.startswith("1 rows of allocations\n")
    assert max(map(len, shown.splitlines())) <= 100
    assert json.loads(vsim("trace", "info", path, "--json").out)["kind"] == "allocations"
    refused = vsim("trace", "info", path, "--cache-blocks", "5")
    assert refused.code == 2
    assert refused.err.startswith("--cache-blocks: does nothing with a trace of allocations")


def test_check_says_what_is_sound_and_what_is_not(
    tmp_path: Path, mooncake: Path, requests: Requests, vsim: Vsim
) -> None:
    path = tmp_path / "t.arrow"
    write_requests(requests, path)
    assert vsim("trace", "check", path).out == f"{path}: 4 rows of requests, no faults\n"
    assert vsim("trace", "check", mooncake).out == f"{mooncake}: 2 requests, no faults\n"
    path.write_bytes(path.read_bytes()[:-30])
    refused = vsim("trace", "check", path)
    assert refused.code == 2
    assert refused.err.startswith(f"{path}: is cut off or damaged")
    assert refused.err.count("\n") == 1


def test_every_command_that_imports_prints_every_note(
    tmp_path: Path, vsim: Vsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "input_length,output_length,host\n" + "500,5,a\n400,0,b\n" * 2
    Path("t.csv").write_text(lines)
    Path("s.yaml").write_text(
        "name: s\nseed: 4\nworkload: {trace: t.csv}\nmachine: h100\nmodel: llama-3.1-8b\n"
        "tiers: [{tier: hbm}]\n"
    )
    rest = (
        "t.csv: note: columns not read: host\n"
        "t.csv: note: 2 rows had 0 output tokens and were raised to 1\n"
    )
    drawn = "t.csv: note: 4 arrivals drawn with seed {} at 1 requests/s\n"
    for arguments in (("info",), ("info", "--json"), ("check",), ("import", "--out", "o.arrow")):
        done = vsim("trace", arguments[0], "t.csv", *arguments[1:])
        assert done.code == 0
        assert done.err == drawn.format(0) + rest
    done = vsim("run", "s.yaml", "--out", "out")
    assert done.err == drawn.format(4) + rest
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["source_notes"][0] == "4 arrivals drawn with seed 4 at 1 requests/s"
    assert vsim("run", "s.yaml", "--trace", "t.csv").err == drawn.format(4) + rest
    Path("n.yaml").write_text(Path("s.yaml").read_text().replace("seed: 4\n", ""))
    for arguments in (("trace", "info", "o.arrow"), ("run", "n.yaml", "--trace", "o.arrow")):
        done = vsim(*arguments)
        assert done.err == (drawn.format(0) + rest).replace("t.csv", "o.arrow")


def test_no_command_advises_an_option_that_it_lacks(
    tmp_path: Path, vsim: Vsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("unsorted").write_text("timestamp_s,input_length,output_length\n5,5,5\n4,5,5\n")
    Path("unnamed").write_text("when,in,out\n5,5,5\n")
    Path("unit").write_text("timestamp,input_length,output_length\n5,5,5\n")
    Path("blocks").write_text("timestamp_s,input_length,output_length,hash_ids\n5,5,5,1\n")
    for name in ("unsorted", "unnamed", "unit", "blocks"):
        for command in ("info", "check"):
            refused = vsim("trace", command, name)
            assert refused.code == 2
            assert "`vsim trace import --" in refused.err
    assert vsim("trace", "import", "unsorted", "--out", "o.arrow", "--sort").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "F", "--cache-blocks", "0"), "--cache-blocks: '0' is no number of blocks"),
        (("info", "F", "--cache-blocks", "1e3"), "--cache-blocks: '1e3' is no number of blocks"),
        (("import", "F", "--out", "O", "--format", "moon"), "--format: 'moon' is unknown"),
        (("import", "F", "--out", "O", "--time-unit", "h"), "--time-unit: 'h' is unknown"),
        (("import", "F", "--out", "O", "--session-rate", "nan"), "--session-rate: nan is no rate"),
        (("import", "F", "--out", "O", "--think-mean", "-1"), "--think-mean: -1 is no time"),
        (("import", "F", "--out", "O", "--think-mean", "4"), "--think-mean: does nothing with"),
        (("import", "F", "--out", "O", "--columns", "a"), "--columns: 'a' names no column"),
        (("import", "F", "--out", "O", "--columns", "prompt=a,prompt=b"), "--columns: prompt is"),
        (("synth", "--requests", "0"), "--requests: 0: Input should be greater than 0"),
        (("synth", "--rate", "nan"), "--rate: nan: Input should be"),
        (("synth", "--prompt-quantiles", "x"), "--prompt-quantiles: 'x': 'x' is no point"),
        (("synth", "--cv", "2"), "--cv: does nothing with --arrivals: poisson"),
        (("synth", "--arrivals", "burst"), "--arrivals: 'burst': Input should be 'poisson',"),
        (("synth", "--turns", "3"), "--turns: above 1 needs --think"),
        (("synth", "--tenant", "a"), "--tenant: 'a' is no tenant; write name:share"),
        (("synth", "--tenant", "a:x"), "--tenant: 'x': Input should be a valid number"),
        (("synth", "--tenant", "a:2"), "--tenant: share does nothing with one tenant"),
        (("synth", "--rate", "1e-9"), "--rate: 5 arrivals at 1e-09 a second take more than 100"),
        (("import", "F", "--out", "O", "--seed", "0"), "--seed: does nothing with the format"),
        (("import", "F", "--out", "O", "--source", "a\nb"), "--source: holds what does not print"),
    ],
)
def test_a_wrong_option_is_named(
    tmp_path: Path, mooncake: Path, vsim: Vsim, arguments: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out.arrow"
    words = [{"F": str(mooncake), "O": str(out)}.get(word, word) for word in arguments]
    if words[0] == "synth":
        given = {
            "--requests": "5", "--rate": "1", "--prompt-quantiles": "0.5:9",
            "--output-quantiles": "0.5:9", "--out": str(out),
        }  # fmt: skip
        for name, value in given.items():
            if name not in words:
                words += [name, value]
    ended = vsim("trace", *words)
    assert ended.code == 2
    assert ended.err.startswith(message)
    assert ended.err.count("\n") == 1
    assert not out.exists()


def test_every_command_and_option_has_help() -> None:
    from vsim.traces.commands import register

    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    trace = group.commands["trace"]
    assert isinstance(trace, TyperGroup)
    assert set(trace.commands) == {"info", "import", "synth", "check"}
    for command in trace.commands.values():
        assert command.help
        for parameter in command.params:
            assert getattr(parameter, "help", None), (command.name, parameter.name)


def test_the_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, vsim.traces.commands\n"
        "heavy = {'numpy', 'pyarrow', 'numba', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_import_keeps_where_the_data_are_from(
    tmp_path: Path, mooncake: Path, vsim: Vsim
) -> None:
    from vsim.traces.arrow_io import metadata_of, read_table

    out = tmp_path / "o.arrow"
    vsim("trace", "import", mooncake, "--out", out, "--source", "ours", "--licence", "CC0-1.0")
    metadata = metadata_of(read_table(out))
    assert metadata["source"] == "ours"
    assert metadata["licence"] == "CC0-1.0"
    assert read_requests(out).source == "ours"
