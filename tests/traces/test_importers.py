"""Importers: what each format becomes, and what is refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsim.traces.faults import InputError
from vsim.traces.importers import Imported, ImportOptions, import_requests
from vsim.traces.importers.lines import MOST_FAULTS
from vsim.traces.importers.values import clock_parser, parse_time_ns

MOONCAKE = """\
{"timestamp": 100, "input_length": 1025, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 100, "input_length": 512, "output_length": 6, "hash_ids": [0]}

{"timestamp": 103, "input_length": 600, "output_length": 7, "hash_ids": [9, 10]}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:50.0000000,12,0
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 02:00:00.017335+02:00,2399,6
2024-05-10 00:00:01+00:00,76,15
"""
BURSTGPT = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,7,1.5,ChatGPT,472,18,490,Conversation log
45.25,,2,ChatGPT,1087,0,1087,API log
118,7,3,GPT-4,417,276,693,Conversation log
120,,3,GPT-4,10,20,30,API log
"""


def imported(
    tmp_path: Path, name: str, text: str, format: str = "auto", **options: Any
) -> Imported:
    path = tmp_path / name
    path.write_text(text)
    return import_requests(path, format, ImportOptions(**options))


def faults(tmp_path: Path, name: str, text: str, format: str = "auto", **options: Any) -> list[str]:
    with pytest.raises(InputError) as raised:
        imported(tmp_path, name, text, format, **options)
    shown = [str(fault) for fault in raised.value.faults]
    assert all(fault.startswith(str(tmp_path / name)) and "\n" not in fault for fault in shown)
    return [fault.removeprefix(str(tmp_path / name)) for fault in shown]


def test_mooncake_lines_become_requests(tmp_path: Path) -> None:
    requests = imported(tmp_path, "t.jsonl", MOONCAKE).requests
    assert requests.arrival_ns.tolist() == [0, 0, 3_000_000]
    assert requests.prompt_tokens.tolist() == [1025, 512, 600]
    assert requests.output_tokens.tolist() == [5, 6, 7]
    assert requests.prefix_offsets.tolist() == [0, 3, 4, 6]
    assert requests.prefix_ids.tolist() == [0, 1, 2, 0, 9, 10]
    assert requests.block_tokens == 512


@pytest.mark.parametrize(
    ("text", "times", "prompts", "outputs"),
    [
        (AZURE, [0, 4_314_579_000, 63_319_410_000], [374, 396, 12], [44, 109, 1]),
        (AZURE_2024, [0, 7_405_000, 990_070_000], [2162, 2399, 76], [5, 6, 15]),
        (AZURE.replace("ContextTokens", "num_context_tokens"),
         [0, 4_314_579_000, 63_319_410_000], [374, 396, 12], [44, 109, 1]),
    ],
)  # fmt: skip
def test_azure_lines_become_requests(
    tmp_path: Path, text: str, times: list[int], prompts: list[int], outputs: list[int]
) -> None:
    requests = imported(tmp_path, "t.csv", text).requests
    assert requests.arrival_ns.tolist() == times
    assert requests.prompt_tokens.tolist() == prompts
    assert requests.output_tokens.tolist() == outputs
    assert len(requests.prefix_ids) == 0


def test_what_is_raised_is_said(tmp_path: Path) -> None:
    assert imported(tmp_path, "t.csv", AZURE).notes == (
        "1 rows had 0 output tokens and were raised to 1",
    )
    assert imported(tmp_path, "t.csv", AZURE_2024).notes == ()


def test_burstgpt_lines_become_requests_and_failures_are_counted(tmp_path: Path) -> None:
    result = imported(tmp_path, "t.csv", BURSTGPT)
    requests = result.requests
    assert requests.arrival_ns.tolist() == [0, 113 * 10**9, 115 * 10**9]
    assert requests.prompt_tokens.tolist() == [472, 417, 10]
    assert requests.session.tolist() == [0, 0, -1]
    names = [requests.tenant_names[code] for code in requests.tenant]
    assert names == ["Conversation log", "Conversation log", "API log"]
    assert result.notes == ("1 calls had no response tokens: failures, dropped",)


@pytest.mark.parametrize("text", [MOONCAKE, AZURE, BURSTGPT])
def test_gzip_is_read_whatever_the_name(tmp_path: Path, text: str) -> None:
    plain = imported(tmp_path, "plain", text).requests
    (tmp_path / "zipped").write_bytes(gzip.compress(text.encode()))
    zipped = import_requests(tmp_path / "zipped").requests
    np.testing.assert_array_equal(zipped.arrival_ns, plain.arrival_ns)
    np.testing.assert_array_equal(zipped.prompt_tokens, plain.prompt_tokens)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_cut_off_gzip_is_one_fault(tmp_path: Path, share: float) -> None:
    whole = gzip.compress((MOONCAKE * 1).encode() + b"\n" * 10_000, mtime=0)
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError) as raised:
        import_requests(path)
    assert [str(f) for f in raised.value.faults] == [
        f"{path}: its gzip data are cut off; copy the file again, whole"
    ]


def test_a_damaged_gzip_is_one_fault(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(MOONCAKE.encode(), mtime=0))
    whole[-6] ^= 1
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(whole)
    with pytest.raises(InputError, match="its gzip data are damaged") as raised:
        import_requests(path)
    assert len(raised.value.faults) == 1


def line(number: int, **values: Any) -> str:
    row = {"timestamp": number, "input_length": 5, "output_length": 5, "hash_ids": [number]}
    return json.dumps({**row, **values}) + "\n"


MOONCAKE_FAULTS = [
    ('{"timestamp": 0, "input_', ":2: is not JSON (Unterminated string"),
    ("[1, 2]", ":2: is no JSON object"),
    ("[" * 100_000, ":2: is n"),
    (line(1, input_length=float("nan")), ":2: input_length: NaN is no whole number"),
    (line(1, input_length=-5), ":2: input_length: -5 is out of range; write 0 or more"),
    (line(1, output_length=1.5), ":2: output_length: 1.5 is no whole number"),
    (line(1, output_length=True), ":2: output_length: true is no whole number"),
    (line(1, output_length="5"), ':2: output_length: "5" is no whole number'),
    (line(1, output_length=10**30), ":2: output_length: 1000"),
    (line(1, timestamp=-1), ":2: timestamp: -1 is no time in ms"),
    (line(1, timestamp=float("inf")), ":2: timestamp: Infinity is no time in ms"),
    (line(1, timestamp="now"), ':2: timestamp: "now" is no time in ms'),
    (line(1, hash_ids=3), ":2: hash_ids: 3 is no list"),
    (line(1, hash_ids=[-1]), ":2: hash_ids: -1 is out of range"),
    (line(1, hash_ids=[None]), ":2: hash_ids: null is no whole number"),
    ('{"timestamp": 1, "input_length": 5, "output_length": 5}', ":2: hash_ids: is missing"),
    (line(9), ":3: timestamp: 2 is before the line above's"),
    (line(1, hash_ids=[4, 0], input_length=999), ":2: prefix ids: id 0 stands after other blocks"),
]


@pytest.mark.parametrize(("wrong", "message"), MOONCAKE_FAULTS)
def test_a_wrong_mooncake_line_is_named(tmp_path: Path, wrong: str, message: str) -> None:
    text = line(0) + wrong.rstrip("\n") + "\n" + line(2)
    found = faults(tmp_path, "t.jsonl", text)
    assert len(found) == 1
    assert found[0].startswith(message)


CSV_FAULTS = [
    (AZURE.replace("374", "-374"), ":2: ContextTokens: '-374' is no count; write a whole number"),
    (AZURE.replace("374", "nan"), ":2: ContextTokens: 'nan' is no count"),
    (AZURE.replace("374", "37.4"), ":2: ContextTokens: '37.4' is no count"),
    (AZURE.replace("374", ""), ":2: ContextTokens: '' is no count"),
    (AZURE.replace("109", "\xb2"), ":3: GeneratedTokens: '\xb2' is no count"),
    (AZURE.replace("18:15:50", "18:15:40"), ":3: TIMESTAMP: 2023-11-16 18:15:40.9951690 is before"),
    (AZURE.replace("18:15:50", "25:15:50"), ":3: TIMESTAMP: '2023-11-16 25:15:50.9951690' is no t"),
    (AZURE.replace("396,", "396"), ":3: has 2 cells; the header has 3"),
    (AZURE.replace("396,", "396,1,"), ":3: has 4 cells; the header has 3"),
    (AZURE.replace("396,", '"396,'), ":4: is no CSV (unexpected end of data)"),
    (AZURE.replace("GeneratedTokens", "Tokens"), ":1: GeneratedTokens: column is missing"),
    (AZURE.splitlines()[0] + "\n", ": is empty of requests; name a trace with at least one"),
    (BURSTGPT.replace("417", "-417"), ":4: Request tokens: '-417' is no count"),
    (BURSTGPT.replace("118", "x"), ":4: Timestamp: 'x' is no time in s"),
    (BURSTGPT.replace("118", "1"), ":4: Timestamp: 1 is before the line above's"),
    (BURSTGPT.replace("Log Type", "Log"), ":1: Log Type: column is missing"),
]


@pytest.mark.parametrize(("text", "message"), CSV_FAULTS)
def test_a_wrong_csv_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    found = faults(tmp_path, "t.csv", text)
    assert found[0].startswith(message)
    assert len(found) == 1


def test_faults_are_collected_up_to_a_limit(tmp_path: Path) -> None:
    found = faults(tmp_path, "t.jsonl", line(0) + line(0, input_length=-1) * 5)
    assert [fault.split(":")[1] for fault in found] == ["2", "3", "4", "5", "6"]
    found = faults(tmp_path, "t.jsonl", line(0) + line(0, input_length=-1) * 500)
    assert len(found) == MOST_FAULTS + 1
    assert found[-1] == f":{MOST_FAULTS + 1}: has 20 faults up to here; the rest was not read"


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, "t.jsonl", text) == [
        ": is empty; name a trace with at least one request"
    ]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, cause in (("no.csv", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(InputError, match=f"cannot be read: {cause}"):
            import_requests(tmp_path / name)


def test_any_bytes_are_refused_without_a_traceback(tmp_path: Path) -> None:
    for data in (bytes(range(256)) * 8, b"%PDF-1.7", b"\0\0\0", b"PAR1", b"PAR1" * 9, b"\x1f\x8b"):
        (tmp_path / "t").write_bytes(data)
        with pytest.raises(InputError):
            import_requests(tmp_path / "t")


def test_rows_out_of_order_are_sorted_on_request(tmp_path: Path) -> None:
    lines = MOONCAKE.splitlines(keepends=True)
    text = lines[3] + lines[0]
    assert "let `vsim trace import --sort` do it" in faults(tmp_path, "t.jsonl", text)[0]
    requests = imported(tmp_path, "t.jsonl", text, sort=True).requests
    assert requests.arrival_ns.tolist() == [0, 3_000_000]
    assert requests.prefix_ids.tolist() == [0, 1, 2, 9, 10]


def test_an_option_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE)
    with pytest.raises(InputError) as raised:
        import_requests(tmp_path / "t.csv", options=ImportOptions(seed=3, block_tokens=16))
    assert [str(fault) for fault in raised.value.faults] == [
        "--block-tokens: does nothing with the format azure; leave it out",
        "--seed: does nothing with the format azure; leave it out",
    ]
    with pytest.raises(InputError, match=r"'azur' is unknown \(did you mean 'azure'"):
        import_requests(tmp_path / "t.csv", "azur")


def test_times_are_exact() -> None:
    assert parse_time_ns("1970-01-01 00:00:01.0000001") == 1_000_000_100
    assert parse_time_ns("1970-01-01T01:00:01Z") == 3_601_000_000_000
    assert parse_time_ns("1970-01-01 01:00:01-0030") == 5_401_000_000_000
    assert clock_parser("s")("1700000000.123456789") == 1_700_000_000_123_456_789
    assert clock_parser("us")(1700000000123456) == 1_700_000_000_123_456_000


def conversations(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in turns]}


SHAREGPT: list[dict[str, Any]] = [
    conversations(("human", "a" * 128), ("gpt", "b" * 10), ("human", "c" * 64), ("gpt", "d" * 9)),
    conversations(("human", "a" * 64 + "e" * 64), ("gpt", "f" * 4)),
    conversations(("human", "never answered")),
    {"prompt": "x", "prompt_len": 33, "output_len": 7},
]


@pytest.mark.parametrize("as_lines", [False, True])
def test_each_reply_of_a_conversation_is_a_request(tmp_path: Path, as_lines: bool) -> None:
    text = "\n".join(map(json.dumps, SHAREGPT)) if as_lines else json.dumps(SHAREGPT, indent=1)
    result = imported(tmp_path, "t.json", text, seed=4)
    requests = result.requests
    order = np.lexsort((requests.arrival_ns, requests.session))
    assert requests.session[order].tolist() == [0, 0, 1, 2]
    assert requests.prompt_tokens[order].tolist() == [32, 32 + 3 + 16, 32, 33]
    assert requests.output_tokens[order].tolist() == [3, 3, 1, 7]
    chains = [
        requests.prefix_ids[requests.prefix_offsets[r] : requests.prefix_offsets[r + 1]].tolist()
        for r in order
    ]
    assert chains[0] == chains[1][:2]
    assert len(chains[1]) == 3
    assert chains[2][0] == chains[0][0]
    assert chains[2][1] != chains[0][1]
    assert not set(chains[3]) & {i for chain in chains[:3] for i in chain}
    parent = requests.parent[order]
    assert (parent < 0).tolist() == [True, False, True, True]
    assert parent[1] == order[0]
    think = requests.think_ns[order]
    assert think[1] > 0
    assert (think[[0, 2, 3]] == -1).all()
    gap = requests.arrival_ns[order[1]] - requests.arrival_ns[order[0]]
    assert gap == think[1] + 500_000_000 + 3 * 20_000_000
    assert result.notes[0] == "1 conversations had no reply to a message: dropped"
    assert "estimated at 4 bytes a token" in result.notes[1]
    assert "drawn with seed 4" in result.notes[2]


def test_given_lengths_are_taken_as_they_are(tmp_path: Path) -> None:
    entry = {"messages": [
        {"role": "system", "content": "s", "tokens": 100},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "tokens": 11},
        {"role": "assistant", "content": "hi", "tokens": 5},
    ]}  # fmt: skip
    result = imported(tmp_path, "t.json", json.dumps([entry]))
    assert result.requests.prompt_tokens.tolist() == [111]
    assert result.requests.output_tokens.tolist() == [5]
    assert len(result.requests.prefix_ids) == 111 // 16
    assert not any("estimated" in note for note in result.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", ":1: is not JSON"),
        ('[\n{"conversations": [},\n]', ":2: is not JSON"),
        ('{"conversations": 3}\n', ":1: 3 is no list of messages"),
        ('[{"conversations": [{"value": "a"}]}]', ": entry 0: a message says neither `from`"),
        ('[{"conversations": [{"from": "gpt"}]}]', ": entry 0: a message has neither `value`"),
        ('[{"messages": [{"role": "user", "content": 3}]}]', ": entry 0: 3 is no text"),
        ('[{"prompt_len": -3, "output_len": 3}]', ": entry 0: -3 is no count"),
        ('[{"prompt_len": NaN, "output_len": 3}]', ": entry 0: nan is no count"),
        ('[{"prompt": "a"}]', ": entry 0: says neither output_tokens nor completion"),
        ("[3]", ": entry 0: is no JSON object"),
        ("[]", ": is empty of requests"),
        ('[{"conversations": []}]', ": is empty of requests"),
    ],
)
def test_a_wrong_conversation_is_named(tmp_path: Path, text: str, message: str) -> None:
    found = faults(tmp_path, "t.json", text)
    assert found[0].startswith(message)


TABLE = """\
when_ms,in,out,who,conv,ids,name,after
10,33,5,ada,c1,4 5,r1,
10,40,6,bob,,,r2,
13.5,64,7,ada,c1,4;5;6,r3,r1
"""
MAPPING = {
    "arrival": "when_ms", "prompt": "in", "output": "out", "tenant": "who", "session": "conv",
    "prefix": "ids", "id": "name", "parent": "after",
}  # fmt: skip


def check_table(result: Imported) -> None:
    requests = result.requests
    assert requests.arrival_ns.tolist() == [0, 0, 3_500_000]
    assert requests.prompt_tokens.tolist() == [33, 40, 64]
    assert requests.session.tolist() == [0, -1, 0]
    assert requests.parent.tolist() == [-1, -1, 0]
    assert requests.tenant_names == ("ada", "bob")
    assert requests.tenant.tolist() == [0, 1, 0]
    assert requests.prefix_offsets.tolist() == [0, 2, 2, 5]
    assert requests.prefix_ids.tolist() == [4, 5, 4, 5, 6]
    assert requests.block_tokens == 16


def test_any_csv_is_imported_by_naming_its_columns(tmp_path: Path) -> None:
    check_table(imported(tmp_path, "t.csv", TABLE, columns=MAPPING, block_tokens=16))


def test_any_parquet_is_imported_by_naming_its_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when_ms": [10.0, 10.0, 13.5], "in": [33, 40, 64], "out": [5, 6, 7],
            "who": ["ada", "bob", "ada"], "conv": ["c1", None, "c1"],
            "ids": [[4, 5], None, [4, 5, 6]], "name": ["r1", "r2", "r3"],
            "after": [None, None, "r1"],
        }
    )  # fmt: skip
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    check_table(import_requests(path, options=ImportOptions(columns=MAPPING, block_tokens=16)))


def test_timestamps_of_parquet_and_csv_need_no_unit(tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_900], pa.timestamp("ns"))
    pq.write_table(pa.table({"t": times, "i": [1, 2], "o": [3, 4]}), tmp_path / "t.parquet")
    columns = {"arrival": "t", "prompt": "i", "output": "o"}
    found = import_requests(tmp_path / "t.parquet", options=ImportOptions(columns=columns))
    assert found.requests.arrival_ns.tolist() == [0, 899]
    text = "t,i,o\n2024-01-01 00:00:00,1,2\n2024-01-01 00:00:02,1,2\n"
    found = imported(tmp_path, "t.csv", text, columns=columns, time_unit="iso")
    assert found.requests.arrival_ns.tolist() == [0, 2_000_000_000]


def test_ids_local_to_a_session_become_global(tmp_path: Path) -> None:
    text = (
        "timestamp_s,input_length,output_length,session_id,hash_ids\n1,32,1,a,0 1\n2,32,1,b,0 1\n"
    )
    shared = imported(tmp_path, "t.csv", text, block_tokens=16).requests
    apart = imported(tmp_path, "t.csv", text, block_tokens=16, local_prefixes=True).requests
    assert shared.prefix_ids.tolist() == [0, 1, 0, 1]
    assert apart.prefix_ids.tolist() == [0, 1, 2, 3]


def test_arrivals_that_a_table_lacks_are_drawn_from_the_seed(tmp_path: Path) -> None:
    text = "input_length,output_length\n" + "5,5\n" * 2000
    one = imported(tmp_path, "t.csv", text, seed=1, session_rate_per_s=4.0)
    again = imported(tmp_path, "t.csv", text, seed=1, session_rate_per_s=4.0)
    other = imported(tmp_path, "t.csv", text, seed=2, session_rate_per_s=4.0)
    assert one.requests.arrival_ns.tolist() == again.requests.arrival_ns.tolist()
    assert one.requests.arrival_ns.tolist() != other.requests.arrival_ns.tolist()
    assert one.requests.arrival_ns[-1] / 1e9 == pytest.approx(500, rel=0.1)
    assert one.notes == ("2000 arrivals drawn with seed 1 at 4 requests/s",)


COLUMN_FAULTS = [
    (TABLE, {**MAPPING, "arrival": "wen_ms"}, {}, ": --columns arrival: 'wen_ms' is no column"),
    (TABLE, {**MAPPING, "arival": "when_ms"}, {}, ": --columns: 'arival' is no column of ours"),
    (TABLE, {"output": "out"}, {}, ": --columns: no column of prompt tokens among when_ms"),
    (TABLE, {"prompt": "in", "output": "out", "parent": "after"}, {}, ": --columns: parent needs"),
    (TABLE.replace("when_ms", "when"), {**MAPPING, "arrival": "when"}, {},
     ": --columns arrival: the unit of column 'when' is not known; write --time-unit"),
    (TABLE.replace("40", "-40"), MAPPING, {}, ":3: in: '-40' is no count"),
    (TABLE.replace("40", "nan"), MAPPING, {}, ":3: in: 'nan' is no count"),
    (TABLE.replace("13.5", "9"), MAPPING, {}, ":4: when_ms: arrives before the row above"),
    (TABLE.replace("13.5", "inf"), MAPPING, {}, ":4: when_ms: 'inf' is no time in ms"),
    (TABLE.replace("4 5", "4 x"), MAPPING, {}, ":2: ids: 'x' is no count"),
    (TABLE.replace(",r1\n", ",r9\n"), MAPPING, {}, ":4: after: 'r9' is no row's id"),
    (TABLE.replace("r3,r1", "r3,r3"), MAPPING, {}, ":4: after: 'r3' arrives later"),
    (TABLE.replace("r2", "r1"), MAPPING, {}, ":3: name: 'r1' is there before"),
    (TABLE.replace("4;5;6", "5;4;6"), MAPPING, {}, ":4: prefix ids: id 5 stands after other"),
    (TABLE, MAPPING, {"block_tokens": None}, ": prefix: has prefix ids of unknown length"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "columns", "options", "message"), COLUMN_FAULTS)
def test_a_wrong_table_is_named_by_line_and_column(
    tmp_path: Path, text: str, columns: dict[str, str], options: dict[str, Any], message: str
) -> None:
    given = {"block_tokens": 16, **options}
    found = faults(tmp_path, "t.csv", text, columns=columns, **given)
    assert found[0].startswith(message)


def agentic_rows() -> dict[str, list[Any]]:
    """Two sessions; the first calls a subagent, whose clock starts with it."""
    return {
        "session_id": ["a", "a", "a", "a", "b"],
        "seq": [0, 1, 2, 3, 0],
        "depth": [0, 1, 1, 0, 0],
        "parent_seq": [-1, 0, 0, -1, -1],
        "t_ms": [0, 0, 20, 900, 0],
        "api_ms": [100, 10, None, 10, 10],
        "think_ms": [0, 0, 5, 800, 0],
        "input_length": [130, 64, 70, 200, 64],
        "output_length": [5, 5, 5, 0, 5],
        "hash_ids": [[1, 2], [7], [7], [1, 2, 3], [1]],
    }


def write_agentic(path: Path, rows: dict[str, list[Any]]) -> Path:
    kinds = {"session_id": pa.string(), "hash_ids": pa.list_(pa.int32())}
    arrays = {name: pa.array(values, kinds.get(name, pa.int64())) for name, values in rows.items()}
    table = pa.table(arrays).replace_schema_metadata({"block_size": "64", "licence": "X-1.0"})
    pq.write_table(table, path)
    return path


def test_agentic_sessions_get_arrivals_parents_and_global_ids(tmp_path: Path) -> None:
    path = write_agentic(tmp_path / "t.parquet", agentic_rows())
    result = import_requests(path, options=ImportOptions(seed=5, session_rate_per_s=1e-6))
    requests = result.requests
    first = requests.session == requests.session[0]
    a = np.nonzero(requests.session == 0)[0]
    assert first.any()
    times = (requests.arrival_ns[a] - requests.arrival_ns[a[0]]) // 1_000_000
    assert times.tolist() == [0, 100, 120, 900]
    assert requests.parent[a].tolist() == [-1, a[0], a[1], a[0]]
    assert requests.think_ns[a].tolist() == [-1, 0, 5_000_000, 800_000_000]
    ids = set(requests.prefix_ids.tolist())
    assert len(ids) == 5
    assert requests.block_tokens == 64
    assert result.licence == "X-1.0"
    assert "2 session arrivals drawn with seed 5" in result.notes[0]
    assert "1 rows had 0 output tokens and were raised to 1" in result.notes


def test_session_arrivals_follow_the_seed(tmp_path: Path) -> None:
    path = write_agentic(tmp_path / "t.parquet", agentic_rows())
    times = [
        import_requests(path, options=ImportOptions(seed=seed)).requests.arrival_ns.tolist()
        for seed in (1, 1, 2)
    ]
    assert times[0] == times[1] != times[2]


AGENTIC_FAULTS: list[tuple[Callable[[dict[str, list[Any]]], object], str]] = [
    (lambda r: r["t_ms"].__setitem__(3, -1), ": row 3, column t_ms: is -1; write 0 or more"),
    (lambda r: r["t_ms"].__setitem__(0, 950), ": row 3, column t_ms: is 900, before the main"),
    (lambda r: r["input_length"].__setitem__(1, None), ": row 1, column input_length: is null"),
    (lambda r: r["seq"].__setitem__(3, 2), ": row 3, column seq: is 2, as in row 2"),
    (lambda r: r["parent_seq"].__setitem__(1, 8), ": row 1, column parent_seq: is 8, which is no"),
    (lambda r: r["hash_ids"].__setitem__(4, [-1]), ": row 4, column hash_ids: holds id -1"),
    (lambda r: r["hash_ids"].__setitem__(3, [2]), ": row 3, prefix ids: id"),
    (lambda r: r["session_id"].__setitem__(4, None), ": row 4, column session_id: is null"),
]


@pytest.mark.parametrize(("alter", "message"), AGENTIC_FAULTS)
def test_a_wrong_agentic_row_is_named(
    tmp_path: Path, alter: Callable[[dict[str, list[Any]]], object], message: str
) -> None:
    rows = agentic_rows()
    alter(rows)
    path = write_agentic(tmp_path / "t.parquet", rows)
    with pytest.raises(InputError) as raised:
        import_requests(path)
    assert str(raised.value).startswith(f"{path}{message}")


def test_a_cut_off_parquet_is_one_fault(tmp_path: Path) -> None:
    path = write_agentic(tmp_path / "t.parquet", agentic_rows())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="is no whole Parquet file") as raised:
        import_requests(path)
    assert len(raised.value.faults) == 1
