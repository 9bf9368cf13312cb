"""A format is told by what the whole file holds, and what contradicts it is refused or said."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsim.traces.faults import InputError
from vsim.traces.importers import Imported, ImportOptions, import_requests
from vsim.traces.info import describe_requests


def imported(
    tmp_path: Path, rows: object, *, as_list: bool = False, format: str = "auto", **options: Any
) -> Imported:
    path = tmp_path / "t"
    if isinstance(rows, str):
        path.write_text(rows)
    elif as_list or not isinstance(rows, list):
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return import_requests(path, format, ImportOptions(**options))


def refused(tmp_path: Path, rows: object, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        imported(tmp_path, rows, **options)
    return str(raised.value).replace(str(tmp_path / "t"), "T")


def bailian(count: int = 30, **changes: Any) -> list[dict[str, Any]]:
    """Two turns a chat, the second with the first's blocks, four requests a second."""
    rows = []
    for i in range(count):
        own = [2 * i + 10, 2 * i + 11]
        first = {
            "chat_id": 2 * i,
            "parent_chat_id": -1,
            "turn": 1,
            "timestamp": 0.5 * i,
            "input_length": 64,
            "output_length": 9,
            "type": "text",
            "hash_ids": [0, 1, *own],
        }
        then = {**first, "chat_id": 2 * i + 1, "parent_chat_id": 2 * i, "turn": 2,
                "timestamp": 0.5 * i + 0.25, "input_length": 70, "type": "search",
                "hash_ids": [0, 1, *own, 5000 + i]}  # fmt: skip
        rows += [{**first, **changes}, {**then, **changes}]
    return rows


@pytest.mark.parametrize("as_list", [False, True])
def test_bailian_times_are_seconds_blocks_16_tokens_and_chats_sessions(
    tmp_path: Path, as_list: bool
) -> None:
    requests = imported(tmp_path, bailian(), as_list=as_list).requests
    info = describe_requests(requests)
    assert info.span_s == 14.75
    assert info.arrival_rate_per_s == pytest.approx(4)
    assert info.prefix is not None
    assert info.prefix.block_tokens == 16
    assert info.prefix.references == 30 * 9
    assert info.prefix.unique == 2 + 30 * 3
    assert requests.session.tolist() == [i // 2 for i in range(60)]
    assert requests.parent.tolist() == [-1 if i % 2 == 0 else i - 1 for i in range(60)]
    assert info.tenants == {"text": 30, "search": 30}
    assert requests.notes == ()


def test_ids_of_block_contents_become_ids_of_prefixes(tmp_path: Path) -> None:
    rows = bailian(2)
    rows[2]["hash_ids"] = [1, 0, 12, 13]  # the same contents in another order
    rows[3]["hash_ids"] = [1, 0, 12, 13, 0]
    result = imported(tmp_path, rows)
    ids, offsets = result.requests.prefix_ids.tolist(), result.requests.prefix_offsets.tolist()
    chains = [ids[start:end] for start, end in pairwise(offsets)]
    assert chains[1][:4] == chains[0]
    assert chains[3][:4] == chains[2]
    assert not set(chains[0]) & set(chains[2])
    assert len(set(chains[3])) == 5
    assert any("numbered anew" in note for note in result.notes)


def test_turns_whose_chat_is_not_in_the_file_are_said(tmp_path: Path) -> None:
    rows = bailian(2)
    del rows[0]
    result = imported(tmp_path, rows)
    assert result.requests.parent.tolist() == [-1, -1, 1]
    assert result.requests.session.tolist() == [0, 1, 1]
    assert "1 turns continue a chat that the file does not hold: taken as first" in result.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_id": 7}, "T:2: chat_id: is 7, as in a row before"),
        ({"chat_id": "x"}, 'T:1: chat_id: "x" is no chat'),
        ({"timestamp": -1}, "T:1: timestamp: -1 is no time in s"),
        ({"hash_ids": [1.5]}, "T:1: hash_ids: 1.5 is no whole number"),
        ({"hash_ids": [-1]}, "T:1: hash_ids: -1 is out of range"),
        ({"hash_ids": [2**64]}, "T:1: hash_ids: 18446744073709551616 is out of range"),
        ({"input_length": 2**30}, "T:1: input_length: prompt 1073741824 and output 9 are more"),
    ],
)
def test_a_wrong_bailian_row_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert refused(tmp_path, bailian(1, **changes)).startswith(message)


def mooncake(count: int = 30, block: int = 512, step: float = 100) -> list[dict[str, Any]]:
    return [
        {"timestamp": step * i, "input_length": 3 * block, "output_length": 5,
         "hash_ids": [0, 1, 10 + i]}
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("as_list", [False, True])
def test_a_list_of_mooncake_rows_is_mooncake(tmp_path: Path, as_list: bool) -> None:
    requests = imported(tmp_path, mooncake(), as_list=as_list).requests
    assert requests.source.startswith("Mooncake")
    assert requests.arrival_ns[-1] == 2900 * 10**6
    assert requests.notes == ()


@pytest.mark.parametrize("block", [16, 64, 128, 1024])
def test_another_block_size_is_told_by_tokens_and_ids(tmp_path: Path, block: int) -> None:
    result = imported(tmp_path, mooncake(block=block))
    assert result.requests.block_tokens == block
    assert f"prefix blocks read as {block} tokens" in result.notes[0]
    said = imported(tmp_path, [{**row, "block_size": block} for row in mooncake(block=block)])
    assert said.requests.block_tokens == block
    assert said.notes == ()


def test_ids_that_fit_no_block_size_are_refused(tmp_path: Path) -> None:
    rows = [{**row, "input_length": 700 + 300 * (i % 7)} for i, row in enumerate(mooncake())]
    message = refused(tmp_path, rows)
    assert "its ids contradict the format's blocks of 512 tokens" in message
    assert "vsim trace import --block-tokens" in message
    result = imported(tmp_path, rows, block_tokens=512)
    assert "have other than one id a block of 512 tokens" in result.notes[0]


def test_a_row_or_two_with_other_ids_are_said(tmp_path: Path) -> None:
    rows = mooncake(4)
    rows[2]["hash_ids"] = [0]
    result = imported(tmp_path, rows)
    assert result.requests.block_tokens == 512
    assert result.notes == (
        "1 of 4 requests with prefix ids have other than one id a block of 512 tokens",
    )


def test_fractions_at_thousands_a_second_are_not_taken_for_ms(tmp_path: Path) -> None:
    rows = mooncake(step=0.25)
    message = refused(tmp_path, rows)
    assert "read as ms, 4,000 requests a second arrive" in message
    assert imported(tmp_path, rows, time_unit="s").requests.arrival_ns[-1] == 7_250_000_000
    result = imported(tmp_path, rows, time_unit="ms")
    assert "4,000 requests a second arrive: check the unit of the times" in result.notes


def test_a_rate_that_nobody_has_is_said_of_any_format(tmp_path: Path) -> None:
    fast = "timestamp_ms,input_length,output_length\n" + "".join(
        f"{i / 10},5,5\n" for i in range(50)
    )
    assert imported(tmp_path, fast).notes == (
        "10,000 requests a second arrive: check the unit of the times",
    )
    slow = "timestamp_s,input_length,output_length\n" + "".join(
        f"{i * 36000},5,5\n" for i in range(50)
    )
    assert imported(tmp_path, slow).notes == (
        "requests arrive 10 h apart: check the unit of the times",
    )


def session(**changes: Any) -> dict[str, Any]:
    inner = [{"t": 0.0, "in": 64, "out": 3, "hash_ids": [9]},
             {"t": 1.5, "in": 128, "out": 3, "think_time": 1.0, "hash_ids": [9, 8]}]  # fmt: skip
    return {
        "id": "a", "block_size": 64, "hash_id_scope": "local", "tool_tokens": 10,
        "requests": [
            {"t": 0.0, "type": "n", "in": 130, "out": 5, "hash_ids": [1, 2]},
            {"t": 2.0, "type": "subagent", "requests": inner},
            {"t": 9.0, "type": "s", "in": 200, "out": 5, "think_time": 2.0, "hash_ids": [1, 2, 3]},
        ],
        **changes,
    }  # fmt: skip


@pytest.mark.parametrize("rows", [session(), [session()]])
def test_an_agentic_session_of_json_is_read_with_its_subagent(tmp_path: Path, rows: object) -> None:
    requests = imported(tmp_path, rows, as_list=True).requests
    assert requests.arrival_ns.tolist() == [0, 2 * 10**9, 3_500_000_000, 9 * 10**9]
    assert requests.parent.tolist() == [-1, 0, 1, 0]
    assert requests.session.tolist() == [0, 0, 0, 0]
    assert requests.think_ns.tolist() == [-1, -1, 10**9, 2 * 10**9]
    assert requests.block_tokens == 64
    assert requests.prefix_offsets.tolist() == [0, 2, 3, 5, 8]
    assert requests.notes == ()


def test_sessions_of_json_share_no_local_ids_and_get_arrivals(tmp_path: Path) -> None:
    result = imported(tmp_path, [session(), session()], seed=3)
    requests = result.requests
    by_session = [
        {
            identity
            for row in np.nonzero(requests.session == s)[0]
            for identity in requests.prefix_ids[
                requests.prefix_offsets[row] : requests.prefix_offsets[row + 1]
            ].tolist()
        }
        for s in (0, 1)
    ]
    assert not by_session[0] & by_session[1]
    assert result.requests.drawn
    assert result.notes == ("2 session arrivals drawn with seed 3 at 1 sessions/s",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requests": 5}, "T: is no session with requests"),
        ({"requests": [5]}, "T: entry 0: requests.0: 5 is no request"),
        ({"requests": [{"t": 1.0, "in": 5}]}, "T: entry 0: requests.0.out: is missing"),
        ({"requests": [{"in": 5, "out": 5}]}, "T: entry 0: requests.0.t: null is no time in s"),
        ({"block_size": 0}, "T: entry 0: block_size: is 0; write 1 to"),
        ({"hash_id_scope": "all"}, 'T: entry 0: hash_id_scope: "all" is no scope'),
        ({"requests": []}, "T: is empty of requests"),
    ],
)
def test_a_wrong_session_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = refused(tmp_path, session(**changes), as_list=True, format="agentic")
    assert found.replace("T: entry 0: is no", "T: is no").startswith(message)


def test_cache_keys_without_conversations_are_no_conversations(tmp_path: Path) -> None:
    rows = [{"prompt_tokens": 40, "output_tokens": 5, "cache_key": f"k{i}"} for i in range(4)]
    assert "column cache_key: looks like prefix, but" in refused(tmp_path, rows)
    rows = [{"prompt_tokens": 40, "output_tokens": 5, "ts": i} for i in range(4)]
    assert "column ts: looks like arrival, but" in refused(tmp_path, rows)
    columns = {"prompt": "prompt_tokens", "output": "output_tokens", "arrival": "ts"}
    result = imported(tmp_path, rows, columns=columns, time_unit="s")
    assert result.requests.arrival_ns.tolist() == [0, 10**9, 2 * 10**9, 3 * 10**9]


def test_flat_json_is_a_table_and_what_is_not_read_is_said(tmp_path: Path) -> None:
    rows = [{"timestamp_ms": i, "input_tokens": 9, "output_tokens": 5, "host": "a"} for i in (1, 3)]
    for as_list in (False, True):
        result = imported(tmp_path, rows, as_list=as_list)
        assert result.requests.arrival_ns.tolist() == [0, 2_000_000]
        assert result.notes == ("columns not read: host",)
        assert not result.requests.drawn


def test_a_table_with_unnamed_arrivals_is_refused_not_drawn(tmp_path: Path) -> None:
    text = "timestamp,input_length,output_length\n1,5,5\n2,5,5\n"
    assert "column timestamp: looks like arrival" in refused(tmp_path, text)
    columns = {"prompt": "input_length", "output": "output_length"}
    assert imported(tmp_path, text, columns=columns).requests.drawn


def test_the_scenario_seed_draws_the_arrivals_of_a_table(tmp_path: Path) -> None:
    from vsim.traces.reading import read_requests

    (tmp_path / "t").write_text("input_length,output_length\n" + "5,5\n" * 20)
    times = [read_requests(tmp_path / "t", seed).arrival_ns.tolist() for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]


WIDE = [[2**53 + 1, 2**64 - 1], [2**53 + 1, 2**64 - 1], [2**63, 5], [2**63 - 1]]
SIGNED = [[-(2**63), 7], [-(2**63), 7], [-5, 2**63 - 1], [0]]


@pytest.mark.parametrize("ids", [WIDE, SIGNED])
def test_ids_may_be_any_64_bits(tmp_path: Path, ids: list[list[int]]) -> None:
    lengths = [512 * len(row) for row in ids]
    rows = [
        {"timestamp": 1000 * i, "input_length": lengths[i], "output_length": 4, "hash_ids": row}
        for i, row in enumerate(ids)
    ]
    unsigned = ids is WIDE
    table = pa.table(
        {
            "timestamp_ms": [0, 1000, 2000, 3000], "input_length": lengths,
            "output_length": [4] * 4,
            "hash_ids": pa.array(ids, pa.list_(pa.uint64() if unsigned else pa.int64())),
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "p")
    csv = "timestamp_ms,input_length,output_length,hash_ids\n" + "".join(
        f"{1000 * i},{lengths[i]},4,{' '.join(map(str, row))}\n" for i, row in enumerate(ids)
    )
    for result in (
        imported(tmp_path, rows),
        imported(tmp_path, csv, block_tokens=512),
        import_requests(tmp_path / "p", options=ImportOptions(block_tokens=512)),
    ):
        info = describe_requests(result.requests).prefix
        assert info is not None
        assert (info.references, info.unique, info.hit_ratio) == (7, 5, 2 / 7)
        assert any("numbered anew" in note for note in result.notes)


def test_signed_and_unsigned_ids_in_one_file_are_refused(tmp_path: Path) -> None:
    rows = mooncake(2)
    rows[0]["hash_ids"], rows[1]["hash_ids"] = [2**64 - 2, 1, 2], [-2, 3, 4]
    assert "write either signed or unsigned" in refused(tmp_path, rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,a\n1,2,3\n", "T:1: a: column is there more than once"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens,context_tokens\n", "name one thing twice"),
        ('{"timestamp": 1, "timestamp": 2, "input_length": 5}\n', "T:1: has the key 'timestamp'"),
        ('[{"prompt": "a", "prompt": "b", "output": "c"}]', "T:1: has the key 'prompt'"),
    ],
)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrays = [pa.array([5]), pa.array([5]), pa.array([6])]
    names = ["input_length", "output_length", "input_length"]
    pq.write_table(pa.Table.from_arrays(arrays, names), tmp_path / "t")
    with pytest.raises(InputError, match="column input_length: is there more than once"):
        import_requests(tmp_path / "t")


CHAT = [{"prompt": "x", "prompt_len": 33, "output_len": 7}]
MOOT: list[tuple[object, dict[str, Any], str]] = [
    ("timestamp_ms,input_length,output_length\n1,5,5\n", {"seed": 3}, "--seed: does nothing"),
    ("timestamp_ms,input_length,output_length\n1,5,5\n", {"session_rate_per_s": 3.0},
     "--session-rate: does nothing"),
    ("timestamp_ms,input_length,output_length\n1,5,5\n", {"block_tokens": 16},
     "--block-tokens: does nothing: no column holds prefix ids"),
    ("timestamp_ms,input_length,output_length\n1,5,5\n", {"local_prefixes": True},
     "--local-prefixes: does nothing: no column holds prefix ids"),
    ("input_length,output_length\n5,5\n", {"time_unit": "s"}, "--time-unit: does nothing"),
    ("input_length,output_length\n5,5\n", {"sort": True}, "--sort: does nothing: arrivals are"),
    (CHAT * 2, {"think_s_mean": 3.0}, "--think-mean: does nothing: no conversation"),
    (CHAT, {"session_rate_per_s": 3.0}, "--session-rate: does nothing: the file has one"),
    (CHAT, {"seed": 3}, "--seed: does nothing: the file has one request"),
    ([{**row, "hash_ids": []} for row in mooncake()], {"block_tokens": 16},
     "--block-tokens: does nothing: the file has no prefix ids"),
    (session(), {"seed": 3}, "--seed: does nothing: the file has one session"),
    (session(), {"block_tokens": 16}, "--block-tokens: is 16, but the file says 64"),
    (bailian(), {"time_unit": "s"}, "--time-unit: does nothing with the format bailian"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "options", "message"), MOOT)
def test_an_option_that_the_file_makes_moot_is_refused(
    tmp_path: Path, rows: object, options: dict[str, Any], message: str
) -> None:
    assert refused(tmp_path, rows, **options).startswith(message)


def test_an_arrow_timestamp_needs_no_unit_and_takes_none(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array([1, 2], pa.timestamp("s")), "i": [1, 2], "o": [3, 4]})
    pq.write_table(table, tmp_path / "t")
    columns = {"arrival": "t", "prompt": "i", "output": "o"}
    with pytest.raises(InputError, match="--time-unit: does nothing: column t says its unit"):
        import_requests(tmp_path / "t", options=ImportOptions(columns=columns, time_unit="s"))
