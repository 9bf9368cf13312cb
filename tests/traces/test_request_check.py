"""Requests in memory hold together and stay within limits before anything runs on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vsim.traces.arrow_io import read_table
from vsim.traces.faults import InputError
from vsim.traces.limits import MOST_BLOCK_TOKENS, MOST_NS, MOST_TOKENS
from vsim.traces.request_check import check_requests, request_faults
from vsim.traces.request_limits import thought_too_long
from vsim.traces.requests import Requests, requests_table, write_requests


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


EDITS: list[tuple[dict[str, Any], str]] = [
    ({"output_tokens": ints(1, 0, 3, 4)}, "row 1, output_tokens: is 0; give 1 or more"),
    ({"prompt_tokens": ints(40, 8, 0, 1)}, "row 2, prompt_tokens: is 0; give 1 or more"),
    ({"output_tokens": ints(1, 2, 2**63 - 1, 4)}, "row 2, prompt_tokens: prompt 60 and output"),
    ({"prompt_tokens": ints(40, MOST_TOKENS, 60, 1)}, "row 1, prompt_tokens: prompt 1073741824"),
    ({"tenant": np.array([0, 1, 0, 3], dtype=np.int32)}, "row 3, tenant: is 3; there are 3"),
    ({"tenant": np.array([0, -1, 0, 2], dtype=np.int32)}, "row 1, tenant: is -1; give 0 or more"),
    ({"arrival_ns": ints(0, 5, 4, 9)}, "row 2, arrival_ns: is 4 after 5"),
    ({"arrival_ns": ints(-1, 5, 5, 9)}, "row 0, arrival_ns: is -1; give 0 or more"),
    ({"arrival_ns": ints(0, 5, 5, MOST_NS + 1)}, "row 3, arrival_ns: is 3.15e+09 s after"),
    ({"parent": ints(-1, -1, 2, -1)}, "row 2, parent: is row 2; a parent is an earlier row"),
    ({"parent": ints(-1, 9, 0, -1)}, "row 1, parent: is row 9; a parent is an earlier row"),
    ({"think_ns": ints(-1, -1, MOST_NS + 1, -1)}, "row 2, think_ns: with the turns before it"),
    ({"think_ns": ints(-1, -2, 2, -1)}, "row 1, think_ns: is -2; give -1 or more"),
    ({"id": ints(10, 11, 11, 30)}, "row 1, id: 11 is there twice"),
    ({"prefix_offsets": ints(0, 3, 3, 7, 8)}, "prefix_offsets: must be 5 numbers that rise"),
    ({"prefix_offsets": ints(0, 4, 3, 7, 7)}, "prefix_offsets: must be 5 numbers that rise"),
    ({"prefix_offsets": ints(0, 3, 3, 7)}, "prefix_offsets: must be 5 numbers that rise"),
    ({"prefix_ids": ints(100, 101, 102, 100, 101, 103, -4)}, "row 2, prefix_ids: holds -4"),
    ({"prefix_ids": ints(100, 101, 102, 101, 100, 103, 4)}, "row 2, prefix_ids: id 101 stands"),
    ({"prompt_tokens": ints(40, 8, 40, 1)}, "row 2, prefix_ids: holds 4 ids; 40 tokens fill"),
    ({"block_tokens": 0}, "block_tokens: is 0, but there are prefix_ids"),
    ({"block_tokens": MOST_BLOCK_TOKENS + 1}, "block_tokens: is 1048577; give from 0 to"),
    ({"tenant_names": ()}, "tenant_names: are 0; give from 1 to"),
    ({"prefix_ids": np.zeros(7, np.int16)}, "prefix_ids: is int16; give one dimension of int64"),
    ({"session": ints(3, -1, 3)}, "session: has 3 values for 4 requests"),
    ({"priority": ints(0, 0, 0, 0)}, "priority: is int64; give one dimension of int32"),
    ({"prompt_tokens": np.array([40.0, 8, 60, 1])}, "prompt_tokens: is float64; give one"),
    ({"arrival_ns": [0, 5, 5, 9]}, "arrival_ns: is list; give one dimension of int64"),
]  # fmt: skip


def test_sound_requests_pass(requests: Requests) -> None:
    assert request_faults(requests) == []


@pytest.mark.parametrize(("changes", "message"), EDITS)
def test_requests_that_do_not_hold_together_are_refused(
    requests: Requests, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        check_requests(replace(requests, **changes))
    assert any(str(fault).startswith(f"requests: {message}") for fault in raised.value.faults)


def test_think_times_add_up_along_a_conversation_only() -> None:
    most = MOST_NS // 3
    think = ints(-1, most, most, most, most)
    assert not thought_too_long(ints(-1, 0, 1, 2, 0), think).any()
    think[3] += 10_000  # sums are of floats, which are 512 ns apart here
    assert thought_too_long(ints(-1, 0, 1, 2, 0), think).tolist() == [False] * 3 + [True, False]
    n = 5000
    chain = np.arange(n) - 1
    late = thought_too_long(chain, np.full(n, MOST_NS // 1000))
    assert int(np.argmax(late)) in (1000, 1001)


COLUMNS: list[tuple[str, list[int], str]] = [
    ("output_tokens", [1, 2, 2**63 - 1, 4], "row 2, column output_tokens: is 9223372036854775807"),
    ("prompt_tokens", [40, MOST_TOKENS, 60, 1], "row 1, column prompt_tokens: prompt 1073741824"),
    ("arrival_ns", [0, 5, 5, MOST_NS + 1], "row 3, column arrival_ns: is 3153600000000000001"),
    ("think_ns", [0, 0, 2**63 - 1, 0], "row 2, column think_ns: is 9223372036854775807"),
]


@pytest.mark.parametrize(("name", "values", "message"), COLUMNS)
def test_a_file_beyond_the_limits_is_refused_by_row(
    tmp_path: Path, requests: Requests, name: str, values: list[int], message: str
) -> None:
    write_requests(requests, tmp_path / "t.arrow")
    table = read_table(tmp_path / "t.arrow")
    place = table.column_names.index(name)
    table = table.set_column(place, table.schema.field(name), pa.array(values))
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError) as raised:
        read_table(tmp_path / "t.arrow")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("9" * 5000, "is no whole number of tokens"),
        ("\u0663", "is no whole number of tokens"),
        ("-1", "is no whole number of tokens"),
        ("16.0", "is no whole number of tokens"),
        ("2000000", "is 2000000; write at most 1048576"),
    ],
)
def test_absurd_block_tokens_in_a_file_are_one_line(
    tmp_path: Path, requests: Requests, written: str, words: str
) -> None:
    table = requests_table(requests)
    metadata = {"vsim.kind": "requests", "vsim.schema_version": "1", "vsim.block_tokens": written}
    table = table.replace_schema_metadata(metadata)
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError) as raised:
        read_table(tmp_path / "t.arrow")
    assert words in str(raised.value)
    assert len(str(raised.value)) < 300


def test_notes_survive_the_file(tmp_path: Path, requests: Requests) -> None:
    from vsim.traces.reading import read_requests

    noted = replace(requests, notes=("one thing", "another"))
    write_requests(noted, tmp_path / "t.arrow")
    assert read_requests(tmp_path / "t.arrow").notes == ("one thing", "another")


def test_what_was_drawn_once_is_recorded_after(tmp_path: Path) -> None:
    from vsim.traces.reading import read_requests

    (tmp_path / "t").write_text("input_length,output_length\n5,5\n5,5\n")
    drawn = read_requests(tmp_path / "t")
    assert drawn.drawn
    write_requests(drawn, tmp_path / "t.arrow")
    assert not read_requests(tmp_path / "t.arrow").drawn
