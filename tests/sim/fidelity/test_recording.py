"""Recordings become values as they are, and what is wrong in one is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.sim.fidelity.tiny import METADATA, MS, ROWS, row, write_recording

from vsim.sim.fidelity.recording import read_recording
from vsim.traces.faults import InputError


def test_a_recording_says_what_was_sent_measured_and_set(tmp_path: Path) -> None:
    run = read_recording(write_recording(tmp_path / "tiny.arrow"), "recorded")
    assert (run.name, run.engine, run.version) == ("tiny", "vLLM", "0.25.1")
    assert (run.gpu, run.gpus, run.model) == ("NVIDIA H100", 1, "llama-3.1-8b")
    assert run.model_shape is None
    assert (run.settings.token_budget, run.settings.max_requests) == (4096, 64)
    assert (run.settings.block_tokens, run.settings.num_gpu_blocks) == (16, 3000)
    assert run.settings.resolved == METADATA["settings"]
    (repeat,) = run.repeats
    assert repeat.requests.arrival_ns.tolist() == [0, 50 * MS, 100 * MS]
    assert repeat.requests.prefix_ids.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert repeat.first_token_ns.tolist() == [40 * MS, 100 * MS, 160 * MS]
    assert repeat.gpu_hit_tokens.tolist() == [0, 16, 32]
    assert repeat.gaps_ms == {"mean": 10.0, "p50": 9.0, "p90": 12.0}
    assert repeat.steps == 12


def test_what_arrives_at_once_stands_in_the_engine_s_order_with_its_own_times(
    tmp_path: Path,
) -> None:
    rows = [
        row(repeat=0, id=i, arrival_ns=0, queued_ns=10 - i, scheduled_ns=20, prompt_tokens=8,
            first_token_ns=100 + i, last_token_ns=200 + i, output_tokens=2)
        for i in range(3)
    ]  # fmt: skip
    run = read_recording(write_recording(tmp_path / "r.arrow", rows), "recorded")
    assert run.repeats[0].requests.id.tolist() == [2, 1, 0]
    assert run.repeats[0].first_token_ns.tolist() == [102, 101, 100]


def test_a_request_arrives_when_it_is_sent_and_not_when_it_is_due(tmp_path: Path) -> None:
    sent = [7 * MS, 2 * MS, -MS, None]  # one was sent before the start, of one it is not known
    rows = [
        row(repeat=0, id=i, arrival_ns=MS, sent_ns=at, queued_ns=9 * MS, first_token_ns=20 * MS,
            last_token_ns=30 * MS, prompt_tokens=8, output_tokens=2)
        for i, at in enumerate(sent)
    ]  # fmt: skip
    run = read_recording(write_recording(tmp_path / "r.arrow", rows), "recorded")
    assert run.repeats[0].requests.id.tolist() == [2, 3, 1, 0]
    assert run.repeats[0].requests.arrival_ns.tolist() == [0, MS, 2 * MS, 7 * MS]


def test_each_repeat_has_its_own_arrivals(tmp_path: Path) -> None:
    later = [{**each, "repeat": 1, "arrival_ns": each["arrival_ns"] - 5} for each in ROWS[1:]]
    run = read_recording(write_recording(tmp_path / "r.arrow", [*ROWS, *later]), "recorded")
    first, second = (repeat.requests.arrival_ns.tolist() for repeat in run.repeats)
    assert first == [0, 50 * MS, 100 * MS]
    assert second == [50 * MS - 5, 100 * MS - 5]
    assert [repeat.steps for repeat in run.repeats] == [12, 14]


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    rows = [
        row(repeat=0, id=0, arrival_ns=0, first_token_ns=1, last_token_ns=2, prompt_tokens=8,
            output_tokens=2)
    ]  # fmt: skip
    run = read_recording(
        write_recording(tmp_path / "r.arrow", rows, itl=None, statistics=None), "public"
    )
    (repeat,) = run.repeats
    assert repeat.scheduled_ns.tolist() == [-1]
    assert repeat.preemptions.tolist() == [-1]
    assert (repeat.gaps_ms, repeat.steps) == ({}, None)


def test_a_recording_may_hold_counters_alone(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.arrow", [], counters={"preemptions": 3.0})
    run = read_recording(path, "public")
    assert (run.repeats, run.counters) == ((), {"preemptions": 3.0})
    with pytest.raises(InputError, match="is empty; write at least one row of server_runs"):
        read_recording(write_recording(tmp_path / "e.arrow", []), "public")


WRONG_ROWS = [
    ({"id": 0}, "row 1, column id: is 0, as in a row of the same repeat; write unique ids"),
    ({"first_token_ns": 5}, "row 1, column first_token_ns: is 5, before scheduled_ns"),
    ({"last_token_ns": 5}, "row 1, column last_token_ns: is 5, before first_token_ns"),
    ({"scheduled_ns": 5}, "row 1, column scheduled_ns: is 5, before arrival_ns"),
    ({"scheduled_ns": None, "first_token_ns": 5}, "column first_token_ns: is 5, before scheduled"),
    ({"prompt_tokens": 0}, "row 1, column prompt_tokens: is 0; write 1 or more"),
    ({"preemptions": -2}, "row 1, column preemptions: is -2; write 0 or more"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_ROWS)
def test_a_wrong_row_is_named(tmp_path: Path, values: dict[str, object], message: str) -> None:
    rows = [{**each, **(values if at == 1 else {})} for at, each in enumerate(ROWS)]
    path = write_recording(tmp_path / "r.arrow", rows)
    with pytest.raises(InputError) as raised:
        read_recording(path, "recorded")
    assert message in str(raised.value)


WRONG_METADATA = [
    ({"run": None}, "vsim.run: is missing; record the run again"),
    ({"settings": "{"}, "vsim.settings: is no JSON; record the run again"),
    ({"settings": {"scheduler": {"max_num_seqs": "many"}}}, "max_num_seqs: 'many' is no whole"),
    ({"settings": {"parallel": {"tensor_parallel_size": 0}}}, "tensor_parallel_size: 0 is no"),
    ({"settings": {"cache": {"enable_prefix_caching": 3}}}, "enable_prefix_caching: 3 is not"),
    ({"settings": {"cache": {"kv_offloading_size": "x"}}}, "kv_offloading_size: 'x' is no"),
    ({"hardware": {"gpu": "H100", "gpus": "two"}}, "vsim.hardware: gpus is 'two'; write a whole"),
    ({"block_tokens": "many"}, "vsim.block_tokens: is 'many'; write 1 to"),
]


@pytest.mark.parametrize(("values", "message"), WRONG_METADATA)
def test_wrong_metadata_is_named(tmp_path: Path, values: dict[str, object], message: str) -> None:
    path = write_recording(tmp_path / "r.arrow", **values)
    with pytest.raises(InputError) as raised:
        read_recording(path, "recorded")
    assert message in str(raised.value)
    assert all(str(fault).startswith(f"{path}: ") for fault in raised.value.faults)


ODD: tuple[object, ...] = (
    [], 3, "x", {"a": []}, [{"quantiles_us": 3}], [[]], [{"steps": "x"}], [{"mean_us": "x"}], None,
)  # fmt: skip
READ_LENIENTLY = ("versions", "statistics", "itl", "model_shape", "counters")


@pytest.mark.parametrize("name", READ_LENIENTLY)
@pytest.mark.parametrize("value", ODD)
def test_odd_metadata_that_decide_no_prediction_are_as_if_not_there(
    tmp_path: Path, name: str, value: object
) -> None:
    text = None if value is None else json.dumps(value)
    path = write_recording(tmp_path / "r.arrow", **{name: text})
    assert len(read_recording(path, "recorded").repeats[0]) == 3


def test_a_precision_that_is_not_known_is_kept_for_later(tmp_path: Path) -> None:
    settings = {"model": {"quantization": "compressed-tensors"}}
    run = read_recording(write_recording(tmp_path / "r.arrow", settings=settings), "public")
    assert run.settings.unclear == ("quantization 'compressed-tensors' can't be predicted yet",)
    assert np.all(run.repeats[0].requests.prompt_tokens == 64)
