"""Faults in traces that `vsim run` reads: foreign formats and our own Arrow files."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vsim.traces.reading import read_requests
from vsim.traces.requests import requests_table, write_requests

SCENARIO = """\
name: a-scenario
workload:
  trace: trace.jsonl
machine: h100
model: llama-3.1-8b
tiers:
  - tier: hbm
"""
LINES = [
    f'{{"timestamp": {1000 * i}, "input_length": 1100, "output_length": 20, '
    f'"hash_ids": [1, 2, {10 + i}]}}'
    for i in range(4)
]
MOONCAKE_EDITS = {
    "JSON that breaks off": ("}", "", "is not JSON"),
    "a missing key": ('"output_length": 20, ', "", "output_length"),
    "a negative length": ("1100", "-1100", "input_length"),
    "a fraction of a token": ("1100", "1100.5", "input_length"),
    "a length that is not a number": ("1100", "NaN", "input_length"),
    "a length in words": ("1100", '"long"', "input_length"),
    "a time before the line above": ("2000", "500", "timestamp"),
    "a negative time": ("2000", "-1", "timestamp"),
    "a prompt beyond any context": ("1100", "20000000000", "input_length"),
    "an answer beyond any context": ("20, ", "9223372036854775807, ", "output_length"),
    "a time near the end of float": ("2000", "9007199254740991", "timestamp"),
    "a key twice": ('"output_length": 20', '"output_length": 20, "output_length": 2', "more than"),
    "values nested too deeply": ("[1, 2, 12]", "[" * 5000, "nested too deeply"),
    "an id of more than 64 bits": ("12]", "18446744073709551616]", "hash_ids"),
    "ids that are no list": ("[1, 2, 12]", "12", "hash_ids"),
    "a list where an object belongs": (LINES[2], "[1, 2]", "no JSON object"),
}
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
AZURE_EDITS = {
    "a time that is none": ("2023-11-16 18:15:50.9951690", "yesterday", ":3"),
    "a missing column": ("GeneratedTokens", "Tokens", "GeneratedTokens"),
    "a negative count": ("396", "-396", ":3"),
    "a count that is not a number": ("396", "nan", ":3"),
    "a cell too few": ("396,109", "396", ":3"),
    "the year 9999": ("2023-11-16 18:15:50.9951690", "9999-11-16 18:15:50.9951690", ":3"),
    "a column twice": ("GeneratedTokens", "GeneratedTokens,ContextTokens", ":1: ContextTokens"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    (tmp_path / "trace.jsonl").write_text("\n".join(LINES) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MOONCAKE_EDITS)
def test_a_wrong_line_of_json_is_refused_by_file_and_line(name: str, folder: Path, refused) -> None:
    old, new, words = MOONCAKE_EDITS[name]
    assert LINES[2].count(old) == 1
    lines = [*LINES[:2], LINES[2].replace(old, new), LINES[3]]
    (folder / "trace.jsonl").write_text("\n".join(lines) + "\n")
    (line,) = refused("run", "scenario.yaml", "--out", "out")
    assert line.startswith("trace.jsonl:3"), line
    assert words in line


@pytest.mark.parametrize("name", AZURE_EDITS)
def test_a_wrong_line_of_csv_is_refused_by_file_and_line(name: str, folder: Path, refused) -> None:
    old, new, words = AZURE_EDITS[name]
    assert AZURE.count(old) == 1
    (folder / "AzureTrace.csv").write_text(AZURE.replace(old, new))
    lines = refused("run", "scenario.yaml", "--trace", "AzureTrace.csv", "--out", "out")
    assert all(line.startswith("AzureTrace.csv") for line in lines), lines
    assert any(words in line for line in lines), lines


def test_all_wrong_lines_are_shown_at_once(folder: Path, refused) -> None:
    (folder / "trace.jsonl").write_text("\n".join(line.replace("1100", "-1") for line in LINES))
    assert len(refused("run", "scenario.yaml")) == 4


def test_arrivals_spread_over_more_than_a_trace_may_last_are_refused(folder: Path, refused) -> None:
    rows = [f'{{"timestamp": {t}, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}}'
            for t in (0, 10**10)]  # fmt: skip
    (folder / "trace.jsonl").write_text("\n".join(rows) + "\n")
    (line,) = refused("run", "scenario.yaml", "--set", "workload.rate_scale=1e-9")
    assert "workload.rate_scale: 1e-09 spreads the arrivals over more than 100 years" in line


def test_a_drawn_workload_beyond_the_memory_is_refused_at_its_field(folder: Path, refused) -> None:
    drawn = (
        "{requests: 200000, arrivals: {rate_per_s: 1}, prompt_tokens: 100000000, "
        "output_tokens: 5, block_tokens: 1}"
    )
    text = SCENARIO.replace("trace: trace.jsonl", f"synth: {drawn}")
    (folder / "scenario.yaml").write_text(text)
    (line,) = refused("run", "scenario.yaml")
    assert line.startswith("scenario.yaml:3:")
    assert "workload.synth.block_tokens: 20,000,000,000,000 prefix ids" in line
    slow = "workload.synth.arrivals.rate_per_s=1e-9"
    (line,) = refused("run", "scenario.yaml", "--set", slow)
    assert "workload.synth.arrivals.rate_per_s: 200,000 arrivals at 1e-09 a second" in line


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_gzip_that_breaks_off_is_refused(share: float, folder: Path, refused) -> None:
    lines = [LINES[0].replace('"timestamp": 0', f'"timestamp": {i}') for i in range(300)]
    whole = gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)
    (folder / "trace.jsonl.gz").write_bytes(whole[: int(share * len(whole))])
    lines = refused("run", "scenario.yaml", "--trace", "trace.jsonl.gz", "--out", "out")
    assert all(line.startswith("trace.jsonl.gz") for line in lines), lines
    assert any("cut off" in line or "truncated" in line for line in lines), lines


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.jsonl"),
        (b"\n\n", "blank.jsonl"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n", "Azure_head_only.csv"),
        (bytes(range(256)) * 8, "junk.jsonl"),
        (b"%PDF-1.7", "paper.pdf"),
        (b"ARROW1", "short.arrow"),
    ],
)
def test_a_file_that_holds_no_request_is_refused(
    content: bytes, name: str, folder: Path, refused
) -> None:
    (folder / name).write_bytes(content)
    lines = refused("run", "scenario.yaml", "--trace", name, "--out", "out")
    assert all(line.startswith(name) for line in lines), lines


@pytest.mark.parametrize("name", ["gone.arrow", "gone.jsonl.gz", "."])
def test_a_trace_that_is_no_file_is_refused(name: str, folder: Path, refused) -> None:
    (line,) = refused("run", "scenario.yaml", "--trace", name, "--out", "out")
    assert line.startswith(name)


def test_a_trace_named_in_the_scenario_is_sought_beside_it(
    folder: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "trace.jsonl").unlink()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    (line,) = refused("run", "../scenario.yaml")
    assert "../trace.jsonl" in line


def set_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    index = table.schema.get_field_index(name)
    field = table.schema.field(name).with_nullable(True)
    return table.set_column(index, field, pa.array(values, field.type))


def with_metadata(table: pa.Table, key: str, value: str) -> pa.Table:
    return table.replace_schema_metadata({**table.schema.metadata, key.encode(): value.encode()})


ARROW_EDITS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a version that is not read": (lambda t: with_metadata(t, "vsim.schema_version", "99"),
                                   "vsim.schema_version: has schema version 99"),
    "a kind that is not requests": (lambda t: with_metadata(t, "vsim.kind", "allocations"),
                                    "vsim.kind: holds allocations"),
    "a kind that does not exist": (lambda t: with_metadata(t, "vsim.kind", "request"),
                                   "did you mean 'requests'"),
    "no metadata": (lambda t: t.replace_schema_metadata(None), "vsim.kind"),
    "a missing column": (lambda t: t.drop_columns(["output_tokens"]), "output_tokens"),
    "a null": (lambda t: set_column(t, "prompt_tokens", [1100, None, 1100, 1100]),
               "row 1, column prompt_tokens"),
    "a negative count": (lambda t: set_column(t, "output_tokens", [20, 20, -20, 20]),
                         "row 2, column output_tokens"),
    "arrivals out of order": (lambda t: set_column(t, "arrival_ns", [0, 5, 4, 9]),
                              "row 2, column arrival_ns"),
    "an id used twice": (lambda t: set_column(t, "id", [0, 1, 1, 3]), "row 2, column id"),
    "a parent after its child": (lambda t: set_column(t, "parent", [3, None, None, None]),
                                 "row 0, column parent"),
    "a parent that is not there": (lambda t: set_column(t, "parent", [None, 77, None, None]),
                                   "row 1, column parent"),
    "more ids than blocks": (
        lambda t: set_column(t, "prefix_blocks", [[1, 2, 3], [1, 2, 3, 4, 5], [1], [1]]),
        "row 1, column prefix_blocks"),
    "a column of another type": (
        lambda t: t.set_column(t.schema.get_field_index("prompt_tokens"), "prompt_tokens",
                               pa.array(["a", "b", "c", "d"])), "prompt_tokens"),
    "no rows": (lambda t: t.slice(0, 0), "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARROW_EDITS)
def test_a_wrong_arrow_file_is_refused_by_row_and_column(name: str, folder: Path, refused) -> None:
    edit, words = ARROW_EDITS[name]
    requests = read_requests(folder / "trace.jsonl")
    write_requests(requests, folder / "good.arrow")
    with pa.ipc.open_file(folder / "good.arrow") as file:
        table = edit(file.read_all())
    with pa.ipc.new_file(str(folder / "bad.arrow"), table.schema) as writer:
        writer.write_table(table)
    lines = refused("run", "scenario.yaml", "--trace", "bad.arrow", "--out", "out")
    assert all(line.startswith("bad.arrow") for line in lines), lines
    assert any(words in line for line in lines), lines


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_an_arrow_file_that_breaks_off_is_refused(share: float, folder: Path, refused) -> None:
    write_requests(read_requests(folder / "trace.jsonl"), folder / "trace.arrow")
    whole = (folder / "trace.arrow").read_bytes()
    (folder / "trace.arrow").write_bytes(whole[: int(share * len(whole))])
    (line,) = refused("run", "scenario.yaml", "--trace", "trace.arrow", "--out", "out")
    assert line.startswith("trace.arrow: is cut off or damaged")


def test_the_good_arrow_file_is_the_trace_itself(folder: Path) -> None:
    """So that the edits above are what is refused."""
    requests = read_requests(folder / "trace.jsonl")
    write_requests(replace(requests, source="kept"), folder / "good.arrow")
    again = read_requests(folder / "good.arrow")
    assert requests_table(again).equals(requests_table(replace(requests, source="kept")))
    assert np.array_equal(again.prefix_ids, requests.prefix_ids)
