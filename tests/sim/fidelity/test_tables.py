"""Tables of measured requests and of throughputs are known by their columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsim.sim.fidelity.finding import find, read_measured
from vsim.sim.fidelity.measured import MeasuredRun
from vsim.traces.faults import InputError

CSV = """\
arrival_s,prompt_tokens,output_tokens,first_token_ms,last_token_s,note
0.0,100,3,40,0.1,a
0.5,200,2,620,0.7,b
"""
METADATA = {
    "engine": "vLLM 0.19.0", "gpu": "NVIDIA GeForce RTX 4090", "gpus": "1",
    "model": "meta-llama/Llama-3.1-8B", "tensor_parallel": "1", "max_num_seqs": "256",
    "max_num_batched_tokens": "2048", "num_gpu_blocks": "not recorded", "block_size": "16",
    "dtype": "bfloat16", "expert_parallel": "False", "source": "a test",
}  # fmt: skip


def only(path: Path) -> MeasuredRun:
    (run,) = find(path).runs
    return run


def test_a_csv_table_gives_times_in_the_units_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text(CSV)
    run = only(tmp_path / "calls.csv")
    (repeat,) = run.repeats
    assert repeat.requests.arrival_ns.tolist() == [0, 500_000_000]
    assert repeat.first_token_ns.tolist() == [40_000_000, 620_000_000]
    assert repeat.last_token_ns.tolist() == [100_000_000, 700_000_000]
    assert repeat.scheduled_ns.tolist() == [-1, -1]
    assert (run.name, run.gpu, run.origin) == ("calls", "", "public")


def test_rows_out_of_order_are_sorted_with_all_of_their_columns(tmp_path: Path) -> None:
    head, first, second = CSV.splitlines()
    (tmp_path / "calls.csv").write_text("\n".join((head, second, first)) + "\n")
    (repeat,) = only(tmp_path / "calls.csv").repeats
    assert repeat.requests.prompt_tokens.tolist() == [100, 200]
    assert repeat.first_token_ns.tolist() == [40_000_000, 620_000_000]


def parquet(path: Path, **changed: str) -> Path:
    table = pa.table(
        {
            "arrival_s": [0.0, 0.25],
            "prompt_tokens": [40, 20],
            "output_tokens": [3, 4],
            "prefix": [[0, 1], [0]],
            "scheduled_s": [0.001, 0.251],
            "first_token_s": [0.1, 0.5],
            "last_token_s": [0.2, 0.9],
            "preemptions": [0, 1],
        }
    )
    pq.write_table(table.replace_schema_metadata({**METADATA, **changed}), path)
    return path


def test_a_parquet_table_s_metadata_say_what_the_server_was(tmp_path: Path) -> None:
    run = only(parquet(tmp_path / "r.parquet"))
    assert (run.engine, run.version, run.gpu) == ("vLLM", "0.19.0", "NVIDIA GeForce RTX 4090")
    assert (run.settings.token_budget, run.settings.max_requests) == (2048, 256)
    assert run.settings.num_gpu_blocks is None
    (repeat,) = run.repeats
    assert repeat.requests.prefix_ids.tolist() == [0, 1, 0]
    assert repeat.scheduled_ns.tolist() == [1_000_000, 251_000_000]
    assert repeat.preemptions.tolist() == [0, 1]


WRONG = [
    (CSV.replace("40", "fast"), "calls.csv:2: first_token_ms: 'fast' is no"),
    (CSV.replace("0.1,a", "0.01,a"), "request 0 by arrival, last_token: is 10000000 ns, before"),
    (CSV.replace("620", "62"), "request 1 by arrival, first_token: is 62000000 ns, before arrival"),
    (CSV.replace("100,3", "0,3"), "calls.csv:2"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_cell_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "calls.csv").write_text(text)
    with pytest.raises(InputError) as raised:
        find(tmp_path / "calls.csv")
    assert message in str(raised.value)


def test_wrong_metadata_is_named(tmp_path: Path) -> None:
    for changed, message in (
        ({"gpus": "two"}, "metadata gpus: 'two' is no whole number from 1"),
        ({"max_num_seqs": "x"}, "max_num_seqs: 'x' is no whole number from 1"),
    ):
        with pytest.raises(InputError) as raised:
            find(parquet(tmp_path / "r.parquet", **changed))
        assert message in str(raised.value)


THROUGHPUT = """\
model,gpu,gpus,prompt_tokens,output_tokens,output_tokens_per_s
llama-3.1-8b,h100,1,128,128,28312
llama-3.1-70b,h200,2,128,2048,5000.5
"""


def test_a_table_of_throughputs_gives_a_figure_a_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(THROUGHPUT)
    first, second = find(tmp_path / "t.csv").throughputs
    assert (first.name, first.output_tokens_per_s) == ("llama-3.1-8b 1xh100 128+128", 28312)
    assert (second.gpus, second.settings.tensor, second.settings.weights) == (2, 2, "fp8")
    (tmp_path / "t.csv").write_text(THROUGHPUT.replace("28312", "fast").replace(",2,128", ",0,128"))
    with pytest.raises(InputError) as raised:
        find(tmp_path / "t.csv")
    assert [fault.line for fault in raised.value.faults] == [2, 3]


def test_a_folder_is_read_by_what_its_files_hold(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "x.csv").write_text(CSV)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "y.csv").write_text(THROUGHPUT)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "Own-3B.json").write_text("{}")
    parquet(tmp_path / "z.parquet")
    found = find(tmp_path)
    assert [run.name for run in found.runs] == ["x", "z"]
    assert len(found.throughputs) == 2
    reasons = {Path(path).name: reason for path, reason in found.others}
    assert set(reasons) == {"other.csv", "noise.bin", "Own-3B.json"}
    assert "no measured run: a, b" in reasons["other.csv"]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no measured run"):
        find(tmp_path)
    with pytest.raises(InputError, match=r"nothing: cannot be read: No such file"):
        find(tmp_path / "nothing")
    (tmp_path / "t.csv").write_text(THROUGHPUT)
    with pytest.raises(InputError, match="is no measured run of requests"):
        read_measured(str(tmp_path / "t.csv"))


def test_all_files_of_a_folder_that_are_wrong_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(CSV.replace("40", "fast"))
    with pytest.raises(InputError) as raised:
        find(tmp_path)
    assert len(raised.value.faults) == 2
    assert np.all([Path(fault.file).name in ("a.csv", "b.csv") for fault in raised.value.faults])
